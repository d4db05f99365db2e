"""Sheets of images: samples of a generator, attacks and their projections."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import (
    DPI,
    FAINT_TEXT,
    INK,
    RIGHT,
    WRONG,
    new_figure,
    styled,
)

_PIXELS_PER_POINT = DPI / 72
# Sheets are laid out in pixels, with every image enlarged by a whole number, so that
# no pixel of an image is drawn wider than its neighbour.
_IMAGE_SIZE = 140
_GRID_SIZE = 900
_GAP = 14
_LINE = 26
_HEAD = 68
_SLACK = 1e-5  # by which rounding may leave [0, 1]
_TEXT_SIZE = 8.5
_TITLE_SIZE = 11.0


class SheetRow(NamedTuple):
    """One row of images of a sheet.

    Attributes:
      name: written left of the row ("adversarial").
      images: one for each column, pixels in [0, 1].
      probabilities: of each class, by the classifier that sees these images (behind
        the defence for projections); None writes nothing under them.
    """

    name: str
    images: Float[np.ndarray, "columns height width channels"]
    probabilities: Float[np.ndarray, "columns classes"] | None = None


class SheetGroup(NamedTuple):
    """Rows of a sheet that show the same examples, under one heading.

    Attributes:
      title: heading of the group ("FGSM ε=0.2").
      labels: true classes of the columns.
      rows: for instance original, adversarial and projection.
    """

    title: str
    labels: Int[np.ndarray, " columns"]
    rows: Sequence[SheetRow]


@styled
def sample_grid(
    images: Float[np.ndarray, "n height width channels"],
    *,
    columns: int = 10,
    title: str = "",
) -> Figure:
    """Returns a sheet of images side by side, such as samples of a generator.

    Args:
      images: gray or RGB, pixels in [0, 1]; a NaN is drawn as mid gray.
      columns: images in a row.
      title: heading of the sheet; none by default.
    """
    _check_images("images", images)
    if columns < 1:
        raise UsageError(f"columns is {columns}; allowed: 1 or more.")
    n, height, width, _ = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    gap = max(1, width // 28)
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for position, image in enumerate(images):
        row, column = divmod(position, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = _drawable(image)
    scale = max(1, round(_GRID_SIZE / sheet.shape[1]))
    sheet_height, sheet_width = scale * sheet.shape[0], scale * sheet.shape[1]
    top = _GAP + (2 * _LINE if title else 0)
    total_width = max(sheet_width, int(_text_width(title, _TITLE_SIZE))) + 2 * _GAP
    axes = _pixel_axes(total_width, top + sheet_height + _GAP)
    if title:
        axes.text(_GAP, _GAP + _LINE / 2, title, **_heading())
    _place(axes, sheet, _GAP, top, sheet_width, sheet_height)
    return _figure_of(axes)


@styled
def projection_sheet(
    groups: Sequence[SheetGroup], *, class_names: Sequence[str]
) -> Figure:
    """Returns a sheet of examples in columns, a group of rows for each attack.

    Under each image stand the predicted class and its probability, green with a
    check mark where it is the true class, red with a cross where it is not.

    Args:
      groups: one for each attack; all with the same number of columns.
      class_names: by class number.
    """
    columns = _check_groups(groups, len(class_names))
    layout = _layout_of(groups, class_names)
    widest_title = max(_text_width(group.title, _TITLE_SIZE) for group in groups)
    width = max(layout.left + columns * layout.pitch, int(widest_title) + 2 * _GAP)
    height = _GAP + sum(layout.height_of_group(group) for group in groups)
    axes = _pixel_axes(width, height)
    top = _GAP
    for position, group in enumerate(groups):
        if position:
            axes.plot([_GAP, width - _GAP], [top, top], color="#d0d7de", lw=0.8)
        _draw_group(axes, layout, top, group)
        top += layout.height_of_group(group)
    return _figure_of(axes)


class _Layout(NamedTuple):
    """Where the parts of a sheet go, in pixels, and what its classes are called."""

    left: int
    pitch: int
    width: int
    height: int
    lines: int
    names: list[str]

    def height_of_row(self, row: SheetRow) -> int:
        written = 0 if row.probabilities is None else self.lines * _LINE
        return self.height + _GAP + written

    def height_of_group(self, group: SheetGroup) -> int:
        return _HEAD + 2 * _GAP + sum(self.height_of_row(row) for row in group.rows)


def _layout_of(groups: Sequence[SheetGroup], class_names: Sequence[str]) -> _Layout:
    height, width = groups[0].rows[0].images.shape[1:3]
    scale = max(1, round(_IMAGE_SIZE / width))
    pitch = scale * width + _GAP
    room = pitch - _GAP - _text_width("✗ ", _TEXT_SIZE)
    names = [_shortened(name, room) for name in class_names]
    widest = max(_text_width(f"✗ {name}  100 %", _TEXT_SIZE) for name in names)
    row_names = ["true class", *(row.name for group in groups for row in group.rows)]
    return _Layout(
        left=int(max(_text_width(n, _TITLE_SIZE) for n in row_names)) + 2 * _GAP,
        pitch=pitch,
        width=scale * width,
        height=scale * height,
        # Class and probability share a line where the longest of them fits.
        lines=1 if widest <= pitch - _GAP / 2 else 2,
        names=names,
    )


def _draw_group(axes: Axes, layout: _Layout, top: int, group: SheetGroup) -> None:
    """Draws a group of rows below `top`."""
    top += _GAP
    axes.text(_GAP, top + _LINE / 2, group.title, **_heading())
    top += _HEAD
    above = top - _LINE / 2 - 2
    _write(axes, layout.left - _GAP, above, "true class", FAINT_TEXT, "right")
    for column, label in enumerate(group.labels):
        middle = layout.left + column * layout.pitch + layout.width / 2
        _write(axes, middle, above, layout.names[label], FAINT_TEXT)
    for row in group.rows:
        axes.text(
            layout.left - _GAP,
            top + layout.height / 2,
            row.name,
            ha="right",
            va="center",
            fontsize=_TITLE_SIZE - 1,
        )
        for column, image in enumerate(row.images):
            x = layout.left + column * layout.pitch
            _place(axes, image, x, top, layout.width, layout.height)
            if row.probabilities is not None:
                place = (x + layout.width / 2, top + layout.height + _LINE / 2 + 3)
                label = int(group.labels[column])
                _write_verdict(axes, layout, place, row.probabilities[column], label)
        top += layout.height_of_row(row)


def _write_verdict(
    axes: Axes,
    layout: _Layout,
    place: tuple[float, float],
    probabilities: np.ndarray,
    label: int,
) -> None:
    """Writes what a classifier says of one image, right or wrong."""
    x, y = place
    predicted = int(np.argmax(probabilities))
    right = predicted == label
    colour = RIGHT if right else WRONG
    verdict = f"{'✓' if right else '✗'} {layout.names[predicted]}"
    confidence = f"{100 * probabilities[predicted]:.0f} %"
    if layout.lines == 1:
        _write(axes, x, y, f"{verdict}  {confidence}", colour)
    else:
        _write(axes, x, y, verdict, colour)
        _write(axes, x, y + _LINE, confidence, colour)


def _write(
    axes: Axes,
    x: int | float,
    y: int | float,
    text: str,
    colour: str,
    align: str = "center",
) -> None:
    axes.text(x, y, text, ha=align, va="center", fontsize=_TEXT_SIZE, color=colour)


def _heading() -> dict:
    return {"va": "center", "fontsize": _TITLE_SIZE, "fontweight": "bold", "color": INK}


def _pixel_axes(width: int, height: int) -> Axes:
    """Returns axes that fill a new figure and count pixels from the top left."""
    # A little more than a whole number of pixels, which is cut off.
    figure = new_figure((width + 0.01) / DPI, (height + 0.01) / DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_autoscale_on(False)
    return axes


def _figure_of(axes: Axes) -> Figure:
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure


def _place(axes: Axes, image: np.ndarray, x: int, y: int, width: int, height: int):
    """Draws an image of pixels in [0, 1] into a rectangle of pixels."""
    axes.imshow(
        np.broadcast_to(_drawable(image), (*image.shape[:2], 3)),
        extent=(x, x + width, y + height, y),
        interpolation="nearest",
        aspect="auto",
    )


def _drawable(image: np.ndarray) -> np.ndarray:
    """Returns the image inside [0, 1], with a mid gray for what is not a number."""
    return np.nan_to_num(np.clip(image, 0, 1), nan=0.5)


def _text_width(text: str, size: float) -> float:
    """Returns the width of a line of bold text in pixels, at least its true one."""
    if not text.strip():
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight="bold")
    path = TextPath((0, 0), text, size=size, prop=font, usetex=False)
    return float(path.get_extents().width) * _PIXELS_PER_POINT


def _shortened(name: str, width: float) -> str:
    """Returns a class name cut to this width, with an ellipsis where it was."""
    if _text_width(name, _TEXT_SIZE) <= width:
        return name
    while name and _text_width(name + "…", _TEXT_SIZE) > width:
        name = name[:-1]
    return name + "…"


def _check_images(name: str, images: np.ndarray) -> None:
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


def _check_groups(groups: Sequence[SheetGroup], classes: int) -> int:
    """Returns the number of columns that all groups have."""
    if not groups or not all(group.rows for group in groups):
        raise UsageError("groups are empty; allowed: 1 group of 1 row or more.")
    columns = len(groups[0].labels)
    shape = groups[0].rows[0].images.shape
    for group in groups:
        for row in group.rows:
            _check_images(row.name, row.images)
            sizes = {columns, len(group.labels), len(row.images)}
            if len(sizes) > 1 or row.images.shape[1:] != shape[1:]:
                raise UsageError(
                    f"{row.name} of {group.title!r} have the shape {row.images.shape} "
                    f"for {len(group.labels)} labels; allowed: {shape} as above."
                )
            given = row.probabilities
            if given is not None and given.shape != (columns, classes):
                raise UsageError(
                    f"probabilities of {row.name} have the shape {given.shape}; "
                    f"allowed: {(columns, classes)}."
                )
    return columns
