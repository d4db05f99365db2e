"""The nearest adversarial image met so far, which minimum-norm attacks return."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from robust_manifold.attacks.base import Problem
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import Image, Scalar


class Nearest(NamedTuple):
    """An adversarial image, or the original until one is met."""

    image: Image
    distance: Scalar
    """From the original; infinite until an adversarial image is met."""

    @classmethod
    def nothing(cls, original: Image) -> "Nearest":
        """Returns the original, as long as nothing better is known."""
        return cls(original, jnp.full((), jnp.inf, original.dtype))

    @property
    def found(self) -> Bool[Array, ""]:
        """Whether any adversarial image was met."""
        return self.distance < jnp.inf

    def met(
        self, original: Image, image: Image, adversarial: Bool[Array, ""], norm: Norm
    ) -> "Nearest":
        """Returns `image` if it is adversarial and no farther, or this one."""
        distance = norms.norm(image - original, norm)
        nearer = adversarial & (distance <= self.distance)
        return optax.tree.where(nearer, Nearest(image, distance), self)


def begun(
    problem: Problem, taken: Int[Array, ""], image: Image, radius: Scalar, norm: Norm
) -> tuple[Image, Scalar]:
    """Returns where a search in a ball goes on, and the ball's radius.

    The first step always looks at the image itself, to which nothing is nearer.  Where
    a start is given, the second one looks at that, with a ball that just reaches it.

    Args:
      problem: the image and its start.
      taken: steps before this one.
      image: where this step leads.
      radius: of its ball.
      norm: of the ball.
    """
    if problem.start is None:
        return image, radius
    distance = norms.norm(problem.start - problem.image, norm)
    radius = jnp.where((taken == 0) & (distance > 0), distance, radius)
    return jnp.where(taken == 0, problem.start, image), radius
