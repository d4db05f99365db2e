"""What a defence and an adversary's view of it cost, by a rule of thumb.

The unit is a pass through a network, forward or backward, generator and classifier
alike.  Searches that may end early are counted with all their steps.
"""

from typing import NamedTuple

from robust_manifold.defenses.adversaries import (
    Adversary,
    Decision,
    GradientAdversary,
    Latent,
    Oblivious,
)
from robust_manifold.defenses.base import Defense, NoDefense
from robust_manifold.defenses.purifier import Purifier


class ViewPasses(NamedTuple):
    """What an attack's questions about one image cost, in passes."""

    forward: float
    """Asking for logits."""
    backward: float
    """Asking for a gradient, its logits not counted."""


def classifying_passes(defence: Defense, latent_size: int) -> float:
    """Returns the passes in which a defended classifier classifies one image.

    Args:
      defence: the spec.
      latent_size: of the generator; 0 where there is none.
    """
    return 1 + defence.passes(latent_size)


def view_passes(adversary: Adversary, defence: Defense, latent_size: int) -> ViewPasses:
    """Returns what an attack's questions cost where an adversary makes it.

    Args:
      adversary: its spec.
      defence: that it meets.
      latent_size: of the generator; 0 where there is none.
    """
    if isinstance(adversary, Oblivious):
        draws = float(adversary.draws if adversary.noise else 1)
        return ViewPasses(draws, draws)
    if isinstance(defence, NoDefense):
        return ViewPasses(1.0, 1.0)
    if not isinstance(adversary, GradientAdversary | Decision):
        return ViewPasses(1.0, 1.0)
    forward, backward = classifying_passes(defence, latent_size), 1.0
    if isinstance(adversary, GradientAdversary) and isinstance(defence, Purifier):
        backward += adversary.derivative(defence).passes(defence, latent_size)
    return ViewPasses(adversary.samples * forward, adversary.samples * backward)


def latent_search_passes(
    adversary: Latent, defence: Defense, latent_size: int
) -> float:
    """Returns what the search in the generator's range costs for one image.

    A step passes through generator and classifier and back; at the end the defended
    classifier is asked about two images of each restart, and about the best.

    Args:
      adversary: its spec.
      defence: that it meets.
      latent_size: of the generator.
    """
    asked = 2 * adversary.restarts + 1
    looks = 4 * adversary.restarts * adversary.steps
    return looks + asked * classifying_passes(defence, latent_size)
