"""How long to train, as a user writes it: '3000 steps' or '20 epochs'."""

import re

from robust_manifold.core.errors import UsageError


def steps_of(duration: str, *, examples: int, batch_size: int) -> int:
    """Returns the number of steps of a duration.

    Args:
      duration: "N steps" or "N epochs" (N may be a fraction for epochs).
      examples: size of the training split.
      batch_size: examples a step takes.

    Raises:
      UsageError: if the text is neither, or comes to less than one step.

    >>> steps_of("2 epochs", examples=1000, batch_size=100)
    20
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(steps?|epochs?)", str(duration).strip())
    if not found:
        raise UsageError(
            f"duration is {duration!r}; allowed: such as '3000 steps' or '20 epochs'."
        )
    amount, unit = float(found[1]), found[2]
    per_epoch = examples // batch_size
    steps = round(amount * per_epoch) if unit.startswith("epoch") else round(amount)
    if steps < 1:
        raise UsageError(f"duration {duration!r} is {steps} steps; allowed: 1 or more.")
    return steps
