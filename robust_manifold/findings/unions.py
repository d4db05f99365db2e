"""Unions of balls: what is left of a column whose attacker may pick the norm."""

from collections.abc import Iterator

import pandas as pd

from robust_manifold import evaluation
from robust_manifold.findings.accuracy import cell_of
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.recorded import Group
from robust_manifold.findings.unions_table import unions_table
from robust_manifold.reporting import ReportFigure, figures
from robust_manifold.reporting.wide import turned
from robust_manifold.stages import Context
from robust_manifold.stages.table.rows import rows_of

FILE = "unions.csv"


def find(context: Context) -> list[str]:
    """Writes `unions.csv`, from the stored rounds of all rows."""
    block = context.experiment.evaluation
    outcomes = [
        cell_of(context, column, row)[1]
        for column in block.columns
        for row in rows_of(column, block)
    ]
    lines = evaluation.union_lines(outcomes, block.unions, confidence=block.confidence)
    context.folder.write_text(FILE, evaluation.unions_to_csv(lines))
    return [FILE]


def _show(context: Context) -> Shown:
    lines = evaluation.read_unions(context.folder.read_text(FILE))
    confidence = context.experiment.evaluation.confidence
    return Shown(
        [unions_table(lines, confidence=confidence)],
        figures=[("unions", _figure(lines))],
    )


def _figure(lines: pd.DataFrame) -> ReportFigure:
    return ReportFigure(
        "Accuracy in each ball, and in their union",
        "An image is right in a union if it is right in every ball of it. Whiskers "
        "are the Wilson intervals of the table.",
        figures.to_png(figures.union_bars(lines)),
    )


def _results(group: Group) -> Iterator[Passage]:
    tables = []
    for run in group.with_file(FILE):
        lines = run.lines(FILE, evaluation.read_unions)
        table = turned(unions_table(lines, confidence=group.confidence))
        named = f"{table.title}, seed {run.seed}"
        tables.append(table._replace(title=named) if len(group.runs) > 1 else table)
    if tables:
        yield Passage("Any of several norms", tables)


FINDING = Finding(
    name="unions",
    after="evaluate",
    wanted=lambda experiment: bool(experiment.evaluation.unions),
    find=find,
    writes=(FILE,),
    recorded=(FILE,),
    show=_show,
    results=_results,
)
