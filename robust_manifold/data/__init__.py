"""Sources of real images, their splits, and batches of them."""

from robust_manifold.data import road_signs
from robust_manifold.data.attacked import (
    Attacked,
    AttackedImages,
    attacked_registry,
)
from robust_manifold.data.batches import (
    Augment,
    Batch,
    EvaluationBatches,
    TrainingBatches,
    evaluation_batches,
    flip_horizontally,
    training_batches,
)
from robust_manifold.data.crops import CROPS, crop_side
from robust_manifold.data.dataset import Dataset, Split, to_float
from robust_manifold.data.loading import load
from robust_manifold.data.sources import Parts, Source, registry
from robust_manifold.data.targets import NamedArray, Rotation, Targets
from robust_manifold.data.targets import registry as targets

__all__ = [
    "CROPS",
    "Attacked",
    "AttackedImages",
    "Augment",
    "Batch",
    "Dataset",
    "EvaluationBatches",
    "NamedArray",
    "Parts",
    "Rotation",
    "Source",
    "Split",
    "Targets",
    "TrainingBatches",
    "attacked_registry",
    "crop_side",
    "evaluation_batches",
    "flip_horizontally",
    "load",
    "registry",
    "road_signs",
    "targets",
    "to_float",
    "training_batches",
]
