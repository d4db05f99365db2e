"""Inversion: the latent whose image is nearest to a given one."""

from robust_manifold.inversion.constraints import Box, Constraint, Shell
from robust_manifold.inversion.constraints import registry as constraints_registry
from robust_manifold.inversion.first_order import Adam, GradientDescent
from robust_manifold.inversion.implicit import (
    ImplicitDerivative,
    ImplicitFindings,
    ImplicitOutcome,
)
from robust_manifold.inversion.invert import (
    DEFAULT_RESTARTS,
    DEFAULT_SOLVER,
    error_curves,
    images_at_once,
    invert,
    invert_one,
)
from robust_manifold.inversion.lbfgs import LBFGS
from robust_manifold.inversion.levenberg_marquardt import LevenbergMarquardt
from robust_manifold.inversion.problem import InversionProblem, Measured
from robust_manifold.inversion.restarts import Restarts, as_restarts
from robust_manifold.inversion.restarts import registry as restarts_registry
from robust_manifold.inversion.search import Inversion, Search
from robust_manifold.inversion.solver import (
    Solution,
    Solver,
    Status,
    Step,
    as_solver,
    registry,
)
from robust_manifold.inversion.unrolled import repeated, unrolled

__all__ = [
    "Adam",
    "Box",
    "Constraint",
    "DEFAULT_RESTARTS",
    "DEFAULT_SOLVER",
    "GradientDescent",
    "ImplicitDerivative",
    "Inversion",
    "LBFGS",
    "LevenbergMarquardt",
    "Measured",
    "ImplicitOutcome",
    "InversionProblem",
    "ImplicitFindings",
    "Restarts",
    "Search",
    "Shell",
    "Solution",
    "Solver",
    "Status",
    "Step",
    "as_restarts",
    "as_solver",
    "constraints_registry",
    "error_curves",
    "images_at_once",
    "invert",
    "invert_one",
    "registry",
    "repeated",
    "restarts_registry",
    "unrolled",
]
