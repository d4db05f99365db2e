"""Sheets of pairs: near images, what the classifier takes them for, and the judges."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import FAINT_TEXT, INK, styled
from robust_manifold.reporting.figures.pixels import (
    GAP,
    LINE,
    TEXT_SIZE,
    TITLE_SIZE,
    check_images,
    figure_of,
    pixel_axes,
    place,
    shortened,
    text_width,
    write,
    write_heading,
)

_IMAGE_SIZE = 110
_BETWEEN = 6  # the two images of a pair
_BAND = 22  # between two rows of pairs
_LINES = 3  # of text below a pair


class ShownPair(NamedTuple):
    """One pair of a sheet.

    Attributes:
      images: both, pixels in [0, 1].
      probabilities: of each class, by the attacked classifier.
      distance: of the images, in the norm that the title names.
      verdict: what judges say, in a few words ("unchanged"); empty for nothing.
    """

    images: Float[np.ndarray, "2 height width channels"]
    probabilities: Float[np.ndarray, "2 classes"]
    distance: float
    verdict: str = ""


@styled
def pair_sheet(
    pairs: Sequence[ShownPair],
    *,
    class_names: Sequence[str],
    columns: int = 6,
    title: str = "",
) -> Figure:
    """Returns a sheet of pairs, the two images of each side by side.

    Under each image stand the class that the classifier takes it for and its
    probability, then, once a pair, the distance and the judges' verdict.

    Args:
      pairs: all of one shape.
      class_names: by class number.
      columns: pairs in a row.
      title: heading of the sheet; none by default.

    Raises:
      UsageError: for no pairs, or pairs of other shapes.
    """
    _check(pairs, len(class_names), columns)
    columns = min(columns, len(pairs))
    height, width = pairs[0].images.shape[1:3]
    scale = max(1, round(_IMAGE_SIZE / width))
    height, width = scale * height, scale * width
    pitch = 2 * width + _BETWEEN + 2 * GAP
    row_height = height + _LINES * LINE + _BAND
    top = GAP + (2 * LINE if title else 0)
    axes = pixel_axes(
        max(columns * pitch, int(text_width(title, TITLE_SIZE)) + 2 * GAP),
        top + -(-len(pairs) // columns) * row_height - _BAND + GAP,
    )
    if title:
        write_heading(axes, title)
    for number, pair in enumerate(pairs):
        x = GAP + number % columns * pitch
        y = top + number // columns * row_height
        _draw(axes, pair, class_names, (x, y), (width, height))
    return figure_of(axes)


def _draw(
    axes: Axes,
    pair: ShownPair,
    class_names: Sequence[str],
    corner: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """Draws a pair with its texts below."""
    (x, y), (width, height) = corner, size
    for side, image in enumerate(pair.images):
        left = x + side * (width + _BETWEEN)
        place(axes, image, left, y, width, height)
        text = _reading(pair.probabilities[side], class_names, float(width))
        write(axes, left + width / 2, y + height + LINE / 2 + 2, text, INK)
    middle, below = x + width + _BETWEEN / 2, y + height + LINE
    room = float(2 * width + _BETWEEN)
    distance = f"distance {pair.distance:.3g}"
    write(axes, middle, below + LINE / 2, distance, FAINT_TEXT)
    write(axes, middle, below + 3 * LINE / 2, shortened(pair.verdict, room), FAINT_TEXT)


def _reading(probabilities: np.ndarray, class_names: Sequence[str], room: float) -> str:
    """Returns the predicted class and its probability, cut to the room in pixels."""
    predicted = int(np.argmax(probabilities))
    share = f"  {100 * float(probabilities[predicted]):.0f} %"
    name = shortened(class_names[predicted], room - text_width(share, TEXT_SIZE))
    return f"{name}{share}"


def _check(pairs: Sequence[ShownPair], classes: int, columns: int) -> None:
    if not pairs or columns < 1:
        raise UsageError(
            f"there are {len(pairs)} pairs in {columns} columns; allowed: 1 or more."
        )
    shape = pairs[0].images.shape
    for number, pair in enumerate(pairs):
        check_images(f"images of pair {number}", pair.images)
        if pair.images.shape != shape or shape[0] != 2:
            raise UsageError(
                f"images of pair {number} have the shape {pair.images.shape}; allowed: "
                f"{(2, *shape[1:])}, as all of the sheet."
            )
        if pair.probabilities.shape != (2, classes):
            raise UsageError(
                f"probabilities of pair {number} have the shape "
                f"{pair.probabilities.shape}; allowed: {(2, classes)}."
            )
