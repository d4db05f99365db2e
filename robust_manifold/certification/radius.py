"""Radii of nearest-prototype classifiers, within which no step changes the class.

Saralajew, Holdijk and Villmann 2020; Voráček and Hein 2022.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.spatial.distance
from jaxtyping import Bool, Float

from robust_manifold.certification.codebook import (
    Codebook,
    Given,
    checked,
    rounding,
    squared_distances,
)
from robust_manifold.certification.half_space import DUAL, ORDER
from robust_manifold.certification.programme import Programme, solve
from robust_manifold.core.errors import UsageError
from robust_manifold.core.norms import Norm

_DUAL_METRICS: dict[str, Any] = {"linf": "cityblock", "l1": "chebyshev"}
_CHUNK = 64
"""Prototypes of other classes that are looked at together."""


class Certificates(NamedTuple):
    """What is certified of each image, in one norm, plain."""

    correct: Bool[np.ndarray, " n"]
    """Whether it is nearer to its own class than to all others; a tie is wrong."""
    half_space: Float[np.ndarray, " n"]
    """min over others j of max over own i of (‖x - w_j‖² - ‖x - w_i‖²) / 2 ‖w_i - w_j‖
    in the dual norm: a radius without any programme.  0 where the image is wrong."""
    lower: Float[np.ndarray, " n"]
    """The radius: no shorter step changes the class.  At least `half_space`."""
    upper: Float[np.ndarray, " n"]
    """A length at which a step changes it; infinite if none was sought."""
    adversarial: Float[np.ndarray, "n height width channels"]
    """The image to which that step leads, as near to another class as to its own; the
    image itself if none was sought."""


def certify(
    codebook: Codebook,
    images: Any,
    labels: Any,
    norm: Norm = "l2",
    *,
    box: bool = False,
    exact: bool = True,
    on_image: Callable[[int, int], None] | None = None,
) -> Certificates:
    """Returns the radius within which each image keeps its class.

    It holds for the prototypes as they are stored, and a classifier that compares
    distances exactly; all is computed in doubles, and their rounding taken off.

    Args:
      codebook: the prototypes, pixels in [0, 1].
      images: [n, height, width, channels], pixels in [0, 1].
      labels: the true classes [n].
      norm: of the steps.
      box: whether steps must keep pixels in [0, 1], which makes radii larger.
      exact: whether to solve the programmes; else `lower` is `half_space`.
      on_image: called with (images done, n).

    Raises:
      UsageError: for images or prototypes outside [0, 1], or of different shapes.
    """
    if norm not in DUAL:
        raise UsageError(f"norm is {norm!r}; allowed: {', '.join(DUAL)}.")
    given = checked(codebook, images, labels)
    n = len(given.images)
    correct, half = np.zeros(n, bool), np.zeros(n)
    lower, upper = np.zeros(n), np.zeros(n)
    adversarial, done = np.array(given.images), 0
    for label in np.unique(given.labels):
        rows = np.flatnonzero(given.labels == label)
        for row, asked in zip(rows, _asked(given, label, rows, norm), strict=True):
            if asked is not None:
                correct[row] = True
                found = _radius(asked, box, exact)
                half[row], lower[row], upper[row] = found[:3]
                adversarial[row] += found.step
            done += 1
            if on_image is not None:
                on_image(done, n)
    shape = np.shape(images)
    return Certificates(correct, half, lower, upper, adversarial.reshape(shape))


def beyond(
    codebook: Codebook,
    images: Any,
    labels: Any,
    found: Certificates,
    norm: Norm,
    *,
    stretch: float = 1.001,
) -> Float[np.ndarray, "n height width channels"]:
    """Returns where each way out leads that goes on, into the other class.

    Beyond the border it turns to the prototype that takes it: all that lies between is
    nearer to that one than to the own class.  Straight on, it may come back.

    Args:
      codebook: the prototypes.
      images: that `certify` had.
      labels: that `certify` had.
      found: what it returned; where it sought no step, the image itself comes back.
      norm: that it had.
      stretch: how much longer than `found.upper` the way is at most, 1 or more.
    """
    given = checked(codebook, images, labels)
    border = found.adversarial.reshape(len(given.images), -1)
    squared = squared_distances(border, given.prototypes)
    own = given.classes[None] == given.labels[:, None]
    takes = given.prototypes[np.argmin(np.where(own, np.inf, squared), axis=1)]
    # The length is convex along the way, so this much of it is short enough.
    whole = np.linalg.norm(takes - given.images, ORDER[norm], axis=1) - found.upper
    longer = (stretch - 1) * np.where(np.isfinite(found.upper), found.upper, 0)
    share = _over(longer, np.maximum(whole, longer))
    ends = border + share[:, None] * (takes - border)
    return ends.reshape(found.adversarial.shape)


class _Asked(NamedTuple):
    """One image that is right, and what its class has to hold."""

    image: Float[np.ndarray, " pixels"]
    own: Float[np.ndarray, "own pixels"]
    others: Float[np.ndarray, "others pixels"]
    own_squared: Float[np.ndarray, " own"]
    others_squared: Float[np.ndarray, " others"]
    apart: Float[np.ndarray, "own others"]
    """Twice the distances of own and other prototypes in the dual norm."""
    norm: Norm
    error: float


class _Found(NamedTuple):
    half_space: float
    lower: float
    upper: float
    step: Float[np.ndarray, " pixels"]


def _asked(given: Given, label, rows, norm: Norm) -> Iterator[_Asked | None]:
    """Yields what is asked of each image of a class; None for one that is wrong."""
    is_own = given.classes == label
    own, others = given.prototypes[is_own], given.prototypes[~is_own]
    if not len(own):
        yield from [None] * len(rows)
        return
    apart = _apart(own, others, norm)
    images = given.images[rows]
    errors = 2 * rounding(images, given.prototypes)
    own_squared = squared_distances(images, own)
    others_squared = squared_distances(images, others)
    for k, error in enumerate(errors):
        near, far = own_squared[k], others_squared[k]
        right = np.min(far) - np.min(near) > error
        yield (
            _Asked(images[k], own, others, near, far, apart, norm, float(error))
            if right
            else None
        )


def _apart(own, others, norm: Norm) -> Float[np.ndarray, "own others"]:
    """Returns twice the distances in the dual norm, or a little more, never less."""
    if norm == "l2":
        # By products of matrices, ten times as fast.
        error = rounding(own, others)[:, None]
        found = np.sqrt(squared_distances(own, others) + error)
    else:
        found = scipy.spatial.distance.cdist(own, others, _DUAL_METRICS[norm])
    return 2 * found * (1 + 4 * (own.shape[1] + 16) * np.finfo(np.float64).eps)


def _radius(asked: _Asked, box: bool, exact: bool) -> _Found:
    half, best, lower = np.inf, np.inf, np.inf
    step = np.zeros_like(asked.image)
    for other, bound, floor in _rivals(asked):
        if floor >= best:
            break
        half = min(half, bound)
        if not exact:
            best = half
        elif bound < best:
            found = solve(_programme(asked, other, box), best)
            lower = min(lower, max(found.lower, bound))
            if found.upper < best:
                best, step = found.upper, found.step
    if not exact:
        return _Found(half, half, np.inf, step)
    # Those left out have bounds at or above `best`.
    return _Found(half, min(lower, best), best, step)


def _rivals(asked: _Asked) -> Iterator[tuple[int, float, float]]:
    """Yields prototypes of other classes, about the nearest first.

    Of each its bound, and one that holds for it and all that follow: the one with the
    nearest own prototype alone, which also puts them in order.
    """
    nearest_own = np.argmin(asked.own_squared)
    first = asked.others_squared - asked.own_squared[nearest_own] - asked.error
    first = _over(first, asked.apart[nearest_own])
    order = np.argsort(first)
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        gaps = asked.others_squared[chunk][None] - asked.own_squared[:, None]
        bounds = np.max(_over(gaps - asked.error, asked.apart[:, chunk]), axis=0)
        for place in np.argsort(bounds):
            yield int(chunk[place]), float(bounds[place]), float(first[chunk[0]])


def _programme(asked: _Asked, other: int, box: bool) -> Programme:
    rival = asked.others[other]
    endless = np.full_like(asked.image, np.inf)
    return Programme(
        normals=2 * (rival - asked.own),
        offsets=asked.others_squared[other] - asked.own_squared,
        inside=rival - asked.image,
        low=-asked.image if box else -endless,
        high=1 - asked.image if box else endless,
        norm=asked.norm,
        error=asked.error,
    )


def _over(gaps, apart):
    """Returns gaps / apart; 0 for two prototypes that are the same image."""
    return np.divide(gaps, apart, out=np.zeros_like(gaps), where=apart > 0)
