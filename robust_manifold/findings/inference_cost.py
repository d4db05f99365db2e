"""What classifying an image costs, with and without a defence."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from robust_manifold import defenses
from robust_manifold.findings import columns
from robust_manifold.findings.finding import Finding, Shown
from robust_manifold.reporting.columns import ColumnTexts, column_heads
from robust_manifold.reporting.labels import NO_DEFENCE
from robust_manifold.reporting.tables import MISSING, Table
from robust_manifold.stages import Context
from robust_manifold.stages.table.rounds import round_files
from robust_manifold.stages.table.rows import outcome_folder, rows_of

_TIMED = 4
"""Rows of a column whose rounds say what classifying takes."""


class InferenceLine(NamedTuple):
    """What classifying one image takes in one column of the table."""

    classifier: str
    defence: str
    seconds: float
    """Of one image, the median over the stored rounds."""
    rounds: int
    """How many of them there are."""
    generator_passes: float | None
    """Forward or backward, through the generator, at most; None if not known."""
    classifier_passes: int = 1


def _show(context: Context) -> Shown:
    if any(column.projects for column in context.columns):
        return Shown(timed=[inference_table([*_costs(context)])])
    return Shown()


def _costs(context: Context) -> Iterator[InferenceLine]:
    """Yields what classifying an image takes in each column, from its stored rounds."""
    for column in context.columns:
        seconds = []
        for row in rows_of(column, context.experiment.evaluation)[:_TIMED]:
            for file, _ in round_files(context, outcome_folder(column, row)):
                arrays = context.folder.read_npz(file)
                seconds.append(float(arrays["seconds"]) / len(arrays["ids"]))
        yield InferenceLine(
            *columns.texts_of(context, column),
            seconds=float(np.median(seconds)),
            rounds=len(seconds),
            generator_passes=_generator_passes(context, column.defence),
        )


def _generator_passes(context: Context, defence: defenses.Defense) -> float | None:
    """Returns the passes of one image's projection if no search ends early."""
    if "generator" not in defence.needs:
        return None
    (size,) = context.networks.generator.input_shape
    return defence.passes(size)


def inference_table(
    lines: Sequence[InferenceLine], *, labels: Mapping[str, str] | None = None
) -> Table:
    """Returns the cost of each column beside that of the bare classifier.

    Args:
      lines: one a column of the table.
      labels: names to print instead of the derived ones, by classifier or defence.
    """
    heads = column_heads((ColumnTexts(x.classifier, x.defence) for x in lines), labels)
    bare = {x.classifier: x.seconds for x in lines if x.defence == NO_DEFENCE}
    times = [line.seconds / bare.get(line.classifier, math.nan) for line in lines]
    text = {
        "Defence": list(heads.values()),
        "Milliseconds": [f"{1000 * line.seconds:,.3g}" for line in lines],
        "Times as long": [
            MISSING if math.isnan(share) else f"{share:,.3g}" for share in times
        ],
        "Generator passes": [
            MISSING
            if line.generator_passes is None
            else f"{line.generator_passes:,.0f}"
            for line in lines
        ],
        "Classifier passes": [f"{line.classifier_passes:,}" for line in lines],
        "Rounds": [f"{line.rounds:,}" for line in lines],
    }
    fewest = min(line.rounds for line in lines)
    caption = (
        "Milliseconds: wall time of a stored round over its images, the median over "
        "the rounds that the last column counts; overhead of a round is included, and "
        + (
            "compilation, which falls into a run's first rounds, hardly is."
            if fewest > 2
            else "compilation, too, where there are but one or two rounds."
        )
        + " Times as long: as the same classifier without a defence. Passes: forward "
        "or backward, of one image; through the generator at most, where a search may "
        "end early."
    )
    numbers = pd.DataFrame(lines).assign(times=times)
    title = "Cost of classifying one image"
    return Table(title, caption, pd.DataFrame(text), numbers)


FINDING = Finding(name="inference_cost", of="both", after="evaluate", show=_show)
