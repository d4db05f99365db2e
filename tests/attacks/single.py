"""An attack on one image as one compiled program, cheaper than single operations."""

import jax

from robust_manifold.attacks.base import Attempt
from robust_manifold.core.criterion import Misclassified, Targeted

KEY = jax.random.key(0)


def attempt(attack, classify, image, label, *, targeted=False) -> Attempt:
    """Returns what the attack makes of one image, and what that cost."""

    @jax.jit
    def run(image, label):
        criterion = Targeted() if targeted else Misclassified()
        return attack.run(KEY, classify, image, label, criterion=criterion)

    return run(image, label)
