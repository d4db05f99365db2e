"""Horizontal bars: what each of several brought, in parts."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import (
    FAINT_TEXT,
    LINES,
    laid_out,
    new_figure,
    styled,
)


@styled
def yield_bars(
    yields: Mapping[str, Mapping[str, int]], notes: Mapping[str, str], *, axis: str
) -> Figure:
    """Returns a bar for each name, the first on top, of a part for each kind.

    Args:
      yields: counts by kind, by name; a kind that a name lacks is none of its.
      notes: what is written at the end of a bar, by name.
      axis: what the length of a bar is.

    Raises:
      UsageError: for no bars.
    """
    if not yields:
        raise UsageError("yields hold 0 names; allowed: 1 or more.")
    kinds = list(dict.fromkeys(kind for parts in yields.values() for kind in parts))
    figure = new_figure(9.6, 1.1 + 0.32 * len(yields), layout="constrained")
    axes = figure.subplots()
    for place, (name, parts) in enumerate(yields.items()):
        left = 0
        for number, kind in enumerate(kinds):
            count = parts.get(kind, 0)
            colour = LINES[(1 + number) % len(LINES)]
            axes.barh(place, count, left=left, height=0.7, color=colour, label=kind)
            left += count
        axes.annotate(
            notes.get(name, ""),
            (left, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=FAINT_TEXT,
        )
    axes.set_yticks(range(len(yields)), list(yields), fontsize=8.5)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(axis)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles[: len(kinds)],
        labels[: len(kinds)],
        loc="outside lower center",
        ncols=min(len(kinds), 5),
    )
    return laid_out(figure)
