"""What a defence is: a frozen spec that classifies ONE image; and the empty one."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

from robust_manifold.core.criterion import MISCLASSIFIED, Criterion
from robust_manifold.core.networks import Bound
from robust_manifold.core.prior import Prior
from robust_manifold.core.spec import Registry
from robust_manifold.core.types import Classify, Image, Logits, PRNGKey


class Defended(NamedTuple):
    """What a defence makes of one image."""

    output: Logits
    """The output of the defended classifier."""
    purified: Image | None = None
    """The image that was classified in place of the given one, if there is one."""
    details: Any = None
    """What else the defence has to tell: a NamedTuple of arrays, or None."""


class Defense(abc.ABC):
    """Base class of all defences: subclasses are frozen dataclasses.

    A defence is written for one image and vmapped for many.  Most are a `Purifier`.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """Roles of the networks that it cannot do without, such as "generator"."""
    tiled: ClassVar[bool] = False
    """Whether it searches over many steps, which would amplify the rounding of arrays
    of another shape; see `core.batching.map_examples`."""
    criterion: ClassVar[Criterion] = MISCLASSIFIED
    """What an attack on the defended classifier has to come to."""

    @property
    def inner(self) -> "Defense":
        """The defence that it adds to, whose keys it shares; by default itself."""
        return self

    def check_latents(self, prior: Prior, latent_size: int) -> None:
        """Raises a `UsageError` for a generator that it can do nothing with.

        Args:
          prior: of the generator's latents, its classes included.
          latent_size: entries of a latent.
        """
        del prior, latent_size

    @abc.abstractmethod
    def defend(
        self, key: PRNGKey, networks: Bound, classify: Classify, image: Image
    ) -> Defended:
        """Returns the output of the defended classifier, and how it came about.

        Args:
          key: the image's own random key.
          networks: by role, their parameters bound; "generator" is a `Manifold`, the
            others are functions of arrays.
          classify: image -> logits.
          image: pixels in [0, 1].
        """

    def passes(self, latent_size: int) -> float:
        """Returns about how many passes through networks it takes, for one image.

        Those through the classifier are not counted.

        Args:
          latent_size: of the generator; 0 where there is none.
        """
        del latent_size
        return 0.0

    def __call__(
        self, key: PRNGKey, networks: Bound, classify: Classify, image: Image
    ) -> Logits:
        """Returns the output alone; arguments as for `defend`."""
        return self.defend(key, networks, classify, image).output


registry: Registry[Defense] = Registry("defence")
"""The defences by the names that configs use."""


@registry.register("none")
@dataclasses.dataclass(frozen=True)
class NoDefense(Defense):
    """The bare classifier; no other network is used."""

    def defend(self, key, networks, classify, image) -> Defended:
        """Returns the classifier's logits of the image itself."""
        del key, networks
        return Defended(classify(image))
