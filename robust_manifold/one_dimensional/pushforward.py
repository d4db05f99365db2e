"""The distribution of a generator on the real line, and its distance from another.

A generator G of one latent carries equal shares of the latents between neighbouring
knots to the numbers between their images.  With G taken as linear there, the share in
every bin is exact: nothing is drawn, and nothing is smoothed.
"""

import numpy as np
from jaxtyping import Bool, Float


def masses(
    edges: Float[np.ndarray, " edges"], images: Float[np.ndarray, " knots"]
) -> Float[np.ndarray, " bins"]:
    """Returns the probability of each bin, the first and the last without end.

    Args:
      edges: between the bins, ascending; there is one bin more.
      images: G at knots between any two neighbours of which lies an equal share of the
        latents, such as equally spaced ones for a uniform latent; at least 2.
    """
    low, high = np.minimum(images[:-1], images[1:]), np.maximum(images[:-1], images[1:])
    width = high - low
    into = edges[:, None] - low
    # Where G is flat, all of a share lies at one number.
    part = np.where(width > 0, into / np.where(width > 0, width, 1), into >= 0)
    below = np.clip(part, 0, 1).mean(axis=1)
    return np.diff(below, prepend=0.0, append=1.0)


def total_variation(
    first: Float[np.ndarray, " bins"], second: Float[np.ndarray, " bins"]
) -> float:
    """Returns the total variation distance of two distributions over the same bins.

    It is half the sum of the absolute differences, from 0 to 1, and never above the
    distance of the distributions that the bins were filled from.
    """
    return float(0.5 * np.abs(first - second).sum())


def highest_density(
    density: Float[np.ndarray, " bins"], share: float
) -> Bool[np.ndarray, " bins"]:
    """Returns which of equally wide bins make up the smallest set with this share.

    Args:
      density: of each bin, in any unit.
      share: of the sum over the bins, in (0, 1].
    """
    order = np.argsort(-density, kind="stable")
    filled = np.cumsum(density[order])
    count = int(np.searchsorted(filled, share * filled[-1])) + 1
    chosen = np.zeros(len(density), bool)
    chosen[order[:count]] = True
    return chosen
