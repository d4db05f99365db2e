"""Inversion: the latent whose image is nearest to a given one."""

from robust_manifold.inversion.first_order import Adam, GradientDescent
from robust_manifold.inversion.restarts import Inversion, invert, invert_one
from robust_manifold.inversion.solver import (
    Problem,
    Solution,
    Solver,
    Status,
    Step,
    as_solver,
    registry,
)

__all__ = [
    "Adam",
    "GradientDescent",
    "Inversion",
    "Problem",
    "Solution",
    "Solver",
    "Status",
    "Step",
    "as_solver",
    "invert",
    "invert_one",
    "registry",
]
