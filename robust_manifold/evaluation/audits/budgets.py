"""Checks of the budget: what an attack may do with none, with more, with any."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from robust_manifold.core.norms import Norm
from robust_manifold.evaluation.audits.check import (
    Check,
    judged,
    paired,
    percent,
    skipped,
    some,
)

ZERO_BUDGET = "zero budget"
WITHIN_BUDGET = "within the budget"
GROWING_BUDGET = "growing budget"
ANY_BUDGET = "unbounded budget"

LEFT = 0.05
"""Share of the images that may still be right when any image is allowed."""


def zero_budget(wrong: Bool[np.ndarray, " n"], broken: Bool[np.ndarray, " n"]) -> Check:
    """Returns whether an attack with no budget leaves the clean accuracy as it is.

    Args:
      wrong: whether each clean image is misclassified.
      broken: whether it counts as fallen to the attack at epsilon = 0.
    """
    differing = int(np.sum(wrong != broken))
    if not differing:
        return judged(
            False,
            ZERO_BUDGET,
            0.0,
            f"Without a budget accuracy is the clean one, {percent(1 - wrong.mean())}.",
        )
    return judged(
        True,
        ZERO_BUDGET,
        differing / len(wrong),
        f"Without a budget the attack changes {some(differing, len(wrong))}: accuracy "
        f"is {percent(1 - broken.mean())}, the clean one {percent(1 - wrong.mean())}. "
        "Attack and clean accuracy are not of the same classifier or images.",
    )


def within_budget(
    images: Float[np.ndarray, "n height width channels"],
    adversarial: Float[np.ndarray, "..."],
    norm: Norm,
    epsilon: float | None,
) -> Check:
    """Returns whether all adversarial images are what the threat model allows.

    Args:
      images: the clean ones.
      adversarial: what the attack made of them.
      norm: of the budget.
      epsilon: the budget in pixels; None for an attack without one.
    """
    if adversarial.shape != images.shape:
        return judged(
            True,
            WITHIN_BUDGET,
            None,
            f"The attack returns images of shape {adversarial.shape} for images of "
            f"shape {images.shape}.",
        )
    n = len(images)
    finite = np.asarray(np.isfinite(adversarial).all(axis=(1, 2, 3)))
    pixels = np.where(finite[:, None, None, None], adversarial, 0)
    outside = (pixels < 0).any(axis=(1, 2, 3)) | (pixels > 1).any(axis=(1, 2, 3))
    sizes = np.where(finite, perturbation_sizes(images, pixels, norm), math.inf)
    faults = {"NaN or infinite pixels": ~finite, "pixels outside [0, 1]": outside}
    if epsilon is not None:
        allowed = epsilon * (1 + 1e-6) + _rounding(images, norm)
        faults[f"a perturbation above {epsilon:g} in {norm}"] = sizes > allowed
    found = {what: int(which.sum()) for what, which in faults.items() if which.any()}
    largest = float(sizes.max())
    if found:
        told = "; ".join(f"{some(count, n)}: {what}" for what, count in found.items())
        return judged(
            True,
            WITHIN_BUDGET,
            largest,
            f"Not of the threat model: {told}. The figure is of another one.",
        )
    of = "" if epsilon is None else f" of {epsilon:g} allowed"
    return judged(
        False,
        WITHIN_BUDGET,
        largest,
        f"All pixels are in [0, 1], and the largest perturbation is {largest:.4g}{of} "
        f"in {norm}.",
    )


def perturbation_sizes(
    images: Float[np.ndarray, "n height width channels"],
    adversarial: Float[np.ndarray, "n height width channels"],
    norm: Norm,
) -> Float[np.ndarray, " n"]:
    """Returns the plain norm of each perturbation, in double precision."""
    delta = np.abs(adversarial.astype(np.float64) - images)
    if norm == "pixels":
        delta = delta.max(axis=-1)
    delta = delta.reshape(len(images), -1)
    match norm:
        case "linf":
            return delta.max(axis=1)
        case "l2":
            return np.linalg.norm(delta, axis=1)
        case "l1":
            return delta.sum(axis=1)
    return np.count_nonzero(delta, axis=1).astype(np.float64)


def _rounding(images: np.ndarray, norm: Norm) -> float:
    """Returns the most by which rounding the moved pixels changes a perturbation."""
    if norm in ("l0", "pixels"):
        return 0.0
    pixel = float(np.finfo(images.dtype).eps) / 2
    size = images[0].size
    return pixel * {"linf": 1, "l2": math.sqrt(size), "l1": size}[norm]


def growing_budget(
    epsilons: Sequence[float], broken: Bool[np.ndarray, "epsilons n"]
) -> Check:
    """Returns whether accuracy never rises with the budget, beyond luck.

    Args:
      epsilons: rising budgets, each attacked anew.
      broken: whether each image is wrong at each of them.
    """
    if len(epsilons) < 2:
        return skipped(GROWING_BUDGET, "there is one budget alone")
    told = ", ".join(
        f"{percent(1 - row.mean())} at {epsilon:g}"
        for epsilon, row in zip(epsilons, broken, strict=True)
    )
    pairs = [
        (paired(large, small), epsilons[place], epsilons[before])
        for place, large in enumerate(broken)
        for before, small in enumerate(broken[:place])
    ]
    rising = [pair for pair in pairs if pair[0].second_is_stronger]
    most = max(pair.only_second - pair.only_first for pair, *_ in pairs)
    value = max(most, 0) / len(broken[0])
    if not rising:
        return judged(
            False,
            GROWING_BUDGET,
            value,
            f"Accuracy does not rise with the budget: {told}.",
        )
    pair, large_epsilon, small_epsilon = rising[0]
    return judged(
        True,
        GROWING_BUDGET,
        value,
        f"Accuracy rises with the budget ({told}): {some(pair.only_second, pair.n)} "
        f"fall at {small_epsilon:g} and stand at {large_epsilon:g}. The attack fails "
        "at the larger budget; take its steps and its step size as given for that one.",
    )


def any_budget(broken: Bool[np.ndarray, " n"], epsilon: float, norm: Norm) -> Check:
    """Returns whether an attack that may choose any image breaks every image.

    Args:
      broken: whether each image is wrong under the attack with that budget.
      epsilon: large enough for any image to become any other.
      norm: of the budget.
    """
    count = int(np.sum(~broken))
    left = count / len(broken)
    told = (
        f"With a budget of {epsilon:.4g} in {norm}, with which any image can become "
        f"any other, {percent(left)} of the images are still right"
    )
    if count > LEFT * len(broken):
        return judged(
            True,
            ANY_BUDGET,
            left,
            f"{told}. No classifier that tells images apart can be so robust: the "
            "attack does not see the way, and smaller budgets are overrated too.",
        )
    return judged(False, ANY_BUDGET, left, f"{told}.")
