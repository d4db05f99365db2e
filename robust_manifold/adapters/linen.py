"""A Flax Linen module as a classifier of one image."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Array

from robust_manifold.adapters.classifier import Classifier, checked
from robust_manifold.adapters.inference import (
    check_kind,
    framework,
    inference_arguments,
)
from robust_manifold.attacks.contract import pure
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params


def from_linen(
    module: Any,
    variables: Mapping[str, Any],
    *,
    image_shape: Sequence[int] | None = None,
    **arguments: Any,
) -> Classifier:
    """Returns a Flax Linen module as a classifier of one image.

    >>> import jax, jax.numpy as jnp
    >>> from flax import linen
    >>> class Network(linen.Module):
    ...     @linen.compact
    ...     def __call__(self, images, train=True):
    ...         images = linen.Dropout(0.5, deterministic=not train)(images)
    ...         return linen.Dense(10)(images.reshape(len(images), -1))
    >>> variables = Network().init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), False)
    >>> apply, params = from_linen(Network(), variables)
    >>> apply(params, jnp.ones((8, 8, 1))).shape
    (10,)

    Args:
      module: called on a batch of images [n, height, width, channels].
      variables: what `module.init` or training has made: {"params": ..., and
        "batch_stats" where there is batch norm}.
      image_shape: (height, width, channels); if given, the module is looked at now
        rather than when it is first used.
      **arguments: more for `module.apply`.  An argument of the module that is called
        train, training, is_training, deterministic or use_running_average is set for
        inference, unless it is given.

    Raises:
      UsageError: if it is no Linen module, if dropout or batch norm is in training
        mode, or unless the output is a vector of logits.
    """
    kind = framework("flax.linen", "flax").Module
    check_kind("module", module, kind, "a Flax Linen module")
    if not isinstance(variables, Mapping) or (variables and "params" not in variables):
        shown = sorted(variables) if isinstance(variables, Mapping) else type(variables)
        raise UsageError(
            f"variables hold {shown}; allowed: what module.init returns, with 'params'."
        )
    given = inference_arguments(module.__call__, arguments)
    return checked(_Linen(module, given), dict(variables), image_shape)


@dataclasses.dataclass(frozen=True)
class _Linen:
    module: Any
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, params: Params, image: Array) -> Array:
        with pure("apply"):
            return self.module.apply(params, image[None], **dict(self.arguments))[0]
