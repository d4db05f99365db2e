"""Figures of a report: pure functions of arrays and stored results."""

from robust_manifold.reporting.figures.canvas import to_png
from robust_manifold.reporting.figures.curves import (
    accuracy_curves,
    error_histogram,
    training_curves,
)
from robust_manifold.reporting.figures.pictures import (
    SheetGroup,
    SheetRow,
    projection_sheet,
    sample_grid,
)

__all__ = [
    "SheetGroup",
    "SheetRow",
    "accuracy_curves",
    "error_histogram",
    "projection_sheet",
    "sample_grid",
    "to_png",
    "training_curves",
]
