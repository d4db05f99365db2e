"""Outputs of a network for many inputs, without a defence."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float

from robust_manifold import data, evaluation, models
from robust_manifold.core import batching
from robust_manifold.core.types import Params, PRNGKey


@dataclasses.dataclass(frozen=True)
class _ApplyOne:
    apply: Callable[[Params, Array], Array]

    def __call__(
        self, params: Params, key: PRNGKey, example: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        del key
        return self.apply(params, example)


def outputs(
    apply: Callable[[Params, Array], Array],
    params: Params,
    inputs: Float[np.ndarray, "n ..."],
) -> Float[np.ndarray, "n ..."]:
    """Returns `apply(params, input)` of every input, on all devices.

    Args:
      apply: of one example; it must be the same object in every call.
      params: of `apply`.
      inputs: images or latents.
    """
    found = batching.map_examples(
        _ApplyOne(apply), params, inputs, key=jax.random.key(0)
    )
    return np.asarray(found)


def accuracy(model: models.Model, params: Params, split: data.Split) -> float:
    """Returns the share of a split that the classifier gets right."""
    logits = outputs(model.apply, params, data.to_float(split.images))
    return float(np.mean(evaluation.predictions_of(logits) == split.labels))
