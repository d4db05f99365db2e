"""What the report shows of the purified images, and of projections' errors."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from robust_manifold import defenses, evaluation
from robust_manifold.config import Column
from robust_manifold.reporting import figures, html, separation_table, tables
from robust_manifold.stages import columns_shown, pictures_shown
from robust_manifold.stages.context import Context
from robust_manifold.stages.evaluate import images_of
from robust_manifold.stages.rounds import read_rounds
from robust_manifold.stages.rows import Row, outcome_folder, rows_of


def shown_tables(context: Context) -> Iterator[tables.Table]:
    """Yields how errors differ from those of clean images, where there are any."""
    if separations := list(_separations(context)):
        confidence = context.experiment.evaluation.confidence
        yield separation_table(separations, confidence=confidence)


def shown_sheets(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields originals, attacked images and what was classified, a sheet a row."""
    for column in context.columns:
        if isinstance(column.defence, defenses.Purifier):
            yield from _sheets(context, column)


def shown_errors(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields histograms of the errors of each column that makes projections."""
    for column in _projecting(context):
        yield f"errors-{columns_shown.file_of(column)}", _histogram(context, column)


def _projecting(context: Context) -> list[Column]:
    return [column for column in context.columns if column.projects]


def _sheets(
    context: Context, column: Column
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields original, adversarial and purified one of some images, a sheet a row."""
    stored = "projections" if column.projects else "purified"
    named = "projection" if column.projects else "purified"
    words = "projections" if column.projects else "purified images"
    names, count = context.dataset.class_names, context.experiment.report.pictures
    title = columns_shown.title_of(column)
    rows = columns_shown.shown_rows(context, column)
    for row in rows:
        label = columns_shown.row_label(context, row)
        groups = []
        for part, chosen in pictures_shown.groups(context, context.test.labels, count):
            sheet = [_shown(context, column, "original", rows[0], chosen)]
            if row.attack is not None:
                sheet.append(_shown(context, column, "adversarial", row, chosen))
            outcomes = read_rounds(context, outcome_folder(column, row))
            purified = outcomes[stored][chosen]
            probabilities = pictures_shown.softmax(outcomes["logits"][chosen])
            sheet.append(figures.SheetRow(named, purified, probabilities))
            heading = ": ".join(filter(None, (label, part)))
            labels_of = context.test.labels[chosen]
            groups.append(figures.SheetGroup(heading, labels_of, sheet))
        yield (
            columns_shown.picture_name(column, row),
            html.ReportFigure(
                f"{label}: {words} by {title}",
                "Under each image: the class that the classifier gives it and its "
                f"probability. The defence classifies the {words}." + _adversary(row),
                figures.to_png(figures.projection_sheet(groups, class_names=names)),
            ),
        )


def _shown(
    context: Context, column: Column, name: str, row: Row, chosen: np.ndarray
) -> figures.SheetRow:
    """Returns a row of images, with what the bare classifier says if that is stored."""
    images = images_of(context, row)[chosen]
    bare = columns_shown.bare_column(context, column)
    if bare is None or row not in rows_of(bare, context.experiment.evaluation):
        return figures.SheetRow(name, images)
    outcomes = read_rounds(context, outcome_folder(bare, row))
    probabilities = pictures_shown.softmax(outcomes["logits"][chosen])
    return figures.SheetRow(name, images, probabilities)


def _adversary(row: Row) -> str:
    """Returns the sentence that says what the attack of a row was allowed to see."""
    if row.attack is None:
        return ""
    return f" Adversary: {row.adversary} ({tables.adversary_words(row.adversary)})."


def _histogram(context: Context, column: Column) -> html.ReportFigure:
    errors = {
        columns_shown.row_label(context, row): read_rounds(
            context, outcome_folder(column, row)
        )["error"]
        for row in columns_shown.shown_rows(context, column)
    }
    return html.ReportFigure(
        f"Reconstruction errors by {columns_shown.title_of(column)}",
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
