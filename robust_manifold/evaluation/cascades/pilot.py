"""The pilot: which ways to differentiate a defence break it, on a few images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from robust_manifold import defenses
from robust_manifold.evaluation.cascades.judged import Judged
from robust_manifold.evaluation.cascades.members import Trial, ascent


class Tried(NamedTuple):
    """What one way to differentiate a defence came to.

    Attributes:
      adversary: what was differentiated.
      rate: share of the keys under which each image is misclassified then.
      margin: of each image, the largest other logit less the label's.
      passes: through networks that an image took.
    """

    adversary: defenses.Adversary
    rate: Float[np.ndarray, " n"]
    margin: Float[np.ndarray, " n"]
    passes: float

    @property
    def broken(self) -> Bool[np.ndarray, " n"]:
        """Which images it breaks."""
        return self.rate >= 1


def tried(
    adversary: defenses.Adversary, steps: int, judged: Judged, trial: Trial
) -> Tried:
    """Returns what one adversary makes of a trial's images, from noise."""
    made = ascent(trial.budget.norm, adversary, steps, "random").make(trial)
    cost = defenses.view_passes(adversary, judged.defence, judged.latent_size)
    passes = made.forwards * cost.forward + made.backwards * cost.backward
    return Tried(
        adversary,
        made.verdict.rate,
        made.verdict.margin,
        passes / max(1, len(trial.labels)),
    )


def ranked(found: Sequence[Tried]) -> list[Tried]:
    """Returns the best first; each next one by what it adds to those before it.

    What counts is the mean over the images of the worst rate, then that of the worst
    margin; of equals the cheaper comes first.
    """
    left, order = list(found), []
    rate = np.zeros_like(found[0].rate)
    margin = np.full_like(found[0].margin, -np.inf)
    while left:
        best = max(left, key=lambda each: _worth(each, rate, margin))
        order.append(best)
        left = [each for each in left if each is not best]
        rate = np.maximum(rate, best.rate)
        margin = np.maximum(margin, best.margin)
    return order


def _worth(
    each: Tried, rate: np.ndarray, margin: np.ndarray
) -> tuple[float, float, float]:
    gained = np.maximum(margin, each.margin)
    # What is broken is broken: how far beyond the boundary does not count.
    gained = np.minimum(gained, 0)
    return (
        float(np.maximum(rate, each.rate).mean()),
        float(np.round(gained.mean(), 3)),
        -each.passes,
    )
