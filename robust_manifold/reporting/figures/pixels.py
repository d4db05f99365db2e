"""Sheets laid out in pixels, where images are enlarged by whole numbers only.

So no pixel of an image is drawn wider than its neighbour.
"""

import functools

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import (
    DPI,
    INK,
    legible,
    make_legible,
    new_figure,
)

GAP = 14
LINE = 26
TEXT_SIZE = 8.5
TITLE_SIZE = 11.0

_SLACK = 1e-5  # by which rounding may leave [0, 1]


def pixel_axes(width: int, height: int) -> Axes:
    """Returns axes that fill a new figure and count pixels from the top left."""
    # A little more than a whole number of pixels, which is cut off.
    figure = new_figure((width + 0.01) / DPI, (height + 0.01) / DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_autoscale_on(False)
    return axes


def figure_of(axes: Axes) -> Figure:
    """Returns the figure that the axes fill."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    make_legible(figure)
    return figure


def place(
    axes: Axes, image: np.ndarray, x: int, y: int, width: int, height: int
) -> None:
    """Draws an image of pixels in [0, 1] into a rectangle of pixels."""
    axes.imshow(
        np.broadcast_to(drawable(image), (*image.shape[:2], 3)),
        extent=(x, x + width, y + height, y),
        interpolation="nearest",
        aspect="auto",
    )


def drawable(image: np.ndarray) -> np.ndarray:
    """Returns the image inside [0, 1], with a mid gray for what is not a number."""
    return np.nan_to_num(np.clip(image, 0, 1), nan=0.5)


def write(
    axes: Axes,
    x: int | float,
    y: int | float,
    text: str,
    colour: str,
    align: str = "center",
) -> None:
    """Writes one small line of text, centred upon the height `y`."""
    axes.text(x, y, text, ha=align, va="center", fontsize=TEXT_SIZE, color=colour)


def write_heading(axes: Axes, title: str) -> None:
    """Writes the heading of a sheet at its top left."""
    axes.text(GAP, GAP + LINE / 2, title, **heading())


def heading() -> dict:
    """Returns the style of a heading."""
    return {"va": "center", "fontsize": TITLE_SIZE, "fontweight": "bold", "color": INK}


def text_width(text: str, size: float, weight: str = "bold") -> float:
    """Returns the width of a line of text in pixels, as it is drawn."""
    if not text.strip():
        return 0.0
    # Not from the outlines alone: drawn letters are set on whole pixels each, which
    # makes a long line wider by more than its margin.
    font = FontProperties(family="DejaVu Sans", weight=weight, size=size)
    renderer = _renderer()
    width, _, _ = renderer.get_text_width_height_descent(legible(text), font, False)
    return float(width)


@functools.cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, DPI)


def shortened(name: str, width: float) -> str:
    """Returns a name cut to this width in pixels, with an ellipsis where it was."""
    name = legible(name)
    if text_width(name, TEXT_SIZE, "normal") <= width:
        return name
    while name and text_width(name + "…", TEXT_SIZE, "normal") > width:
        name = name[:-1]
    return name + "…"


def check_images(name: str, images: np.ndarray) -> None:
    """Raises a UsageError unless images [n, height, width, channels] can be drawn."""
    n, _, _, channels = images.shape
    if n < 1 or channels not in (1, 3):
        raise UsageError(
            f"{name} have the shape {images.shape}; "
            "allowed: 1 or more images of 1 or 3 channels."
        )
    known = images[~np.isnan(images)]
    if known.size and not (-_SLACK <= known.min() and known.max() <= 1 + _SLACK):
        raise UsageError(
            f"{name} have pixels in [{known.min():g}, {known.max():g}]; "
            "allowed: [0, 1]."
        )
