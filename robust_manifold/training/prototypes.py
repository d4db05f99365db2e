"""Where the prototypes of a codebook start: k-means of each class."""

import jax
import numpy as np
from jaxtyping import Float, Int

from robust_manifold.core import keys
from robust_manifold.core.types import PRNGKey


def centres(
    images: Float[np.ndarray, "n height width channels"],
    labels: Int[np.ndarray, " n"],
    *,
    classes: int,
    per_class: int,
    rounds: int,
    key: PRNGKey,
) -> Float[np.ndarray, "classes per_class height width channels"]:
    """Returns the centres of each class after some rounds of Lloyd's algorithm.

    They start as images of the class, which they stay without a round.  A centre that
    no image is nearest to stays where it is, and a class without images is grey.
    """
    shape, found = images.shape[1:], []
    for label in range(classes):
        rows = images[labels == label].reshape(-1, int(np.prod(shape)))
        if not len(rows):
            found.append(np.full((per_class, rows.shape[1]), 0.5, images.dtype))
            continue
        data = jax.random.key_data(keys.stream(key, f"class {label}"))
        random = np.random.default_rng(np.asarray(data))
        # Twice the same image only where there are too few.
        order = np.concatenate(
            [random.permutation(len(rows)) for _ in range(-(-per_class // len(rows)))]
        )
        means = rows[order[:per_class]]
        for _ in range(rounds):
            means = _means(rows, means)
        found.append(means)
    return np.stack(found).reshape(classes, per_class, *shape)


def _means(rows, means):
    """Returns the mean of the rows that are nearest to each mean."""
    nearest = np.argmin(np.sum(means**2, 1)[None] - 2 * rows @ means.T, axis=1)
    sums = np.zeros_like(means)
    np.add.at(sums, nearest, rows)
    counts = np.bincount(nearest, minlength=len(means))[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), means).astype(rows.dtype)
