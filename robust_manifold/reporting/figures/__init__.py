"""Figures of a report: pure functions of arrays and stored results."""

from robust_manifold.reporting.figures.bars import yield_bars
from robust_manifold.reporting.figures.canvas import to_png
from robust_manifold.reporting.figures.certified import (
    CertifiedCurve,
    certified_curves,
)
from robust_manifold.reporting.figures.claims import Claim, claims_and_worst_cases
from robust_manifold.reporting.figures.curves import (
    accuracy_curves,
    error_histogram,
    training_curves,
    worst_case_curves,
)
from robust_manifold.reporting.figures.grids import (
    interpolation_grid,
    neighbour_grid,
    sample_grid,
)
from robust_manifold.reporting.figures.inversion import (
    SolverCurve,
    error_decades,
    solver_curves,
)
from robust_manifold.reporting.figures.pictures import (
    SheetGroup,
    SheetRow,
    projection_sheet,
)
from robust_manifold.reporting.figures.regressions import (
    TellingRow,
    error_shares,
    telling_sheet,
)
from robust_manifold.reporting.figures.roc import RocCurve, roc_curves
from robust_manifold.reporting.figures.side_by_side import (
    ProjectedImage,
    side_by_side,
)
from robust_manifold.reporting.figures.unions import union_bars

__all__ = [
    "CertifiedCurve",
    "Claim",
    "ProjectedImage",
    "RocCurve",
    "SheetGroup",
    "SheetRow",
    "SolverCurve",
    "TellingRow",
    "accuracy_curves",
    "certified_curves",
    "claims_and_worst_cases",
    "error_decades",
    "error_histogram",
    "error_shares",
    "interpolation_grid",
    "neighbour_grid",
    "projection_sheet",
    "roc_curves",
    "sample_grid",
    "side_by_side",
    "solver_curves",
    "telling_sheet",
    "to_png",
    "training_curves",
    "union_bars",
    "worst_case_curves",
    "yield_bars",
]
