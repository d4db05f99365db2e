"""ROC curves of telling attacked images from clean ones by a number of each."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import (
    FAINT,
    LINES,
    laid_out,
    new_figure,
    styled,
)

_ACROSS = 3
_DASHES = ("-", "--", "-.", ":")


class RocCurve(NamedTuple):
    """One attack of a panel.

    Attributes:
      name: in the legend.
      false_positives: share of the clean images rejected at each threshold, ascending
        from 0 to 1.
      true_positives: share of the attacked images rejected.
      auc: area below the curve, for the legend.
      chosen: both shares at the threshold in use, drawn as a point; None for none.
    """

    name: str
    false_positives: Float[np.ndarray, " points"]
    true_positives: Float[np.ndarray, " points"]
    auc: float
    chosen: tuple[float, float] | None = None


@styled
def roc_curves(panels: Mapping[str, Sequence[RocCurve]]) -> Figure:
    """Returns a panel for each entry (adversary), with a curve for each attack.

    Args:
      panels: curves by the title of their panel.

    Raises:
      UsageError: if there is no curve.
    """
    if not panels or not all(panels.values()):
        raise UsageError("panels hold no ROC curve; allowed: 1 or more each.")
    columns = min(_ACROSS, len(panels))
    rows = math.ceil(len(panels) / columns)
    longest = max(len(curves) for curves in panels.values())
    figure = new_figure(
        4.4 * columns, (4.2 + 0.2 * longest) * rows, layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, (title, curves) in zip(grid, panels.items(), strict=False):
        _draw(axes, title, curves)
    for axes in grid[: len(panels) : columns]:
        axes.set_ylabel("attacked images rejected")
    return laid_out(figure)


def _draw(axes: Axes, title: str, curves: Sequence[RocCurve]) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
    for place, curve in enumerate(curves):
        colour = LINES[(1 + place) % len(LINES)]
        axes.plot(
            curve.false_positives,
            curve.true_positives,
            label=f"{curve.name}: {curve.auc:.3f}",
            color=colour,
            linestyle=_DASHES[place // len(LINES) % len(_DASHES)],
            clip_on=False,
            zorder=3,
        )
        if curve.chosen is not None:
            axes.plot(*curve.chosen, "o", color=colour, clip_on=False, zorder=4)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=title)
    axes.set_xlabel("clean images rejected")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    # Below the panel, where no curve can run into it.
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.05, -0.16), fontsize=9, borderaxespad=0
    )
