"""Outlines of flat things, such as road signs: convex polygons about the origin."""

import math
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

Vertices: TypeAlias = Float[np.ndarray, "vertices 2"]
"""Points (right, down) on or inside the unit circle, clockwise as they are seen."""


def _regular(count: int, first: float) -> Vertices:
    """Returns a regular polygon whose first vertex lies at an angle in degrees."""
    angles = np.deg2rad(first + 360 * np.arange(count) / count)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


OUTLINES: dict[str, Vertices] = {
    "disc": _regular(48, 0.0),
    "octagon": _regular(8, 22.5),
    "square": _regular(4, 45.0),
    "diamond": _regular(4, 0.0),
    "triangle": _regular(3, -90.0),
    "inverted_triangle": _regular(3, 90.0),
}
"""The outlines by name; a disc is a polygon of 48 sides."""

FRAME = 0.8
"""Radius of an outline's circle, in half sides of the image that it is drawn in."""


def coverage(
    outline: str, height: int, width: int, size: float = 1.0
) -> Float[np.ndarray, "height width"]:
    """Returns the share of each pixel that an outline covers, by 4 x 4 samples.

    The outline lies in the middle of the image, its circle `FRAME` of the shorter side
    across.

    >>> coverage("square", 4, 4)[:, 1].tolist()
    [0.25, 1.0, 1.0, 0.25]

    Args:
      outline: one of `OUTLINES`.
      height: of the image, in pixels.
      width: likewise.
      size: what the outline is shrunk to, above 0 and at most 1.
    """
    fine = 4
    rows = (np.arange(fine * height) + 0.5) / fine - height / 2
    columns = (np.arange(fine * width) + 0.5) / fine - width / 2
    radius = size * FRAME * min(height, width) / 2
    right, down = np.meshgrid(columns / radius, rows / radius)
    inside = np.ones(right.shape, bool)
    for normal, distance in zip(*edges(outline), strict=True):
        inside &= right * normal[0] + down * normal[1] <= distance
    return inside.reshape(height, fine, width, fine).mean((1, 3))


def edges(
    outline: str,
) -> tuple[Float[np.ndarray, "edges 2"], Float[np.ndarray, " edges"]]:
    """Returns the outward unit normals of an outline's edges, and their distances.

    A point lies inside where its product with every normal is at most the distance.
    """
    vertices = OUTLINES[outline]
    along = np.roll(vertices, -1, axis=0) - vertices
    normals = np.stack([along[:, 1], -along[:, 0]], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    distances = np.sum(normals * vertices, axis=1)
    assert math.isclose(np.linalg.norm(vertices, axis=1).max(), 1)
    return normals, distances
