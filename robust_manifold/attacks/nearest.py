"""The nearest adversarial image met so far, which minimum-norm attacks return."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

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
