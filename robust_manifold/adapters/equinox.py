"""An Equinox module as a classifier of one image."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from robust_manifold.adapters.classifier import Classifier, checked
from robust_manifold.adapters.inference import (
    check_kind,
    framework,
    inference_arguments,
)
from robust_manifold.attacks.contract import stateful
from robust_manifold.core.errors import UsageError


class _Params(NamedTuple):
    model: Any
    state: Any


def from_equinox(
    model: Any,
    state: Any = None,
    *,
    image_shape: Sequence[int] | None = None,
    **arguments: Any,
) -> Classifier:
    """Returns an Equinox module as a classifier of one image.

    It is handed its image as Equinox's layers take it: channels first, without a batch
    axis.  To one that wants channels last, put
    `eqx.nn.Lambda(lambda image: image.transpose(1, 2, 0))` in front, by
    `eqx.nn.Sequential`.

    >>> import equinox as eqx, jax, jax.numpy as jnp
    >>> model = eqx.nn.Sequential([
    ...     eqx.nn.Conv2d(1, 2, 3, key=jax.random.key(0)),
    ...     eqx.nn.Lambda(jnp.ravel),
    ...     eqx.nn.Dropout(0.5),
    ...     eqx.nn.Linear(72, 10, key=jax.random.key(1)),
    ... ])
    >>> apply, params = from_equinox(eqx.nn.inference_mode(model))
    >>> apply(params, jnp.ones((8, 8, 1))).shape
    (10,)

    Args:
      model: after `eqx.nn.inference_mode(model)`; called as `model(image)`, or
        `model(image, state)`.
      state: of a model with batch norm, from `eqx.nn.make_with_state` or training.
      image_shape: (height, width, channels); see `from_linen`.
      **arguments: more for the call.  An argument `key` is None, unless it is given.

    Raises:
      UsageError: if Equinox is not installed, if it is no Equinox module or has
        dropout or batch norm in training mode, or unless the output is a vector of
        logits.
    """
    equinox = framework("equinox", "equinox")
    check_kind("model", model, equinox.Module, "an Equinox module")
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        if getattr(path[-1], "name", "") == "inference" and leaf is False:
            where = jax.tree_util.keystr(path)
            raise stateful("apply", f"model{where} is False")
    arrays, rest = equinox.partition(_Params(model, state), _is_array)
    leaves, tree = jax.tree.flatten(rest)
    given = inference_arguments(model, arguments, key=None)
    return checked(_Equinox(tree, tuple(leaves), given), arrays, image_shape)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


@dataclasses.dataclass(frozen=True)
class _Equinox:
    """What of a module is no array, in a form that hashes."""

    tree: Any
    leaves: tuple[Any, ...]
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, params: _Params, image: Array) -> Array:
        combine = framework("equinox", "equinox").combine
        model, state = combine(params, jax.tree.unflatten(self.tree, self.leaves))
        first = image.transpose(2, 0, 1)
        if state is None:
            return model(first, **dict(self.arguments))
        result = model(first, state, **dict(self.arguments))
        if not isinstance(result, tuple) or len(result) != 2:
            raise UsageError(
                f"model gives a {type(result).__name__}; allowed: (logits, state), "
                "since a state was given."
            )
        return result[0]
