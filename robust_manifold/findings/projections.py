"""What defences classify in place of images, and the errors of their projections."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robust_manifold import defenses, evaluation
from robust_manifold.config import Column
from robust_manifold.core.errors import UsageError
from robust_manifold.findings import accuracy, columns
from robust_manifold.findings.finding import Finding, Shown
from robust_manifold.reporting import figures, html, tables
from robust_manifold.reporting.columns import target_labels
from robust_manifold.reporting.labels import (
    NO_DEFENCE,
    adversary_label,
    in_prose,
    label_of,
)
from robust_manifold.reporting.tables import MISSING, OBLIVIOUS_ONLY, UNAWARE, Table
from robust_manifold.stages import Context
from robust_manifold.stages.table.evaluate import images_of
from robust_manifold.stages.table.rounds import read_rounds
from robust_manifold.stages.table.rows import Row, outcome_folder, rows_of


def _show(context: Context) -> Shown:
    lines = list(_separations(context))
    confidence = context.experiment.evaluation.confidence
    tables = [separation_table(lines, confidence=confidence)] if lines else []
    figures = [*_all_sheets(context), *_histograms(context)]
    if accuracy.is_large(context):
        return Shown(folded=tables, figures=figures)
    return Shown(tables, figures=figures)


def _all_sheets(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields originals, attacked images and what was classified, a sheet a row."""
    for column in context.columns:
        if isinstance(column.defence, defenses.Purifier):
            yield from _sheets(context, column)


