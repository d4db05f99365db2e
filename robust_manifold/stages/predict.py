"""How well a classifier does on a split, without a defence."""

import numpy as np

from robust_manifold import data, evaluation, models
from robust_manifold.core import batching
from robust_manifold.core.types import Params


def accuracy(model: models.Model, params: Params, split: data.Split) -> float:
    """Returns the share of a split that the classifier gets right."""
    images = data.to_float(split.images)
    logits = batching.apply_examples(model.apply, params, images)
    return float(np.mean(evaluation.predictions_of(logits) == split.labels))
