"""What a defence is: a frozen spec that classifies ONE image; and the empty one."""

import abc
import dataclasses
from typing import NamedTuple

from robust_manifold.core.manifold import Manifold
from robust_manifold.core.spec import Registry
from robust_manifold.core.types import Classify, Image, Logits, PRNGKey
from robust_manifold.inversion import Inversion


class Defended(NamedTuple):
    """The logits of one image behind a defence."""

    logits: Logits
    inversion: Inversion | None
    """The projection that was classified; None where the defence makes none."""


class Defense(abc.ABC):
    """Base class of all defences: subclasses are frozen dataclasses.

    A defence is written for one image and vmapped for many.
    """

    @abc.abstractmethod
    def defend(
        self,
        key: PRNGKey,
        manifold: Manifold,
        classify: Classify,
        image: Image,
    ) -> Defended:
        """Returns the logits of the defended classifier, and how they came about.

        Args:
          key: the image's own random key.
          manifold: the generator's range.
          classify: image -> logits.
          image: pixels in [0, 1].
        """

    def __call__(
        self,
        key: PRNGKey,
        manifold: Manifold,
        classify: Classify,
        image: Image,
    ) -> Logits:
        """Returns the logits alone; arguments as for `defend`."""
        return self.defend(key, manifold, classify, image).logits


registry: Registry[Defense] = Registry("defence")
"""The defences by the names that configs use."""


@registry.register("none")
@dataclasses.dataclass(frozen=True)
class NoDefense(Defense):
    """The bare classifier; the generator is not used."""

    def defend(
        self,
        key: PRNGKey,
        manifold: Manifold,
        classify: Classify,
        image: Image,
    ) -> Defended:
        """Returns the classifier's logits of the image itself."""
        del key, manifold
        return Defended(classify(image), None)
