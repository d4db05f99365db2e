"""Figures of inversion: solvers against steps and cost, errors from 0 to large."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import (
    DASHES,
    FAINT_TEXT,
    INK,
    LINES,
    MARKERS,
    laid_out,
    new_figure,
    styled,
)
from robust_manifold.reporting.figures.ticks import label_between

_LEAST = 1e-12  # where an error of 0 is drawn
_BINS_A_DECADE = 4


class SolverCurve(NamedTuple):
    """The mean error of one solver as it goes on.

    Attributes:
      error: after 0, 1, ... all steps; what is not finite is not drawn.
      passes: through the generator until then.
    """

    error: Float[np.ndarray, " points"]
    passes: Float[np.ndarray, " points"]


@styled
def solver_curves(curves: Mapping[str, SolverCurve]) -> Figure:
    """Returns the mean error against steps, and against passes: a line a solver.

    All axes are logarithmic, so lines begin at the first step; a mark is at the last.

    Args:
      curves: by the solver's readable name.

    Raises:
      UsageError: if no solver has a finite error after a step.
    """
    if not any(np.isfinite(curve.error[1:]).any() for curve in curves.values()):
        raise UsageError("curves hold no finite error after a step; allowed: 1.")
    figure = new_figure(9.6, 4.0, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for place, (name, curve) in enumerate(curves.items()):
        steps = np.arange(len(curve.error))
        for axes, across in zip(panels, (steps, curve.passes), strict=True):
            axes.plot(
                across[1:],
                _drawable(curve.error[1:]),
                label=name,
                # Without the gray, which means "no defence" elsewhere.
                color=LINES[1 + place % (len(LINES) - 1)],
                linestyle=DASHES[1 + place % (len(DASHES) - 1)],
                marker=MARKERS[place % len(MARKERS)],
                markevery=[len(across) - 2],
            )
    for axes, across in zip(panels, ("steps", "passes an image"), strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(f"{across} (logarithmic)")
        axes.set_title(f"Error against {across.partition(' ')[0]}")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        label_between(axes.xaxis, axes.get_xlim(), ",.0f")
    panels[0].set_ylabel("error, mean of the images' best starts")
    _label_errors(panels[0])
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(curves), 4),
    )
    return laid_out(figure)


@styled
def error_decades(
    errors: Mapping[str, Float[np.ndarray, " _"]], *, limit: float | None = None
) -> Figure:
    """Returns histograms of errors that may lie many powers of ten apart.

    One panel below the other, on a common logarithmic axis; errors below 1e-12, which
    are 0 but for rounding, are in its first bin.

    Args:
      errors: mean squares over the pixels, one for each image, by readable name;
        entries that are not finite are left out, and counted in the heading.
      limit: an error to mark by a dashed line.

    Raises:
      UsageError: if no error is finite.
    """
    finite = {name: values[np.isfinite(values)] for name, values in errors.items()}
    every = np.concatenate([*finite.values(), np.empty(0)])
    if not every.size:
        raise UsageError("errors hold no finite value; allowed: 1 or more.")
    shown = np.maximum(np.append(every, limit or every[0]), _LEAST)
    first = math.floor(math.log10(shown.min()))
    last = max(first, math.floor(math.log10(shown.max()))) + 1
    bins = np.logspace(first, last, _BINS_A_DECADE * (last - first) + 1)
    figure = new_figure(7.2, 1.0 + 1.4 * len(errors), layout="constrained")
    grid = figure.subplots(
        len(errors), 1, sharex=True, sharey=True, squeeze=False
    ).ravel()
    for place, (axes, (name, values)) in enumerate(
        zip(grid, finite.items(), strict=True)
    ):
        colour = LINES[(1 + place) % len(LINES)]
        _draw_shares(axes, values, bins, colour)
        if limit is not None:
            axes.axvline(limit, color=INK, linewidth=1.2, linestyle="--")
        missing = len(errors[name]) - len(values)
        note = f" ({missing} of {len(errors[name])} not finite)" if missing else ""
        axes.set_title(f"{name}: {_median(values)}{note}", fontsize=9.5, pad=4)
    axes = grid[-1]
    axes.set_xscale("log")
    axes.set_xlim(bins[0], bins[-1])
    axes.xaxis.set_major_locator(
        FixedLocator([10.0**power for power in range(first, last + 1)])
    )
    axes.xaxis.set_major_formatter(FuncFormatter(_decades(first, last)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.set_xlabel("error (mean square per pixel, logarithmic)")
    notes = ["height: share of the images"]
    if limit is not None:
        notes.append(f"dashed: {limit:g}")
    figure.supxlabel("; ".join(notes), fontsize=8.5, color=FAINT_TEXT)
    return laid_out(figure)


def _draw_shares(axes: Axes, values: np.ndarray, bins: np.ndarray, colour: str) -> None:
    """Draws the share of the values in each bin."""
    if not values.size:
        return
    inside = np.clip(values, bins[0], bins[-1])
    shares = np.histogram(inside, bins)[0] / len(values)
    axes.stairs(shares, bins, fill=True, color=colour, alpha=0.5)
    axes.stairs(shares, bins, color=colour, linewidth=1.2)


def _median(values: np.ndarray) -> str:
    return f"median {np.median(values):.2g}" if values.size else "no finite error"


def _decades(first: int, last: int) -> Callable[[float, int], str]:
    """Returns the labels of powers of ten, as many as find room."""

    def label(x: float, _: int) -> str:
        power = round(math.log10(x))
        if power == round(math.log10(_LEAST)):
            return f"≤ {x:g}"
        return f"{x:g}" if last - first <= 7 or power % 2 == 0 else ""

    return label


def _drawable(errors: np.ndarray) -> np.ndarray:
    """Returns errors that a logarithmic axis can show."""
    errors = np.asarray(errors, np.float64)
    return np.where(np.isfinite(errors), np.maximum(errors, _LEAST), np.nan)


def _label_errors(axes: Axes) -> None:
    """Labels powers of ten on the upward axis, others between where these are few."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    label_between(axes.yaxis, axes.get_ylim(), ".4g")
