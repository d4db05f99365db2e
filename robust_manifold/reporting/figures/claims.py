"""What attacks that know nothing of a defence leave of it, and what the worst do."""

from collections.abc import Mapping
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import (
    FAINT,
    LINES,
    laid_out,
    new_figure,
    styled,
)


class Claim(NamedTuple):
    """Shares of the images that a defence gets right at one budget.

    Attributes:
      worst: in the worst case.
      low: lower end of its interval.
      high: upper end of its interval.
      oblivious: under attacks that do not know of it; None if it is no defence.
    """

    worst: float
    low: float
    high: float
    oblivious: float | None = None


@styled
def claims_and_worst_cases(panels: Mapping[str, Mapping[str, Claim]]) -> Figure:
    """Returns a panel for each budget, with a line for each defence.

    Args:
      panels: the claims by defence, by what is written above the panel; all panels
        have the defences of the first, in its order, or fewer.

    Raises:
      UsageError: for no panels.
    """
    if not panels:
        raise UsageError("panels hold no budget; allowed: 1 or more.")
    names = list(next(iter(panels.values())))
    size = (4.2 + 3 * len(panels), 1.4 + 0.36 * len(names))
    figure = new_figure(*size, layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, claims) in zip(grid, panels.items(), strict=True):
        axes.set_title(title)
        for place, name in enumerate(names):
            if claim := claims.get(name):
                _draw(axes, place, claim)
        axes.set_xlim(-3, 103)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("Accuracy, %")
    grid[0].set_yticks(range(len(names)), names)
    grid[0].set_ylim(len(names) - 0.4, -0.6)
    drawn = [
        (label, handle)
        for axes in grid
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    ]
    handles = dict(drawn)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=len(handles),
    )
    return laid_out(figure)


def _draw(axes: Axes, place: int, claim: Claim) -> None:
    """Draws one line: the claim, the way down from it, the worst case."""
    worst, low, high = (100 * share for share in (claim.worst, claim.low, claim.high))
    if claim.oblivious is not None:
        oblivious = 100 * claim.oblivious
        axes.plot([worst, oblivious], [place] * 2, color=FAINT, linewidth=1, zorder=1)
        axes.plot(
            oblivious,
            place,
            "o",
            markerfacecolor="white",
            markeredgecolor=LINES[1],
            markersize=6.5,
            label="attacks that do not know of the defence",
        )
    axes.errorbar(
        worst,
        place,
        xerr=[[worst - low], [high - worst]],
        fmt="o",
        color=LINES[2],
        markersize=6.5,
        elinewidth=2,
        label="worst case over all attacks, with its Wilson interval",
    )
