"""Sheets of examples: images, their attacks and projections, and what they read as."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import FAINT_TEXT, RIGHT, WRONG, styled
from robust_manifold.reporting.figures.pixels import (
    GAP,
    LINE,
    TEXT_SIZE,
    TITLE_SIZE,
    check_images,
    figure_of,
    heading,
    pixel_axes,
    place,
    shortened,
    text_width,
    write,
)

_IMAGE_SIZE = 140
_HEAD = 68


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
      title: heading of the group ("FGSM ε=0.2"); empty for none.
      labels: true classes of the columns.
      rows: for instance original, adversarial and projection.
    """

    title: str
    labels: Int[np.ndarray, " columns"]
    rows: Sequence[SheetRow]


@styled
def projection_sheet(
    groups: Sequence[SheetGroup], *, class_names: Sequence[str]
) -> Figure:
    """Returns a sheet of examples in columns, a group of rows for each attack.

    Under each image stand the predicted class and its probability, green with a
    check mark where it is the true class, red with a cross where it is not:
    "✓ 7  98 %"; with two classes "✓ P(man) 0.98".

    Args:
      groups: one for each attack; all with the same number of columns.
      class_names: by class number.
    """
    columns = _check_groups(groups, len(class_names))
    layout = _layout_of(groups, class_names)
    widest_title = max(text_width(group.title, TITLE_SIZE) for group in groups)
    width = max(layout.left + columns * layout.pitch, int(widest_title) + 2 * GAP)
    height = GAP + sum(layout.height_of_group(group) for group in groups)
    axes = pixel_axes(width, height)
    top = GAP
    for position, group in enumerate(groups):
        if position:
            axes.plot([GAP, width - GAP], [top, top], color="#d0d7de", lw=0.8)
        _draw_group(axes, layout, top, group)
        top += layout.height_of_group(group)
    return figure_of(axes)


class _Layout(NamedTuple):
    """Where the parts of a sheet go, in pixels, and what its classes are called."""

    left: int
    pitch: int
    width: int
    height: int
    lines: int
    names: list[str]

    def height_of_row(self, row: SheetRow) -> int:
        written = 0 if row.probabilities is None else self.lines * LINE
        return self.height + GAP + written

    def height_of_group(self, group: SheetGroup) -> int:
        rows = sum(self.height_of_row(row) for row in group.rows)
        return _head(group) + 2 * GAP + rows


def _layout_of(groups: Sequence[SheetGroup], class_names: Sequence[str]) -> _Layout:
    height, width = groups[0].rows[0].images.shape[1:3]
    scale = max(1, round(_IMAGE_SIZE / width))
    pitch = scale * width + GAP
    of_two = len(class_names) == 2
    room = pitch - GAP - text_width(f"✗ {_verdict('', 1.0, of_two)[0]}", TEXT_SIZE)
    names = [shortened(name, room) for name in class_names]
    written = ["✗ " + "  ".join(_verdict(name, 1.0, of_two)) for name in names]
    widest = max(text_width(text, TEXT_SIZE) for text in written)
    row_names = ["true class", *(row.name for group in groups for row in group.rows)]
    return _Layout(
        left=int(max(text_width(n, TITLE_SIZE) for n in row_names)) + 2 * GAP,
        pitch=pitch,
        width=scale * width,
        height=scale * height,
        # Class and probability share a line where the longest of them fits.
        lines=1 if widest <= pitch - GAP / 2 else 2,
        names=names,
    )


def _head(group: SheetGroup) -> int:
    """Returns the height of the heading and the line of classes, in pixels."""
    return _HEAD if group.title else _HEAD - 2 * LINE + GAP // 2


def _verdict(name: str, probability: float, of_two: bool) -> tuple[str, str]:
    """Returns how a class and its probability are written."""
    if of_two:
        return f"P({name})", f"{probability:.2f}"
    return name, f"{100 * probability:.0f} %"


def _draw_group(axes: Axes, layout: _Layout, top: int, group: SheetGroup) -> None:
    """Draws a group of rows below `top`."""
    top += GAP
    if group.title:
        axes.text(GAP, top + LINE / 2, group.title, **heading())
    top += _head(group)
    above = top - LINE / 2 - 2
    write(axes, layout.left - GAP, above, "true class", FAINT_TEXT, "right")
    for column, label in enumerate(group.labels):
        middle = layout.left + column * layout.pitch + layout.width / 2
        write(axes, middle, above, layout.names[label], FAINT_TEXT)
    for row in group.rows:
        axes.text(
            layout.left - GAP,
            top + layout.height / 2,
            row.name,
            ha="right",
            va="center",
            fontsize=TITLE_SIZE - 1,
        )
        for column, image in enumerate(row.images):
            x = layout.left + column * layout.pitch
            place(axes, image, x, top, layout.width, layout.height)
            if row.probabilities is not None:
                below = (x + layout.width / 2, top + layout.height + LINE / 2 + 3)
                label = int(group.labels[column])
                _write_verdict(axes, layout, below, row.probabilities[column], label)
        top += layout.height_of_row(row)


def _write_verdict(
    axes: Axes,
    layout: _Layout,
    position: tuple[float, float],
    probabilities: np.ndarray,
    label: int,
) -> None:
    """Writes what a classifier says of one image, right or wrong."""
    x, y = position
    predicted = int(np.argmax(probabilities))
    right = predicted == label
    colour = RIGHT if right else WRONG
    name, confidence = _verdict(
        layout.names[predicted], float(probabilities[predicted]), len(layout.names) == 2
    )
    verdict = f"{'✓' if right else '✗'} {name}"
    if layout.lines == 1:
        write(axes, x, y, f"{verdict}  {confidence}", colour)
    else:
        write(axes, x, y, verdict, colour)
        write(axes, x, y + LINE, confidence, colour)


def _check_groups(groups: Sequence[SheetGroup], classes: int) -> int:
    """Returns the number of columns that all groups have."""
    if not groups or not all(group.rows for group in groups):
        raise UsageError("groups are empty; allowed: 1 group of 1 row or more.")
    columns = len(groups[0].labels)
    shape = groups[0].rows[0].images.shape
    for group in groups:
        for row in group.rows:
            check_images(row.name, row.images)
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