def _histograms(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields histograms of the errors of each column that makes projections."""
    for column in _projecting(context):
        yield f"errors-{columns.file_of(column)}", _histogram(context, column)


def _projecting(context: Context) -> list[Column]:
    return [column for column in context.columns if column.projects]


def _sheets(
    context: Context, column: Column
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields original, adversarial and purified one of some images, a sheet a row."""
    stored = "projections" if column.projects else "purified"
    named = "projection" if column.projects else "purified"
    words = "projections" if column.projects else "purified images"
    count = context.experiment.report.pictures
    title = columns.title_of(column)
    rows = columns.shown_rows(context, column)
    for row in rows:
        label = columns.row_label(context, row)
        outcomes = read_rounds(context, outcome_folder(column, row))
        names = columns.class_names(context, outcomes["logits"].shape[-1])
        groups = []
        for part, chosen in columns.groups(context, context.data.test.labels, count):
            shown = {"original": rows[0]}
            if row.attack is not None:
                shown["adversarial"] = row
            sheet = [
                _shown(context, column, name, each, chosen, len(names))
                for name, each in shown.items()
            ]
            purified = outcomes[stored][chosen]
            probabilities = columns.softmax(outcomes["logits"][chosen])
            sheet.append(figures.SheetRow(named, purified, probabilities))
            heading = ": ".join(filter(None, (label, part)))
            labels_of = context.data.test.labels[chosen]
            groups.append(figures.SheetGroup(heading, labels_of, sheet))
        yield (
            columns.picture_name(column, row),
            html.ReportFigure(
                f"{label}: {words} by {title}",
                "Under each image: the class that the classifier gives it and its "
                f"probability. The defence classifies the {words}." + _seeing(row),
                figures.to_png(figures.projection_sheet(groups, class_names=names)),
            ),
        )


def _shown(
    context: Context,
    column: Column,
    name: str,
    row: Row,
    chosen: np.ndarray,
    outputs: int,
) -> figures.SheetRow:
    """Returns a row of images, with what the bare classifier says if that is stored.

    It has a probability of 0 for outputs that the column alone has.
    """
    images = images_of(context, row)[chosen]
    bare = columns.bare_column(context, column)
    if bare is None or row not in rows_of(bare, context.experiment.evaluation):
        return figures.SheetRow(name, images)
    outcomes = read_rounds(context, outcome_folder(bare, row))
    probabilities = columns.softmax(outcomes["logits"][chosen])
    missing = outputs - probabilities.shape[1]
    probabilities = np.pad(probabilities, ((0, 0), (0, missing)))
    return figures.SheetRow(name, images, probabilities)


def _seeing(row: Row) -> str:
    """Returns the sentence that says what the attack of a row was allowed to see."""
    if row.attack is None:
        return ""
    name = in_prose(adversary_label(row.adversary))
    return f" Adversary: {name} ({tables.adversary_words(row.adversary)})."


def _histogram(context: Context, column: Column) -> html.ReportFigure:
    errors = {
        columns.row_label(context, row): read_rounds(
            context, outcome_folder(column, row)
        )["error"]
        for row in columns.shown_rows(context, column)
    }
    return html.ReportFigure(
        f"Reconstruction errors by {columns.title_of(column)}",
        "Mean square over the pixels between an image and its projection.",
        figures.to_png(figures.error_histogram(errors)),
    )


def _separations(context: Context) -> Iterator[dict[str, Any]]:
    """Yields how errors differ from those of clean images, by column and row."""
    block = context.experiment.evaluation
    for column in _projecting(context):
        clean = None
        for row in rows_of(column, block):
            errors = read_rounds(context, outcome_folder(column, row))["error"]
            found = evaluation.separation(errors, clean, block.confidence)
            clean = errors if clean is None else clean
            yield {
                "defence": column.text,
                "attack": row.name,
                "norm": row.attack.norm if row.attack else "",
                "adversary": row.adversary,
                **found._asdict(),
            }


def separation_table(
    rows: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns the table of errors of clean and of adversarial images.

    Args:
      rows: each with the texts "defence", "attack" and "adversary", the attack's
        "norm", and the fields of an `evaluation.Separation`.
      confidence: coverage of the intervals in `rows`, for the caption.

    Raises:
      UsageError: for no rows.
    """
    if not rows:
        raise UsageError("rows hold 0 sets of images; allowed: 1 or more.")
    defences = list(dict.fromkeys(row["defence"] for row in rows))
    names = dict(zip(defences, target_labels(defences), strict=True))
    columns = {
        "Defence": [names[row["defence"]] for row in rows],
        "Attack": [label_of(row["attack"], norm=row["norm"]) for row in rows],
        "Adversary": [_adversary(row["adversary"]) for row in rows],
        "1st quartile": [_error(row["low_quartile"]) for row in rows],
        "Median": [_error(row["median"]) for row in rows],
        "3rd quartile": [_error(row["high_quartile"]) for row in rows],
        "AUC": [_auc(row) for row in rows],
    }
    adversaries = {row["adversary"] for row in rows} - {"none"}
    dropped = [
        *(["Defence"] if len(defences) == 1 else []),
        *(["Adversary"] if len(adversaries) < 2 else []),
    ]
    text = pd.DataFrame({k: v for k, v in columns.items() if k not in dropped})
    by = f" by {names[defences[0]]}" if len(defences) == 1 else ""
    caption = (
        f"Mean squares over the pixels between an image and its projection{by}, for "
        f"{_counts(rows)} images a row. "
        "AUC: probability that an image of the row has a larger error than a clean "
        "one, which is how well the error alone tells them apart: 0.5 not at all, 1 "
        f"always. Its interval of {100 * confidence:g} % takes both sets as "
        "independent."
    )
    title = "Reconstruction errors of clean and of attacked images"
    if not adversaries:
        title = "Reconstruction errors of clean images"
    elif adversaries <= set(UNAWARE):
        title = f"{title}, {OBLIVIOUS_ONLY}"
    return Table(title, caption, text, pd.DataFrame(rows), names=3 - len(dropped))


def _adversary(text: str) -> str:
    return text if text == NO_DEFENCE else in_prose(adversary_label(text))


def _counts(rows: Sequence[Mapping[str, Any]]) -> str:
    least, most = min(row["n"] for row in rows), max(row["n"] for row in rows)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _auc(row: Mapping[str, Any]) -> str:
    if row["auc"] is None:
        return MISSING
    return f"{row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]"


def _error(value: float | None) -> str:
    """Returns an error with as many digits whatever its size."""
    if value is None or math.isnan(value):
        return MISSING
    return format(value, ".2e" if value < 1e-4 else "#.3g")


FINDING = Finding(name="projections", after="evaluate", show=_show)
