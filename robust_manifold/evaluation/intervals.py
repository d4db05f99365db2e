"""Confidence intervals of an accuracy."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

from scipy.special import stdtrit

from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import plain


class Interval(NamedTuple):
    """An interval of shares, 0 <= low <= high <= 1."""

    low: float
    high: float


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Returns the Wilson score interval of the share `correct / n`.

    It stays inside [0, 1] and keeps a width above zero at 0 and at n correct, where
    the textbook interval p +- z sqrt(p(1-p)/n) shrinks to a point.

    >>> low, high = wilson_interval(81, 263)
    >>> round(low, 4), round(high, 4)
    (0.2553, 0.3662)

    Args:
      correct: number of correct images, 0 to n.
      n: number of images, 1 or more.
      confidence: coverage of the interval, between 0 and 1.

    Raises:
      UsageError: for counts or a confidence outside these bounds.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical
    inference", JASA 22 (1927); without continuity correction.
    """
    if n < 1:
        raise UsageError(f"n is {n}; allowed: 1 or more.")
    if not 0 <= correct <= n:
        raise UsageError(f"correct is {correct}; allowed: 0 to n = {n}.")
    number = isinstance(plain(confidence), float | int)
    if not (number and 0 < confidence < 1):
        raise UsageError(f"confidence is {confidence!r}; allowed: above 0 and below 1.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = correct / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = (z / (1 + z**2 / n)) * math.sqrt(
        share * (1 - share) / n + z**2 / (4 * n**2)
    )
    # Exactly 0 and 1 at the ends, where the two terms cancel but for rounding.
    low = 0.0 if correct == 0 else max(0.0, centre - half_width)
    high = 1.0 if correct == n else min(1.0, centre + half_width)
    return Interval(low, high)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Returns Student's interval of the mean of shares, within [0, 1].

    >>> low, high = mean_interval([0.82, 0.84, 0.86])
    >>> round(low, 4), round(high, 4)
    (0.7903, 0.8897)

    Args:
      values: of 2 runs or more.
      confidence: coverage of the interval, between 0 and 1.

    Raises:
      UsageError: for fewer values.

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    n = len(values)
    if n < 2:
        raise UsageError(f"values are {n}; allowed: 2 or more.")
    half_width = float(stdtrit(n - 1, (1 + confidence) / 2)) * stdev(values) / n**0.5
    mean = fmean(values)
    return Interval(max(0.0, mean - half_width), min(1.0, mean + half_width))
