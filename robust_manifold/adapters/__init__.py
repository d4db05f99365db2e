"""Adapters: a classifier of any framework as `(apply, params)` of one image.

A framework is imported when a model of it is handed over, never before.
"""

from robust_manifold.adapters.classifier import (
    Classifier,
    batched,
    channels_first,
    normalised,
)
from robust_manifold.adapters.equinox import from_equinox
from robust_manifold.adapters.haiku import from_haiku
from robust_manifold.adapters.linen import from_linen
from robust_manifold.adapters.nnx import from_nnx
from robust_manifold.adapters.published import (
    from_published,
    spanner_from_published,
)
from robust_manifold.adapters.torch import from_torch

__all__ = [
    "Classifier",
    "batched",
    "channels_first",
    "from_equinox",
    "from_haiku",
    "from_linen",
    "from_nnx",
    "from_published",
    "from_torch",
    "normalised",
    "spanner_from_published",
]
