"""What several runs of each of some things gave: a point a run, and their mean."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import (
    FAINT_TEXT,
    LINES,
    laid_out,
    new_figure,
    styled,
)


class Spread(NamedTuple):
    """The values of several runs."""

    values: Sequence[float]
    mean: float
    low: float
    high: float


@styled
def spreads(rows: Mapping[str, Spread], *, axis: str) -> Figure:
    """Returns a line of points for each name, the first on top.

    Args:
      rows: shares in [0, 1], by name.
      axis: what the values are.

    Raises:
      UsageError: for no rows.
    """
    if not rows:
        raise UsageError("rows hold 0 names; allowed: 1 or more.")
    figure = new_figure(9.6, 1.1 + 0.28 * len(rows), layout="constrained")
    axes = figure.subplots()
    for place, spread in enumerate(rows.values()):
        points = [100 * value for value in spread.values]
        low, high = 100 * spread.low, 100 * spread.high
        axes.plot([low, high], [place, place], color=LINES[0], linewidth=2)
        axes.plot(points, [place] * len(points), "o", color=FAINT_TEXT, markersize=3)
        axes.plot([100 * spread.mean], [place], "D", color=LINES[0], markersize=5)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    return laid_out(figure)
