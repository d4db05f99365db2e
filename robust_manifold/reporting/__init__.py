"""Tables, figures and the HTML page of a report, from stored results."""

from robust_manifold.reporting.figures import (
    SheetGroup,
    SheetRow,
    accuracy_curves,
    error_histogram,
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
)

__all__ = [
    "WRITERS",
    "Report",
    "ReportFigure",
    "SheetGroup",
    "SheetRow",
    "Table",
    "accuracy_curves",
    "cost_table",
    "error_histogram",
    "label_of",
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
]
