"""Certified accuracy against the radius, with what no one knows yet shaded."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import LINES, laid_out, new_figure, styled


class CertifiedCurve(NamedTuple):
    """One classifier of a panel.

    Attributes:
      name: in the legend.
      lower: radius of each image within which it is certified; below 0 if it is wrong.
        Empty for a classifier without a certificate.
      upper: length at which it is known to fall, likewise.
      attacked: radii, and the share of images that attacks within each have left.
    """

    name: str
    lower: Float[np.ndarray, " n"]
    upper: Float[np.ndarray, " n"]
    attacked: Sequence[tuple[float, float]] = ()


@styled
def certified_curves(panels: Mapping[str, Sequence[CertifiedCurve]]) -> Figure:
    """Returns a panel for each entry (norm), with a curve for each classifier.

    Args:
      panels: curves by the label of their axis.

    Raises:
      UsageError: if there is no curve.
    """
    if not panels or not all(panels.values()):
        raise UsageError("panels hold no certified curve; allowed: 1 or more each.")
    most = max(len(curves) for curves in panels.values())
    # The names stand below: inside, long ones would cover the curves.
    size = 4.6 * len(panels), 3.6 + 0.25 * most
    figure = new_figure(*size, layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (label, curves) in zip(grid, panels.items(), strict=True):
        _draw(axes, curves)
        axes.set_xlabel(label)
    grid[0].set_ylabel("images")
    grid[0].yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.legend(
        *grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=1
    )
    return laid_out(figure)


def _draw(axes: Axes, curves: Sequence[CertifiedCurve]) -> None:
    ends = [np.max(curve.lower, initial=0) for curve in curves]
    ends += [radius for curve in curves for radius, _ in curve.attacked]
    radii = np.linspace(0, 1.05 * max(*ends, 1e-3), 400)
    for place, curve in enumerate(curves):
        colour, proved = LINES[place % len(LINES)], len(curve.lower) > 0
        known = np.ones_like(radii)
        if len(curve.attacked):
            at, shares = np.array(sorted(curve.attacked)).T
            # What falls within a radius falls within a larger one.
            known = np.append(1.0, shares)[np.searchsorted(at, radii, side="right")]
            label = "_" if proved else curve.name
            axes.plot(radii, known, linestyle="--", color=colour, label=label)
            axes.plot(at, shares, "o", color=colour, markersize=4)
        if proved:
            lower, upper = (
                np.mean(each[None] >= radii[:, None], axis=1)
                for each in (curve.lower, curve.upper)
            )
            top = np.minimum(known, upper)
            axes.fill_between(radii, lower, top, color=colour, alpha=0.25, linewidth=0)
            axes.plot(radii, lower, color=colour, label=curve.name)
    axes.set(xlim=(0, radii[-1]), ylim=(0, 1))
    axes.grid(True)
