"""Sheets of single images beside their projections and what differs between them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import (
    FAINT_TEXT,
    INK,
    WRONG,
    legible,
    styled,
)
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
_BETWEEN = 4  # the pictures of one image
_BAND = 22  # between two rows of images
_NAMES = ("original", "projection", "difference")


class ProjectedImage(NamedTuple):
    """One image of a sheet.

    Attributes:
      name: written above it.
      original: pixels in [0, 1].
      projection: of the same shape; a NaN is drawn as mid gray.
      error: written below it.
      rejected: whether to mark it as too far from the generator's images.
    """

    name: str
    original: Float[np.ndarray, "height width channels"]
    projection: Float[np.ndarray, "height width channels"]
    error: float
    rejected: bool = False


@styled
def side_by_side(
    images: Sequence[ProjectedImage], *, columns: int = 10, title: str = ""
) -> Figure:
    """Returns a sheet with original, projection and absolute difference of each image.

    The error stands below; a rejected image has a red frame and the word "rejected".

    Args:
      images: all of one shape.
      columns: images in a row.
      title: heading of the sheet; none by default.
    """
    _check(images, columns)
    columns = min(columns, len(images))
    height, width = images[0].original.shape[:2]
    scale = max(1, round(_IMAGE_SIZE / width))
    height, width = scale * height, scale * width
    written = [text_width(_verdict(image), TEXT_SIZE) for image in images]
    pitch = GAP + max(width, int(max(written)) + 1)
    left = int(max(text_width(name, TEXT_SIZE) for name in _NAMES)) + 2 * GAP
    row_height = LINE + 3 * height + 2 * _BETWEEN + LINE + _BAND
    top = GAP + (2 * LINE if title else 0)
    axes = pixel_axes(
        max(left + columns * pitch, int(text_width(title, TITLE_SIZE)) + 2 * GAP),
        top + -(-len(images) // columns) * row_height - _BAND + GAP,
    )
    if title:
        write_heading(axes, title)
    for start in range(0, len(images), columns):
        y = top + start // columns * row_height
        for place_, name in enumerate(_NAMES):
            middle = y + LINE + place_ * (height + _BETWEEN) + height / 2
            write(axes, left - GAP, middle, name, FAINT_TEXT, "right")
        for column, image in enumerate(images[start : start + columns]):
            x = left + column * pitch + (pitch - GAP - width) // 2
            _draw(axes, image, x, y, width, height, pitch - GAP)
    return figure_of(axes)


def _draw(
    axes: Axes,
    image: ProjectedImage,
    x: int,
    y: int,
    width: int,
    height: int,
    room: int,
) -> None:
    """Draws one image with its name above and its error below."""
    middle = x + width / 2
    colour = WRONG if image.rejected else INK
    # The end of a path tells more than its beginning.
    name = shortened(legible(image.name)[::-1], float(room))[::-1]
    write(axes, middle, y + LINE / 2 - 4, name, FAINT_TEXT)
    top = y + LINE
    difference = np.abs(image.projection - image.original)
    for pixels in (image.original, image.projection, difference):
        place(axes, pixels, x, top, width, height)
        top += height + _BETWEEN
    if image.rejected:
        whole = 3 * height + 2 * _BETWEEN
        frame = Rectangle(
            (x - 3, y + LINE - 3),
            width + 6,
            whole + 6,
            fill=False,
            edgecolor=WRONG,
            linewidth=2,
        )
        axes.add_patch(frame)
    write(axes, middle, top + LINE / 2 - 1, _verdict(image), colour)


def _verdict(image: ProjectedImage) -> str:
    """Returns what is written below an image."""
    return f"✗ rejected {image.error:.4f}" if image.rejected else f"{image.error:.4f}"


def _check(images: Sequence[ProjectedImage], columns: int) -> None:
    if not images or columns < 1:
        raise UsageError(
            f"there are {len(images)} images in {columns} columns; allowed: 1 or more."
        )
    shape = images[0].original.shape
    for image in images:
        for pixels in (image.original, image.projection):
            check_images(image.name, pixels[None])
            if pixels.shape != shape:
                raise UsageError(
                    f"{image.name} has the shape {pixels.shape}; allowed: {shape}, as "
                    "all of the sheet."
                )
