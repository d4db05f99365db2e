"""Rejection by reconstruction error: what it catches, and what it costs."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from robust_manifold import defenses, evaluation
from robust_manifold.config import Column, Experiment
from robust_manifold.findings import accuracy, columns
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import figures, html, labels
from robust_manifold.reporting.columns import column_heads, column_of
from robust_manifold.reporting.labels import (
    CLEAN,
    NO_DEFENCE,
    adversary_label,
    label_of,
)
from robust_manifold.reporting.tables import (
    MISSING,
    Table,
    accuracy_text,
    images_text,
    lines_of,
    lines_where,
    rejects,
    with_threat,
)
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table import thresholds
from robust_manifold.stages.table.defended import predictions_of
from robust_manifold.stages.table.rounds import (
    read_rounds,
    round_paths,
)
from robust_manifold.stages.table.rows import (
    Row,
    outcome_folder,
    rows_of,
    validation_folder,
)

SUMMARY = "detection.csv"


def _wanted(experiment: Experiment) -> bool:
    block = experiment.evaluation
    return bool(block.validation_examples) and any(c.projects for c in block.columns)


def find(context: Context) -> list[str]:
    """Writes `detection.csv`, and `validation/...` which its thresholds come from.

    Returns:
      The files; none where the data have no validation images.
    """
    projecting = _projecting(context)
    if not (n := context.data.validated.size):
        return []
    thresholds.validate(context, "detection", projecting.values())
    lines = [*_lines(context)]
    context.folder.write_text(SUMMARY, evaluation.detection_to_csv(lines))
    return [SUMMARY, *round_paths(context, map(validation_folder, projecting), n)]


def _projecting(context: Context) -> dict[defenses.Defense, Column]:
    """Returns the first column of each defence that projects."""
    found: dict[defenses.Defense, Column] = {}
    for column in context.columns:
        if column.projects:
            found.setdefault(column.defence.inner, column)
    return found


def _lines(context: Context) -> Iterator[evaluation.DetectionLine]:
    """Yields what rejection by error does, by column and row."""
    block, n = context.experiment.evaluation, context.data.validated.size
    for column in context.columns:
        if not column.projects:
            continue
        validation = read_rounds(context, validation_folder(column.defence), n)
        clean = None
        for row in rows_of(column, block):
            outcomes = read_rounds(context, outcome_folder(column, row))
            attacked = row.attack is not None
            predictions = predictions_of(column, outcomes, attacked=attacked)
            yield evaluation.summarise_detection(
                classifier=trained.column_classifier(context, column),
                defence=defenses.registry.to_string(column.defence),
                adversary=row.adversary,
                attack=row.name,
                right=predictions == outcomes["labels"],
                errors=outcomes["error"],
                validation=validation["error"],
                false_positive_rate=thresholds.rate_of(context, column),
                clean=clean,
                norm=row.attack.norm if row.attack else "",
                epsilon=row.budget,
                confidence=block.confidence,
            )
            # The clean row is a column's first.
            clean = outcomes["error"] if clean is None else clean


def _show(context: Context) -> Shown:
    if not context.data.validated.size:
        return Shown()
    lines = evaluation.read_detection(context.folder.read_text(SUMMARY))
    confidence = context.experiment.evaluation.confidence
    tables = [*detection_tables(lines, confidence=confidence)]
    if accuracy.is_large(context):
        return Shown(folded=tables, figures=[*_figures(context)])
    return Shown(tables, figures=[*_figures(context)])


def _results(group: Group) -> Iterator[Passage]:
    folded = {}
    for run in group.with_file(SUMMARY):
        lines = run.lines(SUMMARY, evaluation.read_detection)
        tables = detection_tables(lines, confidence=group.confidence)
        folded[f"Rejection by error, seed {run.seed}"] = list(tables)
    if folded:
        yield Passage("Rejection by reconstruction error", [], folded)


def _figures(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields the ROC curves of each column that makes projections."""
    for column in context.columns:
        panels = _panels(context, column) if column.projects else {}
        if not panels:
            continue
        yield (
            f"roc-{columns.file_of(column)}",
            html.ReportFigure(
                f"ROC of rejection by error: {columns.title_of(column)}",
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
    threshold = thresholds.threshold(context, column)
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


def _label(row: Row) -> str:
    return labels.label_of(row.name, norm=row.attack.norm if row.attack else "")


def detection_tables(
    lines: pd.DataFrame,
    *,
    confidence: float = 0.95,
    labels: Mapping[str, str] | None = None,
) -> Iterator[Table]:
    """Yields a table for each defence that rejects, a line a row of images.

    Args:
      lines: those of detection.csv.
      confidence: coverage of the intervals in `lines`, for the caption.
      labels: names to print instead of the derived ones, by attack, classifier or
        defence.
    """
    rows = lines_of(lines)
    for column, head in column_heads((column_of(row) for row in rows), labels).items():
        own = [row for row in rows if column_of(row) == column]
        here = lines_where(lines, lambda row, of=column: column_of(row) == of)
        yield _table(own, head, here, confidence, labels)


_NOT_KEPT = (
    "No attack here tried to keep the error small: what is rejected is no evidence "
    "against one that does."
)
_KEPT_SMALL = (
    "The attacks of adversaries that know the defence had to keep the error below it."
)


def _table(
    rows: list[Any],
    head: str,
    numbers: pd.DataFrame,
    confidence: float,
    labels: Mapping[str, str] | None,
) -> Table:
    first = rows[0]
    heads = {
        "Attack": [label_of(row.attack, labels, row.norm) for row in rows],
        "Adversary": [_adversary(row) for row in rows],
        "Rejected": [_rejected(row) for row in rows],
        "Ends well": [accuracy_text(row) for row in rows],
        "AUC": [_auc(row) for row in rows],
    }
    several = len({row.adversary for row in rows} - {NO_DEFENCE}) > 1
    if not several:
        del heads["Adversary"]
    achieved = next((row for row in rows if row.attack == CLEAN), None)
    caption = (
        "Images with an error above "
        f"{first.threshold:.3g} are rejected: {100 * first.false_positive_rate:g} % "
        f"or less of {first.validation:,} clean validation images. "
        f"{images_text(rows)}; intervals of {100 * confidence:g} %. "
        "Ends well: clean images accepted and classified right, attacked ones rejected "
        "or classified right. AUC: probability that an image of the row has a larger "
        "error than a clean test image. "
    )
    caption += _KEPT_SMALL if rejects(first) else _NOT_KEPT
    if achieved is not None:
        caption += (
            f" Of the clean test images {100 * achieved.rejected_share:.1f} % are "
            "rejected."
        )
    title = with_threat(f"Rejection by reconstruction error: {head}", rows)
    names = 2 if several else 1
    return Table(title, caption, pd.DataFrame(heads), numbers, names=names)


def _adversary(row: Any) -> str:
    known = row.adversary != NO_DEFENCE
    return adversary_label(row.adversary) if known else MISSING


def _rejected(row: Any) -> str:
    low, high = 100 * row.rejected_low, 100 * row.rejected_high
    return f"{100 * row.rejected_share:.1f} % [{low:.1f}, {high:.1f}]"


def _auc(row: Any) -> str:
    if math.isnan(row.auc):
        return MISSING
    return f"{row.auc:.3f} [{row.auc_low:.3f}, {row.auc_high:.3f}]"


FINDING = Finding(
    name="detection",
    after="evaluate",
    wanted=_wanted,
    find=find,
    writes=(SUMMARY, "validation/"),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
)
