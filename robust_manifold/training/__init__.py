"""Pure train steps: of a classifier, and of a generator against a discriminator."""

from robust_manifold.training.classifier import ClassifierState, ClassifierTraining
from robust_manifold.training.duration import steps_of
from robust_manifold.training.gan import GanState, GanTraining
from robust_manifold.training.optimizers import Optimizer
from robust_manifold.training.optimizers import registry as optimizers

__all__ = [
    "ClassifierState",
    "ClassifierTraining",
    "GanState",
    "GanTraining",
    "Optimizer",
    "optimizers",
    "steps_of",
]
