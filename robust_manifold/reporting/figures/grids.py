"""Grids of a generator's images: samples, interpolations, nearest training images."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import FAINT, FAINT_TEXT, styled
from robust_manifold.reporting.figures.pixels import (
    GAP,
    LINE,
    TEXT_SIZE,
    TITLE_SIZE,
    check_images,
    drawable,
    figure_of,
    pixel_axes,
    place,
    text_width,
    write,
    write_heading,
)

_GRID_SIZE = 1100
_NEIGHBOUR_SIZE = 100
_BAND = 18  # between two pairs of a sample and its neighbour


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
    check_images("images", images)
    if columns < 1:
        raise UsageError(f"columns is {columns}; allowed: 1 or more.")
    sheet = _joined(images, min(columns, len(images)))
    scale = max(1, round(_GRID_SIZE / sheet.shape[1]))
    height, width = scale * sheet.shape[0], scale * sheet.shape[1]
    top = _top(title)
    axes = pixel_axes(_total_width(title, width), top + height + GAP)
    if title:
        write_heading(axes, title)
    place(axes, sheet, GAP, top, width, height)
    return figure_of(axes)


@styled
def interpolation_grid(
    images: Float[np.ndarray, "rows columns height width channels"],
    *,
    title: str = "",
    ends: tuple[str, str] = ("G(z)", "G(z′)"),
) -> Figure:
    """Returns a sheet whose rows lead from one latent's image to another's.

    Smooth ways through recognisable images speak for a generator, jumps and blurred
    middles against it.

    Args:
      images: of latents at equal steps from z to z′ along each row; gray or RGB,
        pixels in [0, 1].
      title: heading of the sheet; none by default.
      ends: written above the first and the last column.
    """
    rows, columns = images.shape[:2]
    flat = images.reshape(rows * columns, *images.shape[2:])
    check_images("images", flat)
    if columns < 2:
        raise UsageError(f"images have {columns} columns; allowed: 2 or more.")
    sheet = _joined(flat, columns)
    scale = max(1, round(_GRID_SIZE / sheet.shape[1]))
    height, width = scale * sheet.shape[0], scale * sheet.shape[1]
    image_width = scale * images.shape[3]
    widest = max(text_width(end, TEXT_SIZE) for end in ends)
    # A label wider than its image needs room at the sheet's side.
    side = GAP + max(0, round((widest - image_width) / 2))
    top = _top(title) + LINE
    axes = pixel_axes(
        max(_total_width(title, width), width + 2 * side), top + height + GAP
    )
    if title:
        write_heading(axes, title)
    place(axes, sheet, side, top, width, height)
    first, last = side + image_width / 2, side + width - image_width / 2
    middle = top - LINE / 2 - 2
    write(axes, first, middle, ends[0], FAINT_TEXT)
    write(axes, last, middle, ends[1], FAINT_TEXT)
    margin = widest / 2 + GAP
    if last - first > 3 * margin:
        axes.annotate(
            "",
            (last - margin, middle),
            (first + margin, middle),
            arrowprops={
                "arrowstyle": "-|>,head_length=0.3,head_width=0.15",
                "color": FAINT,
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
    return figure_of(axes)


@styled
def neighbour_grid(
    samples: Float[np.ndarray, "n height width channels"],
    neighbours: Float[np.ndarray, "n height width channels"],
    distances: Float[np.ndarray, " n"],
    *,
    columns: int = 10,
    title: str = "",
) -> Figure:
    """Returns a sheet with each sample above its nearest training image.

    A generator that makes training images anew shows pairs of twins, at distances
    near 0.

    Args:
      samples: gray or RGB, pixels in [0, 1].
      neighbours: the training image nearest to each.
      distances: plain Euclidean norm of the difference of each pair.
      columns: pairs in a row.
      title: heading of the sheet; none by default.
    """
    check_images("samples", samples)
    check_images("neighbours", neighbours)
    if samples.shape != neighbours.shape or len(distances) != len(samples):
        raise UsageError(
            f"neighbours have the shape {neighbours.shape} and distances "
            f"{distances.shape}; allowed: {samples.shape} and ({len(samples)},), as "
            "the samples."
        )
    if columns < 1:
        raise UsageError(f"columns is {columns}; allowed: 1 or more.")
    columns = min(columns, len(samples))
    scale = max(1, round(_NEIGHBOUR_SIZE / samples.shape[2]))
    height, width = scale * samples.shape[1], scale * samples.shape[2]
    gap = max(2, scale)
    texts = [f"{distance:.2f}" for distance in distances]
    pitch = GAP + max(width, *(int(text_width(text, TEXT_SIZE)) for text in texts))
    names = ("sample", "nearest", "distance")
    left = int(max(text_width(name, TEXT_SIZE) for name in names)) + 2 * GAP
    row_height = 2 * height + gap + LINE + _BAND
    rows = -(-len(samples) // columns)
    top = _top(title)
    axes = pixel_axes(
        _total_width(title, left + columns * pitch - GAP),
        top + rows * row_height - _BAND + GAP,
    )
    if title:
        write_heading(axes, title)
    for row in range(rows):
        y = top + row * row_height
        for name, middle in zip(
            names,
            (height / 2, gap + 1.5 * height, 2 * height + gap + LINE / 2 + 2),
            strict=True,
        ):
            write(axes, left - GAP, y + middle, name, FAINT_TEXT, "right")
    for position, pair in enumerate(zip(samples, neighbours, texts, strict=True)):
        row, column = divmod(position, columns)
        x = left + column * pitch + (pitch - GAP - width) // 2
        y = top + row * row_height
        place(axes, pair[0], x, y, width, height)
        place(axes, pair[1], x, y + height + gap, width, height)
        below = y + 2 * height + gap + LINE / 2 + 2
        write(axes, x + width / 2, below, pair[2], FAINT_TEXT)
    return figure_of(axes)


def _joined(images: np.ndarray, columns: int) -> np.ndarray:
    """Returns one image of all, in rows with white gaps between them."""
    n, height, width, _ = images.shape
    rows = -(-n // columns)
    gap = max(1, width // 28)
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for position, image in enumerate(images):
        row, column = divmod(position, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = drawable(image)
    return sheet


def _top(title: str) -> int:
    return GAP + (2 * LINE if title else 0)


def _total_width(title: str, width: int) -> int:
    return max(width, int(text_width(title, TITLE_SIZE))) + 2 * GAP
