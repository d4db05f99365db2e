"""Tables, figures and the HTML page of a report, from stored results."""

from robust_manifold.reporting.figures import (
    ConvergenceFrame,
    SheetGroup,
    SheetRow,
    accuracy_curves,
    convergence_animation,
    convergence_figure,
    error_histogram,
    interpolation_grid,
    neighbour_grid,
    projection_sheet,
    sample_grid,
    to_png,
    training_curves,
)
from robust_manifold.reporting.html import (
    Report,
    ReportFigure,
    render_html,
)
from robust_manifold.reporting.labels import label_of
from robust_manifold.reporting.measures import measures_table
from robust_manifold.reporting.tables import (
    WRITERS,
    Table,
    cost_table,
    paper_table,
    paper_tables,
    to_console,
    to_csv,
    to_latex,
    to_markdown,
    values_table,
)

__all__ = [
    "WRITERS",
    "ConvergenceFrame",
    "Report",
    "ReportFigure",
    "SheetGroup",
    "SheetRow",
    "Table",
    "accuracy_curves",
    "convergence_animation",
    "convergence_figure",
    "cost_table",
    "error_histogram",
    "interpolation_grid",
    "label_of",
    "measures_table",
    "neighbour_grid",
    "paper_table",
    "paper_tables",
    "projection_sheet",
    "render_html",
    "sample_grid",
    "to_console",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_png",
    "training_curves",
    "values_table",
]
