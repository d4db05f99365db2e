"""Figures of a regression: how large errors are, and what is told of some images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import (
    DASHES,
    FAINT_TEXT,
    LINES,
    RIGHT,
    WRONG,
    laid_out,
    new_figure,
    styled,
)
from robust_manifold.reporting.figures.pixels import (
    GAP,
    LINE,
    TITLE_SIZE,
    check_images,
    figure_of,
    pixel_axes,
    place,
    text_width,
    write,
)

_PER_LINE = 2
"""Panels beside each other."""


@styled
def error_shares(
    panels: Mapping[str, Mapping[str, Float[np.ndarray, " n"]]],
    *,
    bound: float,
    axis: str,
) -> Figure:
    """Returns the share of images with at most an error: a panel for each budget.

    Args:
      panels: the errors of every image, by the title of the panel and the name of the
        curve.
      bound: the error that tables count, a line across.
      axis: the label of the errors' axis.

    Raises:
      UsageError: for no panel, or one without a curve.
    """
    if not panels or not all(panels.values()):
        raise UsageError("panels hold no curve of errors; allowed: 1 or more each.")
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    across = min(_PER_LINE, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(4.4 * across, 3.3 * down, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    every = [errors for panel in panels.values() for errors in panel.values()]
    largest = max(float(np.max(e[np.isfinite(e)], initial=bound)) for e in every)
    flat = list(grid.flat)
    for axes, (title, panel) in zip(flat, panels.items(), strict=False):
        _draw(axes, panel, names, largest)
        axes.axvline(bound, color=FAINT_TEXT, linewidth=1.2, linestyle=":")
        axes.set_title(title)
    for axes in flat[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("images")
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    for place_of, axes in enumerate(flat[: len(panels)]):
        if place_of + across >= len(panels):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(axis)
    handles, labels = flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1)
    return laid_out(figure)


def _draw(
    axes: Axes,
    panel: Mapping[str, Float[np.ndarray, " n"]],
    names: Sequence[str],
    largest: float,
) -> None:
    for name, errors in panel.items():
        number = names.index(name) % len(LINES)
        ordered = np.sort(errors)
        shares = np.arange(1, len(ordered) + 1) / len(ordered)
        kept = np.isfinite(ordered)
        axes.step(
            np.concatenate([[0], ordered[kept], [1.02 * largest]]),
            np.concatenate([[0], shares[kept], [kept.mean()]]),
            where="post",
            color=LINES[number],
            linestyle=DASHES[number],
            label=name,
        )
    axes.set(xlim=(0, 1.02 * largest), ylim=(0, 1))
    axes.grid(True)


class TellingRow(NamedTuple):
    """One row of images of a sheet.

    Attributes:
      name: written left of the row.
      images: one for each column, pixels in [0, 1].
      outputs: what a network tells of each; None writes nothing under them.
    """

    name: str
    images: Float[np.ndarray, "columns height width channels"]
    outputs: Float[np.ndarray, " columns"] | None = None


@styled
def telling_sheet(
    rows: Sequence[TellingRow],
    targets: Float[np.ndarray, " columns"],
    *,
    bound: float,
    unit: str = "",
    truth: str = "true",
) -> Figure:
    """Returns images in columns, with what is told of each under it.

    A number is green where it is within the bound of the truth, else red.

    Args:
      rows: for instance original, attacked and projection.
      targets: what is true of each column.
      bound: the error up to which a number is green.
      unit: written behind each number.
      truth: what stands before the line of targets.

    Raises:
      UsageError: for no rows, or rows of unequal length.
    """
    if not rows or any(len(row.images) != len(targets) for row in rows):
        raise UsageError(
            f"rows have {[len(row.images) for row in rows]} images; allowed: 1 row or "
            f"more, each of {len(targets)}, one a target."
        )
    for row in rows:
        check_images(row.name, row.images)
    height, width = rows[0].images.shape[1:3]
    scale = max(1, round(110 / width))
    width, height = scale * width, scale * height
    names = [truth, *(row.name for row in rows)]
    left = int(max(text_width(name, TITLE_SIZE) for name in names)) + 2 * GAP
    written = [LINE * (row.outputs is not None) for row in rows]
    total = 2 * GAP + LINE + sum(height + GAP + more for more in written)
    axes = pixel_axes(left + len(targets) * (width + GAP), total)
    top = GAP + LINE / 2
    write(axes, left - GAP, top, truth, FAINT_TEXT, "right")
    middles = [left + c * (width + GAP) + width / 2 for c in range(len(targets))]
    for middle, target in zip(middles, targets, strict=True):
        write(axes, middle, top, _number(float(target), unit), FAINT_TEXT)
    y = GAP + LINE
    for row, more in zip(rows, written, strict=True):
        write(axes, left - GAP, y + height / 2, row.name, FAINT_TEXT, "right")
        for column, image in enumerate(row.images):
            place(axes, image, left + column * (width + GAP), y, width, height)
            if row.outputs is not None:
                told = float(row.outputs[column])
                near = abs(told - float(targets[column])) <= bound
                below = y + height + LINE / 2 + 3
                colour = RIGHT if near else WRONG
                write(axes, middles[column], below, _number(told, unit), colour)
        y += height + GAP + more
    return figure_of(axes)


def _number(value: float, unit: str) -> str:
    return f"{value:+.0f}{unit}" if abs(value) >= 10 else f"{value:+.1f}{unit}"
