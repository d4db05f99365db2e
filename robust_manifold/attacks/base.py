"""What an attack is: a frozen spec whose `run` attacks ONE image."""

import abc
import math
from typing import Any, NamedTuple

from jaxtyping import Array, Int

from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import Classify, Image, Label, PRNGKey


class Attempt(NamedTuple):
    """What an attack made of one image, and what that cost.

    The counts are arrays, so that an attack that stops early can count as it goes.
    """

    image: Image
    forwards: Int[Array, ""]
    """Evaluations of the classifier, those inside a gradient included."""
    backwards: Int[Array, ""]
    """Gradients of the classifier."""


class Attack(abc.ABC):
    """Base class of all attacks: subclasses are frozen dataclasses.

    A subclass writes `run` for one image, in plain mathematics: `craft` vmaps it,
    compiles it and spreads it over devices.  Its fields are static, so Python
    control flow on them is fine; control flow on arrays must be JAX's.  The image it
    returns lies in [0, 1] and, where the attack has a budget, in its ball.
    """

    norm: Norm
    """The norm in which the attack measures its perturbation."""

    @abc.abstractmethod
    def run(
        self, key: PRNGKey, classify: Classify, image: Image, label: Label
    ) -> Attempt:
        """Returns the adversarial image and its cost.

        Args:
          key: the image's own random key.
          classify: image -> logits; what the attack may differentiate.
          image: pixels in [0, 1].
          label: the class to get away from.
        """

    def __call__(
        self, key: PRNGKey, classify: Classify, image: Image, label: Label
    ) -> Image:
        """Returns the adversarial image alone; arguments as for `run`."""
        return self.run(key, classify, image, label).image


registry: Registry[Attack] = Registry("attack")
"""The attacks by the names that configs use."""


def check_epsilon(attack: Any) -> None:
    """Raises a `UsageError` unless the attack's `epsilon` is a budget."""
    check(
        0 <= attack.epsilon < math.inf, attack, "epsilon", "a finite number, 0 or more"
    )
    # 1 and 1.0 are one budget: they must be written alike, too.
    object.__setattr__(attack, "epsilon", float(attack.epsilon))
