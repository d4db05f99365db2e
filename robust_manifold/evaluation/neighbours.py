"""Nearest neighbours among images or feature vectors, in chunks of bounded memory."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from robust_manifold.core.errors import UsageError

_BLOCK = 2**22
"""Numbers in double precision that one step holds at once: 32 MiB."""

_SAME = 1e-12
"""Squared distance, relative to the vectors, below which single precision ends."""


class NearestNeighbours(NamedTuple):
    """The nearest image of each query."""

    indices: Int[np.ndarray, " queries"]
    """Which of the images it is; the first one of several at equal distance."""
    distances: Float[np.ndarray, " queries"]
    """Plain Euclidean norm of the difference, over all pixels in [0, 1]."""


def nearest_neighbours(
    queries: Shaped[np.ndarray, "queries height width channels"],
    images: Shaped[np.ndarray, "images height width channels"],
) -> NearestNeighbours:
    """Returns the image nearest to each query, by the Euclidean norm over all pixels.

    A generator's samples beside their nearest training images show what it knows by
    heart.

    Args:
      queries: floats, pixels in [0, 1]; or uint8, which count as 255ths.
      images: as `queries`.

    Raises:
      UsageError: if there are no images, or their type is neither.
    """
    if not len(images):
        raise UsageError("images hold 0 images; allowed: 1 or more.")
    wanted = _rows(queries)
    if queries.shape[1:] != images.shape[1:]:
        raise UsageError(
            f"images have the shape {images.shape[1:]}; allowed: {queries.shape[1:]}, "
            "as the queries."
        )
    best = np.full(len(queries), np.inf)
    indices = np.zeros(len(queries), int)
    width = max(1, wanted.shape[1])
    for part in _parts(len(images), width + len(queries)):
        squared = squared_distances(wanted, _rows(images[part]))
        nearest = squared.argmin(axis=1)
        found = squared[np.arange(len(queries)), nearest]
        closer = found < best
        best = np.where(closer, found, best)
        indices = np.where(closer, part.start + nearest, indices)
    # Anew from the differences, which lose no digits between like images.
    distances = [
        float(np.linalg.norm(query - _rows(images[index : index + 1])[0]))
        for query, index in zip(wanted, indices, strict=True)
    ]
    return NearestNeighbours(indices, np.array(distances, float))


def radii(features: Float[np.ndarray, "n d"], k: int) -> Float[np.ndarray, " n"]:
    """Returns the squared distance of each vector to its k-th nearest other one.

    Raises:
      UsageError: unless there are more than `k` vectors.
    """
    if not 1 <= k < len(features):
        raise UsageError(
            f"k is {k}; allowed: 1 to {len(features) - 1}, one less than the number "
            "of images."
        )
    found = np.empty(len(features))
    for part, squared in distance_blocks(features, features):
        # Every vector is its own nearest one, which does not count.
        squared[np.arange(len(squared)), np.arange(len(features))[part]] = 0
        found[part] = np.partition(squared, k, axis=1)[:, k]
    return found


def distance_blocks(
    left: Float[np.ndarray, "m d"], right: Float[np.ndarray, "n d"]
) -> Iterator[tuple[slice, Float[np.ndarray, "block n"]]]:
    """Yields slices of `left` with the squared distances of its vectors to `right`."""
    for part in _parts(len(left), len(right)):
        yield part, squared_distances(left[part], right)


def squared_distances(
    left: Float[np.ndarray, "m d"], right: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "m n"]:
    """Returns the squared Euclidean distance of each vector to each other.

    What is smaller than the rounding of single precision is 0: copies of a vector
    have no distance, although they are subtracted as squares.
    """
    lengths = [np.einsum("nd,nd->n", vectors, vectors) for vectors in (left, right)]
    scale = lengths[0][:, None] + lengths[1][None]
    squared = scale - 2 * (left @ right.T)
    squared[squared <= _SAME * scale] = 0
    return squared


def _parts(count: int, width: int) -> Iterator[slice]:
    """Yields slices of `count` rows, each of at most `_BLOCK` numbers or one row."""
    rows = max(1, _BLOCK // max(1, width))
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def _rows(images: np.ndarray) -> Float[np.ndarray, "n d"]:
    """Returns the images as vectors in double precision."""
    if images.dtype == np.uint8:
        images = images / np.float64(255)
    elif not np.issubdtype(images.dtype, np.floating):
        raise UsageError(
            f"images have type {images.dtype}; allowed: floats with pixels in [0, 1], "
            "or uint8."
        )
    elif not np.isfinite(images).all():
        raise UsageError("images hold a pixel that is not finite; allowed: numbers.")
    vectors = images.reshape(len(images), math.prod(images.shape[1:]))
    return vectors.astype(np.float64, copy=False)
