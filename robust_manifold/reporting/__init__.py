"""Tables, figures and the HTML page of a report, from stored results."""

from robust_manifold.reporting.audit import audit_summary, audit_table
from robust_manifold.reporting.columns import target_label
from robust_manifold.reporting.detection import detection_tables
from robust_manifold.reporting.figures import (
    ProjectedImage,
    RocCurve,
    SheetGroup,
    SheetRow,
    SolverCurve,
    accuracy_curves,
    error_decades,
    error_histogram,
    interpolation_grid,
    neighbour_grid,
    projection_sheet,
    roc_curves,
    sample_grid,
    side_by_side,
    solver_curves,
    to_png,
    training_curves,
    worst_case_curves,
)
from robust_manifold.reporting.given_table import given_table
from robust_manifold.reporting.html import (
    Notice,
    Report,
    ReportFigure,
    Section,
    render_html,
)
from robust_manifold.reporting.inference_cost import InferenceLine, inference_table
from robust_manifold.reporting.inversion import (
    checks_table,
    separation_table,
    solvers_table,
)
from robust_manifold.reporting.labels import label_of
from robust_manifold.reporting.measures import measures_table
from robust_manifold.reporting.on_manifold import on_manifold_table
from robust_manifold.reporting.pairs import ShownPair, pair_sheet
from robust_manifold.reporting.pairs_table import pairs_table
from robust_manifold.reporting.substitutes import substitutes_table
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
from robust_manifold.reporting.views import ViewsLine, views_table
from robust_manifold.reporting.worst_cases import (
    adversaries_table,
    alone_table,
    every_table,
    headline_table,
)

__all__ = [
    "WRITERS",
    "InferenceLine",
    "Notice",
    "ProjectedImage",
    "Report",
    "ReportFigure",
    "RocCurve",
    "Section",
    "SheetGroup",
    "SheetRow",
    "ShownPair",
    "SolverCurve",
    "Table",
    "ViewsLine",
    "accuracy_curves",
    "adversaries_table",
    "alone_table",
    "audit_summary",
    "audit_table",
    "checks_table",
    "cost_table",
    "detection_tables",
    "error_decades",
    "error_histogram",
    "every_table",
    "given_table",
    "headline_table",
    "inference_table",
    "interpolation_grid",
    "label_of",
    "measures_table",
    "neighbour_grid",
    "pair_sheet",
    "pairs_table",
    "paper_table",
    "paper_tables",
    "projection_sheet",
    "render_html",
    "roc_curves",
    "sample_grid",
    "separation_table",
    "side_by_side",
    "solver_curves",
    "solvers_table",
    "substitutes_table",
    "target_label",
    "to_console",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_png",
    "training_curves",
    "values_table",
    "views_table",
    "worst_case_curves",
]
