"""A codebook: an image belongs to the class of the nearest of its prototypes."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from robust_manifold.core.spec import check
from robust_manifold.models.layers import flatten
from robust_manifold.models.model import ClassifierSpec, Shape, registry


class _Codebook(nn.Module):
    """Prototypes [classes, per_class, height, width, channels]."""

    classes: int
    per_class: int

    @nn.compact
    def __call__(self, image, train):
        shape = (self.classes, self.per_class, *image.shape[1:])
        prototypes = self.param("prototypes", nn.initializers.uniform(1.0), shape)
        rows, all_rows = flatten(image), prototypes.reshape(-1, image[0].size)
        products = jnp.matmul(rows, all_rows.T, precision=lax.Precision.HIGHEST)
        squared = jnp.sum(all_rows**2, axis=1)[None] - 2 * products
        squared = squared.reshape(-1, self.classes, self.per_class)
        return -(jnp.min(squared, axis=2) + jnp.sum(rows**2, axis=1)[:, None])


@registry.register("codebook")
@dataclasses.dataclass(frozen=True)
class Codebook(ClassifierSpec):
    """The nearest prototype's class (Saralajew et al. 2020; Voráček and Hein 2022).

    A logit is minus the squared Euclidean distance to the nearest prototype of its
    class, so its gradient is never masked.  `certification.certify` knows the radius
    within which a prediction stays.

    Attributes:
      per_class: prototypes of each class.
    """

    per_class: int = 100

    def __post_init__(self):
        """Checks the fields."""
        check(self.per_class >= 1, self, "per_class", "1 or more")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        return _Codebook(classes, self.per_class)
