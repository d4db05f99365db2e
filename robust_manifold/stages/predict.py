"""Logits of many images by a classifier without a defence."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float

from robust_manifold import data, evaluation, models
from robust_manifold.core import batching
from robust_manifold.core.types import Image, Logits, Params, PRNGKey


@dataclasses.dataclass(frozen=True)
class _ClassifyOne:
    apply: Callable[[Params, Array], Array]

    def __call__(self, params: Params, key: PRNGKey, image: Image) -> Logits:
        del key
        return self.apply(params, image)


def accuracy(model: models.Model, params: Params, split: data.Split) -> float:
    """Returns the share of a split that the classifier gets right."""
    found: Float[Array, "n classes"] = batching.map_examples(
        _ClassifyOne(model.apply),
        params,
        data.to_float(split.images),
        key=jax.random.key(0),
    )
    return float(np.mean(evaluation.predictions_of(np.asarray(found)) == split.labels))
