"""What a defence costs, and a look at it through an adversary's view: a rule of thumb.

The unit is a pass through a network, forward or backward, generator and classifier
alike.  Searches that may end early are counted with all their steps.
"""

from typing import NamedTuple

from robust_manifold.defenses.adversaries import (
    Adversary,
    Decision,
    Latent,
    ProjectionAdversary,
)
from robust_manifold.defenses.base import Defense
from robust_manifold.defenses.invert_and_classify import ProjectionDefense
from robust_manifold.defenses.views import search_passes


class ViewPasses(NamedTuple):
    """The passes that an attack's questions about one image are worth."""

    forward: float
    """Of logits."""
    backward: float
    """Of a gradient, beside those of the logits that it is of."""


def classifying_passes(defence: Defense, latent_size: int) -> float:
    """Returns the passes in which a defended classifier classifies one image.

    Args:
      defence: the spec; one that does not project counts as none.
      latent_size: of the generator.
    """
    if not isinstance(defence, ProjectionDefense):
        return 1.0
    return 1 + search_passes(defence.search, latent_size)


def view_passes(adversary: Adversary, defence: Defense, latent_size: int) -> ViewPasses:
    """Returns what an attack's questions cost where an adversary makes it.

    Args:
      adversary: its spec.
      defence: that it meets.
      latent_size: of the generator.
    """
    projects = isinstance(defence, ProjectionDefense)
    if not projects or not isinstance(adversary, ProjectionAdversary | Decision):
        return ViewPasses(1.0, 1.0)
    forward, backward = classifying_passes(defence, latent_size), 1.0
    if isinstance(adversary, ProjectionAdversary):
        through = adversary.derivative.passes(defence.search, latent_size)
        backward += through
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
