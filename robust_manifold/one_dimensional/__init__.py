"""Adversarial training in one dimension: its data, its measures and its picture."""

from robust_manifold.one_dimensional import densities, pushforward
from robust_manifold.one_dimensional.densities import Density
from robust_manifold.one_dimensional.figure import (
    ConvergenceFrame,
    convergence_animation,
    convergence_figure,
)

__all__ = [
    "ConvergenceFrame",
    "Density",
    "convergence_animation",
    "convergence_figure",
    "densities",
    "pushforward",
]
