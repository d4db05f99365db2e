"""What a check says, and when a difference of counts is more than luck."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool

from robust_manifold.core.errors import UsageError

Verdict: TypeAlias = Literal["PASS", "FLAG", "SKIPPED"]

CHANCE = 0.01
"""A difference between two attacks on the same images that would come about by luck
with at most this probability, were both equally strong, is no luck."""


class Check(NamedTuple):
    """One check of an evaluation.

    Attributes:
      name: one of `NAMES`.
      verdict: "FLAG" where a figure misleads, "PASS" where nothing speaks against it,
        "SKIPPED" where what is needed was not given.
      value: the number that the verdict rests on; the sentence says what it is.
      sentence: what was seen, and what follows from it, for a reader of the report.
    """

    name: str
    verdict: Verdict
    value: float | None
    sentence: str


def judged(flagged: bool, name: str, value: float | None, sentence: str) -> Check:
    """Returns a check that was made."""
    return Check(name, "FLAG" if flagged else "PASS", _plain(value), sentence)


def skipped(name: str, reason: str) -> Check:
    """Returns a check that could not be made, and why."""
    return Check(name, "SKIPPED", None, f"Not checked: {reason}.")


def percent(share: float) -> str:
    """Returns a share as readers say it.

    >>> percent(0.125), percent(0.004), percent(1.0)
    ('12 %', '0.4 %', '100 %')
    """
    shown = 100 * share
    return f"{shown:.1f} %" if 0 < shown < 1 else f"{shown:.0f} %"


def some(count: int, n: int, what: str = "image") -> str:
    """Returns a count with its share.

    >>> some(3, 24), some(1, 1)
    ('3 of 24 images (12 %)', '1 of 1 image (100 %)')
    """
    return f"{count} of {n} {what}{'' if n == 1 else 's'} ({percent(count / n)})"


class Paired(NamedTuple):
    """Two attacks on the same images.

    Attributes:
      n: number of images.
      first: how many the first broke.
      second: how many the second broke.
      only_first: broken by the first alone.
      only_second: broken by the second alone.
    """

    n: int
    first: int
    second: int
    only_first: int
    only_second: int

    @property
    def second_is_stronger(self) -> bool:
        """Whether the second breaks more than the first, beyond luck.

        An image that both break, or neither, says nothing.  Of the others each would
        fall to either attack with equal probability, were both equally strong: the
        exact sign test (McNemar), one-sided.
        """
        return sign_test(self.only_second, self.only_first) <= CHANCE


def paired(first: Bool[np.ndarray, "..."], second: Bool[np.ndarray, "..."]) -> Paired:
    """Returns how two attacks compare, image by image.

    Args:
      first: whether each image fell to the first attack.
      second: whether it fell to the second.

    Raises:
      UsageError: unless both are of the same images, at least one.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise UsageError(
            f"outcomes have shapes {first.shape} and {second.shape}; allowed: one of "
            "each image, the same images in both."
        )
    return Paired(
        n=len(first),
        first=int(first.sum()),
        second=int(second.sum()),
        only_first=int((first & ~second).sum()),
        only_second=int((second & ~first).sum()),
    )


def sign_test(more: int, fewer: int) -> float:
    """Returns how probable `more` or more heads are in `more + fewer` fair throws.

    >>> sign_test(7, 0), sign_test(0, 0)
    (0.0078125, 1.0)
    """
    n = more + fewer
    return sum(math.comb(n, k) for k in range(more, n + 1)) / 2**n


def share(flags: Sequence[bool] | Bool[np.ndarray, " n"]) -> float:
    """Returns the share of the images for which something holds."""
    return float(np.mean(np.asarray(flags, bool)))


def _plain(value: float | None) -> float | None:
    """Returns a number that JSON can hold; None for one that is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)
