"""A Haiku function, transformed, as a classifier of one image."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from robust_manifold.adapters.classifier import Classifier, checked
from robust_manifold.adapters.inference import (
    check_kind,
    framework,
    inference_arguments,
)
from robust_manifold.attacks.contract import pure, stateful
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params


class _Params(NamedTuple):
    params: Params
    state: Any


def from_haiku(
    transformed: Any,
    params: Any,
    state: Any = None,
    *,
    image_shape: Sequence[int] | None = None,
    **arguments: Any,
) -> Classifier:
    """Returns a Haiku function as a classifier of one image.

    For a network with `data_format="NCHW"` wrap the result in `channels_first`.

    >>> import haiku as hk, jax, jax.numpy as jnp
    >>> @hk.transform_with_state
    ... def network(images, is_training):
    ...     images = hk.BatchNorm(True, True, 0.9)(images, is_training)
    ...     return hk.Linear(10)(hk.Flatten()(images))
    >>> images = jnp.ones((2, 8, 8, 1))
    >>> weights, state = network.init(jax.random.key(0), images, is_training=True)
    >>> apply, params = from_haiku(network, weights, state)
    >>> apply(params, images[0]).shape
    (10,)

    Args:
      transformed: what `hk.transform`, `hk.transform_with_state` or
        `hk.without_apply_rng` returns; called on a batch of images [n, height, width,
        channels], without a random key.
      params: what `transformed.init` or training has made.
      state: of `hk.transform_with_state`.
      image_shape: see `from_linen`.
      **arguments: more for the call; see `from_linen`.

    Raises:
      UsageError: if Haiku is not installed, if nothing is transformed, if dropout or
        batch norm is in training mode, or unless the output is a vector of logits.
    """
    haiku = framework("haiku", "dm-haiku")
    with_state = haiku.TransformedWithState
    kinds = (haiku.Transformed, with_state)
    check_kind("transformed", transformed, kinds, "what hk.transform returns")
    if isinstance(transformed, with_state) != (state is not None):
        raise UsageError(
            f"state is {'None' if state is None else 'given'}; allowed: the state of "
            "hk.transform_with_state, there and only there."
        )
    known = inspect.signature(transformed.apply).parameters
    given = inference_arguments(transformed.apply, arguments)
    network = _Haiku(transformed.apply, state is not None, "rng" in known, given)
    return checked(network, _Params(params, state), image_shape)


@dataclasses.dataclass(frozen=True)
class _Haiku:
    apply: Any
    stateful: bool
    keyed: bool
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, params: _Params, image: Array) -> Array:
        states = (params.state,) if self.stateful else ()
        keys = (None,) if self.keyed else ()
        with pure("apply"):
            result = self.apply(
                params.params, *states, *keys, image[None], **dict(self.arguments)
            )
        if not self.stateful:
            return result[0]
        logits, after = result
        _check_same(params.state, after)
        return logits[0]


def _check_same(before: Any, after: Any) -> None:
    """Raises a `UsageError` if a call has changed the state, as training does."""
    known = {id(leaf) for leaf in jax.tree.leaves(before)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(after):
        if id(leaf) not in known:
            raise stateful("apply", f"state{jax.tree_util.keystr(path)} changes")
