"""What every entry is measured by; docs/leaderboard_rules.md tells it."""

import numpy as np

from robust_manifold import data
from robust_manifold.core.norms import Norm
from robust_manifold.evaluation import AUDIT_CHECKS

SOURCE = "tfds:mnist"
DIGITS = 200
"""The first official test digits; fewer where an entry is slow."""
BALLS: dict[Norm, tuple[float, ...]] = {
    "linf": (0.1, 0.2, 0.3),
    "l2": (1.5,),
    "l1": (12.0,),
}
EFFORT = "standard"
MINUTES = 30.0
"""That the attack may take; no round of 50 digits is begun that would not end then."""
KEYS = 20
"""Fresh keys under which a random entry is judged, on the images that were made."""
CLASSIFIER = "mnist_small_cnn"
"""The published network that stands behind a defence which brings none."""
LEFT_OUT = ("stronger pass", "more restarts", "growing budget")
"""Checks of the audit that attack anew for hours behind an inversion."""
CHECKS = tuple(name for name in AUDIT_CHECKS if name not in LEFT_OUT)
GIGABYTES = 12
"""Of memory that an entry may have."""


def digits(n: int = DIGITS) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first n official test digits [n, 28, 28, 1] and their labels [n].

    Raises:
      UsageError: if MNIST is not prepared here.
    """
    test = data.load(SOURCE).test
    return data.to_float(test.images[:n]), test.labels[:n]
