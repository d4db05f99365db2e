"""What `craft` returns of many images, and tells of each member of an ensemble."""

from typing import NamedTuple

import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks.base import Attack, Queries, registry


class Summary(NamedTuple):
    """What adversarial images come to, all together.

    Attributes:
      images: how many there are.
      broken: for how many of them the criterion is met.
      distance: the median size of the perturbations that succeed, in the attack's own
        norm; NaN where none does.
      forwards: outputs that an image took, a mean.
      backwards: gradients that an image took, a mean.
      members: how many images each member of an ensemble broke, in their order.
    """

    images: int
    broken: int
    distance: float
    forwards: float
    backwards: float
    members: tuple[int, ...]

    def __str__(self) -> str:
        share = self.broken / self.images if self.images else 0.0
        size = f", median distance {self.distance:.4g}" if self.broken else ""
        by = f", by member {self.members}" if len(self.members) > 1 else ""
        return (
            f"{self.broken:,} of {self.images:,} images broken ({100 * share:.1f} %)"
            f"{size}{by}; an image: outputs {self.forwards:,.0f}, gradients "
            f"{self.backwards:,.0f}"
        )


class Crafted(NamedTuple):
    """Adversarial images and what the evaluated function makes of them."""

    images: Float[Array, "*n height width channels"]
    success: Bool[Array, "*n"]
    """Whether the criterion is met: by default, whether the prediction differs from
    the label; never where a logit is NaN."""
    distance: Float[Array, "*n"]
    """The norm of the perturbation, in the attack's own norm."""
    queries: Queries
    logits: Float[Array, "..."]
    """What the evaluated function gives: logits [n, classes], or what else it puts
    out where the criterion is not on classes."""
    member: Int[Array, "*n"]
    """Which member of an ensemble made the image; 0 for a single attack."""

    def summary(self) -> Summary:
        """Returns it in numbers; those of several budgets are counted together."""
        success = np.asarray(self.success).reshape(-1)
        sizes = np.asarray(self.distance, np.float64).reshape(-1)[success]
        member = np.asarray(self.member).reshape(-1)
        counts = np.bincount(member[success], minlength=int(member.max(initial=0)) + 1)
        forwards, backwards = (float(np.mean(count)) for count in self.queries)
        return Summary(
            images=success.size,
            broken=int(success.sum()),
            distance=float(np.median(sizes)) if sizes.size else float("nan"),
            forwards=forwards,
            backwards=backwards,
            members=tuple(counts.tolist()),
        )

    def __repr__(self) -> str:
        # Inside of a program, and as a tree of shapes, there are no numbers.
        if isinstance(self.success, Tracer) or not hasattr(self.success, "__array__"):
            return f"Crafted{tuple(self)!r}"
        return f"Crafted({self.summary()})"


class MemberDone(NamedTuple):
    """What a member of an ensemble has left for the next one.

    Attributes:
      attack: the member, as it is made.
      given: how many images it was made on.
      broken: how many of these it broke.
      images: all that there are.
    """

    attack: Attack
    given: int
    broken: int
    images: int

    @property
    def left(self) -> int:
        """How many images no member has broken so far."""
        return self.given - self.broken

    def __str__(self) -> str:
        share = 100 * self.left / self.images
        try:
            name = registry.to_string(self.attack)
        except KeyError:
            # One of the caller's own, in no registry.
            name = repr(self.attack)
        return (
            f"{name} broke {self.broken:,} of "
            f"{self.given:,}: {self.left:,} of {self.images:,} images are left "
            f"({share:.1f} %)"
        )
