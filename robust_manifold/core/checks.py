"""Checks of the arrays a user hands in, made once, before anything is compiled."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner
from robust_manifold.core.prior import Prior
from robust_manifold.core.spec import is_whole, plain


def checked_images(images: Any) -> np.ndarray:
    """Returns a batch of images as JAX would hold them: [n, height, width, channels].

    Raises:
      UsageError: unless they are floats in [0, 1], at least one image, of rank 4.
    """
    images = _array("images", images)
    if images.ndim != 4 or images.size == 0:
        raise UsageError(
            f"images have shape {images.shape}; allowed: [n, height, width, channels] "
            "without an empty axis."
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UsageError(
            f"images have type {images.dtype}; allowed: floats with pixels in [0, 1]."
        )
    # A NaN fails the comparison, so the sentence names it through min and max.
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        raise UsageError(
            f"images have pixels from {low:g} to {high:g}; allowed: [0, 1], no NaN."
        )
    # Sixteen bits are too few for budgets and steps.
    dtype = jnp.promote_types(images.dtype, jnp.float32)
    return images.astype(jax.dtypes.canonicalize_dtype(dtype))


def checked_labels(labels: Any, n: int, classes: int) -> np.ndarray:
    """Returns the labels of `n` images as int32 [n].

    Raises:
      UsageError: unless they are `n` whole numbers from 0 to `classes` - 1.
    """
    labels = _array("labels", labels)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(
            f"labels have shape {labels.shape} and type {labels.dtype}; allowed: {n} "
            "whole numbers, one an image."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise UsageError(
            f"labels lie in [{labels.min()}, {labels.max()}]; allowed: 0 to "
            f"{classes - 1}, since the classifier has {classes} classes."
        )
    return labels.astype(np.int32)


def checked_latents(
    latents: Any, n: int, size: int, dtype: Any, of: str = "one an image"
) -> np.ndarray:
    """Returns the latents as an array [n, size] of a type.

    Raises:
      UsageError: unless they are `n` vectors of `size` finite numbers.
    """
    latents = _array("latents", latents)
    number = jnp.issubdtype(latents.dtype, jnp.floating)
    number |= jnp.issubdtype(latents.dtype, jnp.integer)
    if latents.shape != (n, size) or not number:
        raise UsageError(
            f"latents have shape {latents.shape} and type {latents.dtype}; allowed: "
            f"({n}, {size}), {of}, of floats."
        )
    broken = np.flatnonzero(~np.isfinite(latents).all(axis=1))
    if broken.size:
        raise UsageError(
            f"latents[{broken[0]}] holds a number that is not finite; allowed: finite "
            "numbers."
        )
    return latents.astype(dtype)


def checked_key(key: Any) -> Any:
    """Returns one random key.

    Raises:
      UsageError: for anything else, such as a number or several keys.
    """
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", ())
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    # A key of the old kind is a vector of words; two of them are a matrix.
    if not (shape == () if typed else dtype == jnp.uint32 and len(shape) == 1):
        shown = repr(key) if dtype is None else f"an array {shape} of type {dtype}"
        raise UsageError(
            f"key is {shown}; allowed: a key such as jax.random.key(0), and only one."
        )
    return key


def checked_radius(name: str, radius: Any) -> float:
    """Returns the radius of a ball.

    Raises:
      UsageError: unless it is a finite number, 0 or more.
    """
    radius = plain(radius)
    number = isinstance(radius, int | float) and not isinstance(radius, bool)
    if not (number and 0 <= radius < math.inf):
        raise UsageError(f"{name} is {radius!r}; allowed: a finite number, 0 or more.")
    return float(radius)


def checked_budgets(epsilons: Any) -> list[float]:
    """Returns the budgets of a curve, or of one number.

    Raises:
      UsageError: unless they are finite numbers that rise from 0 or more.
    """
    array = np.atleast_1d(_array("epsilons", epsilons))
    number = array.ndim == 1 and array.dtype.kind in "iuf"
    budgets = array.astype(float).tolist() if number else None
    if (
        not budgets
        or not all(0 <= budget < math.inf for budget in budgets)
        or not all(a < b for a, b in zip(budgets, budgets[1:], strict=False))
    ):
        raise UsageError(
            f"epsilons are {epsilons if budgets is None else budgets!r}; allowed: one "
            "or more, rising, finite, from 0."
        )
    return budgets


def checked_latent_shape(latent_shape: Any) -> tuple[int, ...]:
    """Returns the shape of one latent, of one axis.

    Raises:
      UsageError: unless it is a sequence of one positive whole number.
    """
    try:
        shape = tuple(latent_shape)
    except TypeError:
        shape = ()
    if len(shape) != 1 or not is_whole(shape[0], 1):
        raise UsageError(
            f"latent_shape is {latent_shape!r}; allowed: one positive size, as in "
            "(64,)."
        )
    return (int(shape[0]),)


def checked_spanner(
    spanner: Any, params: Any, dtype: Any = jnp.float32
) -> jax.ShapeDtypeStruct:
    """Returns shape and type of one image of a generator, which is not computed.

    Args:
      spanner: the generator, and its encoder if there is one.
      params: of both.
      dtype: of a latent.

    Raises:
      UsageError: unless `generate(params, latent)` gives an image [height, width,
        channels] of floats for one latent, and `encode` mean and log variance.
    """
    if not isinstance(spanner, Spanner):
        raise UsageError(
            f"spanner is {spanner!r}; allowed: a Spanner(generate, latent_shape)."
        )
    if not (hasattr(params, "generator") and hasattr(params, "encoder")):
        raise UsageError(
            f"the spanner's parameters are of type {type(params).__name__}; allowed: "
            "SpannerParams(generator, encoder)."
        )
    shape = checked_latent_shape(spanner.latent_shape)
    if not isinstance(spanner.prior, Prior):
        raise UsageError(
            f"prior is {spanner.prior!r}; allowed: a prior, such as Normal()."
        )
    latent = jax.ShapeDtypeStruct(shape, dtype)
    image = _traced("generate", spanner.generate, params.generator, latent)
    found = getattr(image, "shape", None)
    if found is None or len(found) != 3:
        raise UsageError(
            f"generate gives {_shown(image)} for one latent; allowed: one image "
            "[height, width, channels]."
        )
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise UsageError(
            f"generate gives images of type {image.dtype}; allowed: floats."
        )
    if spanner.encode is not None:
        guess = _traced("encode", spanner.encode, params.encoder, image)
        size = 2 * spanner.prior.free_size(shape[0])
        if getattr(guess, "shape", None) != (size,):
            raise UsageError(
                f"encode gives {_shown(guess)}; allowed: ({size},), mean and log "
                "variance of a latent."
            )
    return image


def _traced(name: str, function: Any, params: Any, argument: Any) -> Any:
    """Returns the shapes of what a user's function gives."""
    if not callable(function):
        raise UsageError(
            f"{name} is {function!r}; allowed: a function of parameters and one "
            f"{'latent' if name == 'generate' else 'image'}."
        )
    try:
        hash(function)
    except TypeError as error:
        raise UsageError(
            f"{name} cannot be hashed; allowed: a function, or a callable whose "
            "__hash__ goes with its __eq__."
        ) from error
    try:
        return jax.eval_shape(function, params, argument)
    except UsageError:
        raise
    # Whatever a user's function raises: it stays as the cause.
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        what = "one latent" if name == "generate" else "one image"
        raise UsageError(
            f"{name} fails on {what} of shape {argument.shape} "
            f"({type(error).__name__}: {line[:200]}); allowed: {name}(params, "
            f"{what.split()[1]}), without a batch axis."
        ) from error


def _shown(made: Any) -> str:
    return str(getattr(made, "shape", type(made).__name__))


def _array(name: str, values: Any) -> np.ndarray:
    """Returns values as a NumPy array."""
    try:
        return np.asarray(values)
    except jax.errors.TracerArrayConversionError as error:
        raise UsageError(
            f"{name} are traced, as inside jax.jit, grad or vmap; allowed: arrays, "
            "outside of these transformations: the function compiles by itself."
        ) from error
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{name} are of type {type(values).__name__}, and no array; allowed: an "
            "array of numbers, with rows of one length."
        ) from error
