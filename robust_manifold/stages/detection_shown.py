"""What the report shows of rejection by error, from its stored files alone."""

from collections.abc import Iterator

import numpy as np

from robust_manifold import evaluation
from robust_manifold.config import Column
from robust_manifold.reporting import detection_tables, figures, html, labels, tables
from robust_manifold.stages import columns_shown, summaries
from robust_manifold.stages.context import Context
from robust_manifold.stages.rounds import read_rounds
from robust_manifold.stages.rows import (
    Row,
    outcome_folder,
    rows_of,
    validation_folder,
)


def is_measured(context: Context) -> bool:
    """Returns whether the run has rejection by error to show."""
    projects = any(column.projects for column in context.columns)
    return projects and context.folder.holds(summaries.DETECTION)


def shown_tables(context: Context) -> Iterator[tables.Table]:
    """Yields a table for each column that makes projections."""
    lines = evaluation.read_detection(context.folder.read_text(summaries.DETECTION))
    confidence = context.experiment.evaluation.confidence
    yield from detection_tables(lines, confidence=confidence)


def shown_figures(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields the ROC curves of each column that makes projections."""
    for column in context.columns:
        panels = _panels(context, column) if column.projects else {}
        if not panels:
            continue
        yield (
            f"roc-{columns_shown.file_of(column)}",
            html.ReportFigure(
                f"ROC of rejection by error: {columns_shown.title_of(column)}",
                "Shares of the images with an error above each threshold, clean test "
                "images against attacked ones, by adversary; in the legend the area "
                "below the curve. Points: the threshold that clean validation images "
                "gave.",
                figures.to_png(figures.roc_curves(panels)),
            ),
        )


def _panels(context: Context, column: Column) -> dict[str, list[figures.RocCurve]]:
    """Returns the curves of all attacks on a column by the label of their adversary."""
    clean, *attacked = rows_of(column, context.experiment.evaluation)
    threshold = _threshold(context, column)
    before = read_rounds(context, outcome_folder(column, clean))["error"]
    panels: dict[str, list[figures.RocCurve]] = {}
    for row in attacked:
        errors = read_rounds(context, outcome_folder(column, row))["error"]
        found = evaluation.roc(errors, before)
        shares = [
            float(np.mean(evaluation.rejects(e, threshold))) for e in (before, errors)
        ]
        panels.setdefault(labels.adversary_label(row.adversary), []).append(
            figures.RocCurve(
                _label(row),
                found.false_positives,
                found.true_positives,
                evaluation.auc(errors, before),
                (shares[0], shares[1]),
            )
        )
    return panels


def _threshold(context: Context, column: Column) -> float:
    """Returns the threshold that the stored validation errors give."""
    n = context.validated.size
    stored = read_rounds(context, validation_folder(column.defence), n)
    rate = context.experiment.detection.false_positive_rate
    return evaluation.rejection_threshold(stored["error"], rate)


def _label(row: Row) -> str:
    return labels.label_of(row.name, norm=row.attack.norm if row.attack else "")
