"""The targets of a regression that a user hands in: numbers, one row an image."""

import numpy as np
from jaxtyping import Float32, Shaped

from robust_manifold.core.errors import UsageError


def checked_targets(
    name: str, targets: Shaped[np.ndarray, "..."], n: int
) -> Float32[np.ndarray, "n outputs"]:
    """Returns targets as float32 [n, outputs].

    Args:
      name: of the array, for the sentence about a mistake.
      targets: [n] or [n, outputs], numbers.
      n: how many images there are.

    Raises:
      UsageError: for another shape or type, and for numbers that are not finite.
    """
    if targets.ndim not in (1, 2) or len(targets) != n or 0 in targets.shape:
        raise UsageError(
            f"{name} has the shape {targets.shape}; allowed: ({n},) or ({n}, outputs), "
            "one row an image."
        )
    if targets.dtype.kind not in "iuf":
        raise UsageError(
            f"{name} has the type {targets.dtype}; allowed: whole numbers or floats."
        )
    with np.errstate(over="ignore"):
        kept = targets.astype(np.float32).reshape(n, -1)
    broken = np.flatnonzero(~np.isfinite(kept).all(axis=1))
    if broken.size:
        raise UsageError(
            f"{name} holds {targets[broken[0]]} for image {broken[0]}; allowed: finite "
            "numbers that 32 bits can hold."
        )
    return kept
