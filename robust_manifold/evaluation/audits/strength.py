"""The check of a worst case by one stronger pass over what it has left."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from robust_manifold.evaluation.audits.check import (
    Check,
    judged,
    percent,
    sign_test,
    skipped,
)
from robust_manifold.evaluation.worst_case import Budget

STRENGTH = "stronger pass"

LEAST = 0.01
"""Share of all images that a stronger pass may not break beside the others."""
CHANCE = 0.05
"""The probability of so many by luck, if both were equally strong, below which there
are more than none."""
_NAMED = 3


def stronger_pass(
    before: Bool[np.ndarray, " n"],
    after: Bool[np.ndarray, " n"],
    budget: Budget,
    by: Mapping[str, int] | str,
    asked: Bool[np.ndarray, " n"] | None = None,
) -> Check:
    """Returns whether a stronger pass leaves a worst case as it is.

    An image counts that is right before and wrong after it.  It is flagged where they
    are at least one in a hundred of all images, and too many for luck (the exact sign
    test of McNemar, one-sided: five are).

    Args:
      before: whether each image is right under all attacks of the worst case.
      after: whether it is right under the stronger pass, too.
      budget: of both.
      by: what the stronger pass was, or its members with what each of them broke.
      asked: the images that it was made on, by default all that are right before; of
        some of these the share of all images is estimated.
    """
    before, after = np.asarray(before, bool), np.asarray(after, bool)
    asked = before if asked is None else before & np.asarray(asked, bool)
    place = f"{budget.norm} {budget.epsilon:g}"
    n, left, given = len(before), int(before.sum()), int(asked.sum())
    if not given:
        return skipped(STRENGTH, f"at {place} nothing is left to be broken")
    fallen = int(np.sum(asked & ~after))
    share = fallen / given * left / n
    told = (
        f"At {place} a stronger pass broke {fallen} of {_images(given, left)}, "
        f"{percent(share)} of all {n}"
    )
    if share < LEAST or sign_test(fallen, 0) >= CHANCE:
        return judged(False, STRENGTH, share, f"{told}.")
    return judged(
        True,
        STRENGTH,
        share,
        f"{told}: {percent(left / n)} is no worst case, {percent(left / n - share)} "
        f"is nearer to it. They fell to {_named(by)}.",
    )


def at_all_budgets(checks: Sequence[Check]) -> Check:
    """Returns one check for those of all budgets: the largest loss speaks for all."""
    made = [check for check in checks if check.verdict != "SKIPPED"]
    if not made:
        return checks[0]
    flags = [check for check in made if check.verdict == "FLAG"]
    worst = max(flags or made, key=lambda check: check.value or 0.0)
    others = len(flags or made) - 1
    if not others:
        return worst
    where = f"{others} more budget{'' if others == 1 else 's'}"
    more = f"So it is at {where}." if flags else f"No more of them at {where}."
    return worst._replace(sentence=f"{worst.sentence} {more}")


def _images(given: int, left: int) -> str:
    if given == left:
        return f"the {left} images that were left"
    return f"{given} of the {left} images that were left"


def _named(by: Mapping[str, int] | str) -> str:
    """Returns what broke the images, the strongest members first."""
    if isinstance(by, str):
        return by
    order = sorted((name for name in by if by[name]), key=lambda name: -by[name])
    told = "; ".join(f"{name} ({by[name]})" for name in order[:_NAMED])
    rest = sum(by[name] for name in order[_NAMED:])
    return f"{told}; others ({rest})" if rest else told
