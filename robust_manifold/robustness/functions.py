"""Defences that are functions of the user's: of an image, or of a key and an image."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.attacks.contract import first_line
from robust_manifold.core.callbacks import called
from robust_manifold.core.errors import UsageError
from robust_manifold.defenses import Purified, Purifier


@dataclasses.dataclass(frozen=True)
class FunctionDefence(Purifier):
    """Purifies by a function that JAX can trace.

    Attributes:
      function: `image -> image`, or `(key, image) -> image`.
      keyed: whether it takes a key.
    """

    function: Callable[..., Any]
    keyed: bool = False

    def purify(self, key, networks, image) -> Purified:
        """Returns what the function makes of the image."""
        del networks
        made = self.function(key, image) if self.keyed else self.function(image)
        return Purified(jnp.asarray(made, image.dtype))

    def __str__(self) -> str:
        return name_of(self.function)


@dataclasses.dataclass(frozen=True)
class OpaqueDefence(Purifier):
    """Purifies by a function of NumPy arrays that JAX cannot trace.

    Its derivative is taken for zero: nothing is known of it.

    Attributes:
      function: `image -> image`, or `(words, image) -> image`, where the words of a
        key, uint32, are what `np.random.default_rng` takes as a seed.
      keyed: whether it takes a key.
    """

    traceable: ClassVar[bool] = False

    function: Callable[..., Any]
    keyed: bool = False

    def purify(self, key, networks, image) -> Purified:
        """Returns what the function makes of the image."""
        del networks
        words = (jax.random.key_data(key),) if self.keyed else ()
        return Purified(_purified(self.function, image, *words))

    def __str__(self) -> str:
        return name_of(self.function)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _purified(function: Callable[..., Any], image: jax.Array, *words: jax.Array):
    shape = jax.ShapeDtypeStruct(image.shape, image.dtype)
    return called(functools.partial(_each, function), shape, image, *words)


@_purified.defjvp
def _purified_jvp(function, primals, tangents):
    return _purified(function, *primals), jnp.zeros_like(tangents[0])


def _each(function: Callable[..., Any], images: Any, *words: Any) -> np.ndarray:
    """Returns what the function makes of each image, in NumPy alone."""
    # A copy: a function may write into its argument, and ours is read-only.
    images = np.array(images)
    made = np.empty_like(images)
    for place in np.ndindex(images.shape[:-3]):
        made[place] = function(*(each[place] for each in words), images[place])
    return made


def defence_of(function: Callable[..., Any], image: np.ndarray, key: Any) -> Purifier:
    """Returns a function as a defence.

    Args:
      function: `image -> image`, or `(key, image) -> image`.
      image: one to try it on.
      key: to try it with.

    Raises:
      UsageError: if it takes other arguments, fails, gives another shape or other
        images when it is called again.
    """
    keyed = _takes_key(function)
    traced: Purifier = FunctionDefence(function, keyed)
    try:
        shape = jax.ShapeDtypeStruct(image.shape, image.dtype)
        found = jax.eval_shape(lambda k, x: traced.purify(k, {}, x).image, key, shape)
    # Whatever a function raises that makes NumPy arrays or decides by values.
    except Exception:
        traced = OpaqueDefence(function, keyed)
        found = _tried(traced, image, key)
    if found.shape != image.shape:
        raise UsageError(
            f"defence {traced} gives {found.shape} for an image of shape "
            f"{image.shape}; allowed: an image of the same shape, for ONE image."
        )
    once, again = (_tried(traced, image, key) for _ in range(2))
    if not np.array_equal(once, again, equal_nan=True):
        raise UsageError(
            f"defence {traced} gives another image when it is called again; allowed: "
            "one that draws from a key it is handed, (key, image) -> image."
        )
    return traced


def _tried(defence: Any, image: np.ndarray, key: Any) -> np.ndarray:
    """Returns what the function makes of one image, outside of any program."""
    try:
        if isinstance(defence, OpaqueDefence):
            words = (np.asarray(jax.random.key_data(key)),) if defence.keyed else ()
            return np.asarray(defence.function(*words, image.copy()), image.dtype)
        return np.asarray(defence.purify(key, {}, jnp.asarray(image)).image)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"defence {defence} fails on one image of shape {image.shape} "
            f"({first_line(error)}); allowed: image -> image, or (key, image) -> "
            "image, for ONE image [height, width, channels]."
        ) from error


def _takes_key(function: Callable[..., Any]) -> bool:
    """Returns whether a function takes a key before the image.

    Raises:
      UsageError: if it takes neither one argument nor two.
    """
    try:
        signature = inspect.signature(function)
    # Some callables have none.
    except (TypeError, ValueError):
        return False
    names = list(signature.parameters)
    for count, known in ((1, False), (2, True)):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        if known and names[1:2] in (["key"], ["rng"], ["seed"]):
            break
        return known
    raise UsageError(
        f"defence {name_of(function)} takes ({', '.join(names)}); allowed: image -> "
        "image, or (key, image) -> image, the key first."
    )


def name_of(function: Callable[..., Any]) -> str:
    """Returns what a function is called."""
    return getattr(function, "__name__", None) or type(function).__name__
