"""Checks of an attack's search: what it passed by, and whether it came to an end."""

import numpy as np
from jaxtyping import Bool, Float

from robust_manifold.evaluation.audits.check import (
    Check,
    judged,
    percent,
    skipped,
    some,
)

SILENT_SUCCESS = "silent success"
UNFINISHED = "unfinished search"
COST = "cost"

MOVING = 0.1
"""Share of its whole gain that a search may still make at the end."""
UNFINISHED_IMAGES = 0.1
"""Share of the images whose search may still be moving at the end."""
_LAST = 10
_FEW = 10


def silent_success(
    met: Bool[np.ndarray, " n"], broken: Bool[np.ndarray, " n"]
) -> Check:
    """Returns whether the attack returns an adversarial image wherever it met one.

    Args:
      met: whether some image that the attack looked at for each of the images was
        adversarial, in the budget and in [0, 1].
      broken: whether what it returned is.
    """
    lost, n = int(np.sum(met & ~broken)), len(met)
    if not lost:
        return judged(
            False,
            SILENT_SUCCESS,
            0.0,
            "Wherever the attack met an adversarial image, it returned one.",
        )
    return judged(
        True,
        SILENT_SUCCESS,
        lost / n,
        f"For {some(lost, n)} the attack looked at an adversarial image and returned "
        "one that is not: accuracy is overrated by as much. Return the best image met.",
    )


def unfinished_search(
    losses: Float[np.ndarray, "n looks"], broken: Bool[np.ndarray, " n"]
) -> Check:
    """Returns whether more steps would find little more.

    The best loss met rises; an image's search still moves if the last 10 steps, or the
    last quarter of a shorter search, brought more than `MOVING` of its whole rise.
    Images that have fallen do not count.

    Args:
      losses: of the image looked at before and after each step; higher is worse for
        the classifier.
      broken: whether the attack broke each image.
    """
    steps = losses.shape[1] - 1
    last = min(_LAST, steps // 4)
    if last < 1:
        return skipped(UNFINISHED, "the attack takes fewer than 4 steps")
    best = np.maximum.accumulate(np.where(np.isnan(losses), -np.inf, losses), axis=1)
    with np.errstate(invalid="ignore"):
        whole, late = best[:, -1] - best[:, 0], best[:, -1] - best[:, -1 - last]
    moving = ~broken & (late > MOVING * whole) & np.isfinite(late)
    share = float(np.mean(moving))
    told = (
        f"For {some(int(moving.sum()), len(moving))} the last {last} of {steps} steps "
        f"still brought more than {percent(MOVING)} of the rise of the loss"
    )
    if share <= UNFINISHED_IMAGES:
        return judged(False, UNFINISHED, share, f"{told}.")
    return judged(
        True, UNFINISHED, share, f"{told}: more steps would find more, take more."
    )


def stated_cost(
    forwards: float, backwards: float | None, classifier: str = ""
) -> Check:
    """Returns what the attack asked for, flagged where that is next to nothing.

    Args:
      forwards: mean number of evaluations of the classifier, an image.
      backwards: mean number of gradients; None where it is not known.
      classifier: what an evaluation itself costs, to end the sentence.
    """
    back = "" if backwards is None else f" and {backwards:.4g} backward"
    told = f"The attack asked for {forwards:.4g} forward{back} passes an image"
    told += classifier
    if forwards < _FEW:
        return judged(
            True, COST, forwards, f"{told}: too few to be evidence of robustness."
        )
    return judged(False, COST, forwards, f"{told}.")
