"""How far an image is from a half-space, in all norms, inside a box or not."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from robust_manifold.core.norms import Norm

DUAL: dict[Norm, float] = {"linf": 1, "l2": 2, "l1": np.inf}
"""The order of the norm that bounds a product together with each norm."""
ORDER: dict[Norm, float] = {"linf": np.inf, "l2": 2, "l1": 1}


class Nearest(NamedTuple):
    """The shortest way into a half-space."""

    distance: float
    """Plain; infinite where the box does not meet the half-space."""
    step: Float[np.ndarray, " pixels"]
    """That leads there; the farthest within the box where it does not."""


def nearest(
    normal: Float[np.ndarray, " pixels"],
    offset: float,
    low: Float[np.ndarray, " pixels"],
    high: Float[np.ndarray, " pixels"],
    norm: Norm,
) -> Nearest:
    """Returns the smallest step with normal · step >= offset and low <= step <= high.

    Without bounds its length is offset / ‖normal‖ in the dual norm.

    Args:
      normal: of the half-space.
      offset: of the half-space; 0 and below is met by no step at all.
      low: 0 or less, perhaps -inf.
      high: 0 or more, perhaps inf.
      norm: of the step.
    """
    if offset <= 0:
        return Nearest(0.0, np.zeros_like(normal))
    size, sign = np.abs(normal), np.sign(normal)
    room = np.where(size > 0, np.where(sign > 0, high, -low), 0)
    if np.sum(size * room, where=size > 0) < offset:
        return Nearest(np.inf, sign * room)
    if norm == "l1":
        step = _filled(size, offset, room)
    elif norm == "linf":
        step = np.minimum(_reached(size, offset, room), room)
    else:
        # Where the room ends, a pixel stops; the others go on, each with its size.
        ends = np.divide(room, size, out=np.zeros_like(size), where=size > 0)
        step = np.minimum(_reached(size**2, offset, ends) * size, room)
    return Nearest(float(np.linalg.norm(step, ORDER[norm])), sign * step)


def _reached(slopes, offset: float, ends) -> float:
    """Returns the t at which the sum of slopes * min(t, ends) is the offset."""
    order = np.argsort(ends)
    slopes, ends = slopes[order], ends[order]
    finite = np.where(slopes > 0, ends, 0)
    # Those that have ended before each knot, and the slope of all the others.
    ended = np.cumsum(np.where(np.isfinite(finite), slopes * finite, 0))
    rest = np.maximum(np.sum(slopes) - np.cumsum(slopes), 0)
    ended, rest = np.append(0.0, ended), np.append(np.sum(slopes), rest)
    with np.errstate(divide="ignore", invalid="ignore"):
        times = (offset - ended) / rest
    knots = np.append(ends, np.inf)
    # The first piece that reaches the offset before its end.
    place = int(np.argmax(times <= knots))
    return float(times[place])


def _filled(size, offset: float, room):
    """Returns the step that spends its length where it counts most."""
    order = np.argsort(-size)
    size, room = size[order], room[order]
    gained = np.append(0.0, np.cumsum(size * np.where(size > 0, room, 0)))
    missing = np.maximum(offset - gained[:-1], 0)
    spent = np.divide(missing, size, out=np.zeros_like(size), where=size > 0)
    step = np.empty_like(size)
    step[order] = np.minimum(spent, room)
    return step
