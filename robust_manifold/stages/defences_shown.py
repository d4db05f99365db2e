"""What the report shows of defences under attack: tables, curves, and their cost."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from robust_manifold import defenses, evaluation
from robust_manifold.reporting import (
    InferenceLine,
    figures,
    html,
    inference_table,
    tables,
    worst_cases,
)
from robust_manifold.reporting.columns import column_of
from robust_manifold.reporting.labels import CLEAN
from robust_manifold.stages import columns_shown, summaries
from robust_manifold.stages.context import Context
from robust_manifold.stages.rounds import round_files
from robust_manifold.stages.rows import outcome_folder, rows_of

_LINES = 7
"""Curves of one panel that colours tell apart."""

_TIMED = 4
"""Rows of a column whose rounds say what classifying takes."""


def shown_tables(context: Context, results: pd.DataFrame) -> Iterator[tables.Table]:
    """Yields the headline, then who broke what; of one adversary every attack."""
    confidence = context.experiment.evaluation.confidence
    worst = _has_worst_cases(results)
    if worst:
        yield worst_cases.headline_table(results, confidence=confidence)
    if not is_large(results):
        yield from tables.paper_tables(results, confidence=confidence)
    elif worst:
        lines = evaluation.read_adversary_lines(
            context.folder.read_text(summaries.WORST_CASES)
        )
        yield worst_cases.adversaries_table(lines, confidence=confidence)
        if worst_cases.tells_alone(lines):
            yield worst_cases.alone_table(lines)


def timed_tables(context: Context) -> Iterator[tables.Table]:
    """Yields what classifying costs: its times are those of one run of a program."""
    if any(column.projects for column in context.columns):
        yield inference_table([*_costs(context)])


def folded_tables(context: Context, results: pd.DataFrame) -> Iterator[tables.Table]:
    """Yields every attack of every adversary, for results that are large."""
    confidence = context.experiment.evaluation.confidence
    yield worst_cases.every_table(results, confidence=confidence)


def worst_case_figures(
    results: pd.DataFrame,
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields worst-case accuracy against ε, where there is one."""
    if _has_worst_cases(results):
        yield (
            "worst-case",
            html.ReportFigure(
                tables.with_threat(
                    "Worst-case accuracy against ε", tables.lines_of(results)
                ),
                "An image counts if it is right untouched and under every stored "
                "attack of every adversary inside the budget. Bands are the Wilson "
                "intervals of the table.",
                figures.to_png(figures.worst_case_curves(results)),
            ),
        )


def attack_figures(
    context: Context, results: pd.DataFrame
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields accuracy against ε, attack by attack."""
    attacked = tables.lines_where(results, tables.is_single)
    for name, title, part in _parts(context, attacked):
        if np.isfinite(part["epsilon"].to_numpy()).any():
            yield (
                name,
                html.ReportFigure(
                    tables.with_threat(title, tables.lines_of(part)),
                    "Bands are the Wilson intervals of the table. Adversaries: "
                    f"{', '.join(context.experiment.evaluation.adversaries)}.",
                    figures.to_png(figures.accuracy_curves(part)),
                ),
            )


def _parts(
    context: Context, results: pd.DataFrame
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yields what one figure can show: all lines, or else those of a column each."""
    title = "Accuracy against ε"
    attacked = [row for row in tables.lines_of(results) if row.attack != CLEAN]
    if len({(r.classifier, r.defence, r.adversary) for r in attacked}) <= _LINES:
        yield "accuracy", title, results
        return
    for column in context.columns:
        of = columns_shown.texts_of(context, column)
        own = tables.lines_where(results, lambda row, of=of: column_of(row) == of)
        name = f"accuracy-{columns_shown.file_of(column)}"
        yield name, f"{title}: {columns_shown.title_of(column)}", own


def _has_worst_cases(results: pd.DataFrame) -> bool:
    return not all(map(tables.is_single, tables.lines_of(results)))


def is_large(results: pd.DataFrame) -> bool:
    """Returns whether there are more than the attacks of one adversary to show."""
    known = [row for row in tables.lines_of(results) if tables.is_single(row)]
    adversaries = {row.adversary for row in known if row.attack != CLEAN}
    return len({row.classifier for row in known}) > 1 or len(adversaries) > 1


def _costs(context: Context) -> Iterator[InferenceLine]:
    """Yields what classifying an image takes in each column, from its stored rounds."""
    for column in context.columns:
        seconds = []
        for row in rows_of(column, context.experiment.evaluation)[:_TIMED]:
            for file, _ in round_files(context, outcome_folder(column, row)):
                arrays = context.folder.read_npz(file)
                seconds.append(float(arrays["seconds"]) / len(arrays["ids"]))
        yield InferenceLine(
            *columns_shown.texts_of(context, column),
            seconds=float(np.median(seconds)),
            rounds=len(seconds),
            generator_passes=_generator_passes(context, column.defence),
        )


def _generator_passes(context: Context, defence: defenses.Defense) -> float | None:
    """Returns the passes of one image's projection if no search ends early."""
    if "generator" not in defence.needs:
        return None
    (size,) = context.generator.input_shape
    return defence.passes(size)
