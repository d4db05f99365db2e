"""What a reader is told of an attack's budget, and of who broke what in an ensemble."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_manifold.attacks.base import Attack, warn
from robust_manifold.core.norms import Norm

_FEWEST = 5
_POINT = 0.01
"""Images, and their share, that a black-box attack breaks after a white-box one."""


def check_budget(epsilon: float | None, norm: Norm, shape: tuple[int, ...]) -> None:
    """Warns of a budget that looks like one for pixels from 0 to 255.

    No two images in [0, 1] are farther apart than the box is wide: 1 in linf, the root
    of the number of values in l2, this number in l1.  A larger budget is none.  Counts
    of values or pixels are the same in both.

    Args:
      epsilon: the radius; None for an attack without a budget.
      norm: of the radius.
      shape: of one image.
    """
    size = math.prod(shape)
    widest = {"linf": 1.0, "l2": math.sqrt(size)}.get(norm, float(size))
    counts = norm in ("l0", "pixels")
    if epsilon is not None and epsilon > widest and not counts:
        warn(
            f"epsilon is {epsilon:g} in {norm}, and no two images in [0, 1] are "
            f"farther apart than {widest:g}: it looks like a budget for pixels from 0 "
            f"to 255, which is {epsilon:g} / 255 here."
        )


def unseen_by_gradients(
    members: Sequence[Attack], success: Any, member: Any
) -> np.ndarray:
    """Returns how many images each black-box member broke that gradients had not.

    It is 0 for white-box members, and for those that no white-box member came before.

    Args:
      members: of an ensemble, in their order.
      success: [n], whether an image is broken.
      member: [n], the place of the one that made it.
    """
    white = np.array([one.threat_model == "white box" for one in members])
    counts = np.bincount(member[success], minlength=len(members))
    return np.where(~white & np.logical_or.accumulate(white), counts, 0)


def check_black_box(
    members: Sequence[Attack], success: Any, member: Any, n: int
) -> bool:
    """Warns if a black-box member broke what white-box members should have broken.

    Args:
      members: as for `unseen_by_gradients`, like the next two.
      success: of the images that they were tried on.
      member: likewise.
      n: images in all.

    Returns:
      Whether it did warn.
    """
    counts = unseen_by_gradients(members, success, member)
    most = counts.max()
    if most < _FEWEST or most <= _POINT * n:
        return False
    name = type(members[int(counts.argmax())]).__name__
    warn(
        f"{name}, which sees no gradient, broke "
        f"{most} of {n} images that the attacks by gradients had left: gradients are "
        "masked here, and what they leave unbroken is no evidence of robustness. Hand "
        "craft a view= that has useful ones; evaluation.audit says where they mislead."
    )
    return True
