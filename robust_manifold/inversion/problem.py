"""What a solver minimises: the error of one image, with what the latent may be."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.core.prior import STANDARD_NORMAL, Prior
from robust_manifold.core.types import Generate, Image, Latent, Scalar
from robust_manifold.inversion.constraints import Constraint, Directions


class Measured(NamedTuple):
    """What a latent is worth."""

    objective: Scalar
    """What is minimised: the error and the penalty."""
    error: Scalar
    """Mean squared error per pixel."""


class InversionProblem(NamedTuple):
    """Find the latent whose image is nearest to `image`."""

    generate: Generate
    image: Image
    prior: Prior = STANDARD_NORMAL
    penalty: float = 0.0
    """Weight of the mean square of the latent's distance from the prior's centre, in
    deviations of the prior."""
    constraint: Constraint | None = None

    def residual(self, latent: Latent) -> Float[Array, " pixels"]:
        """Returns G(z) - x as a vector."""
        return (self.generate(latent).astype(self.image.dtype) - self.image).reshape(-1)

    def error(self, latent: Latent) -> Scalar:
        """Returns the mean squared error per pixel."""
        return jnp.mean(self.residual(latent) ** 2)

    def measure(self, latent: Latent) -> Measured:
        """Returns objective and error."""
        error = self.error(latent)
        return Measured(error + self.regret(latent), error)

    def regret(self, latent: Latent) -> Scalar | float:
        """Returns the penalty of a latent."""
        if not self.penalty:
            return 0.0
        return self.penalty * jnp.mean(self.offsets(latent) ** 2)

    def offsets(self, latent: Latent) -> Float[Array, " free"]:
        """Returns distances from the prior's centre in deviations; no class entries."""
        free = latent[: self.prior.free_size(latent.shape[0])]
        return (free - self.prior.centre) / self.prior.deviation

    def project(self, latent: Latent) -> Latent:
        """Returns the nearest latent that the constraint allows."""
        if self.constraint is None:
            return latent
        return self.constraint.project(latent, self.prior)

    def tangent(self, latent: Latent, gradient: Latent) -> Directions:
        """Returns the map of a vector to where the constraint lets a latent go."""
        if self.constraint is None:
            return lambda vector: vector
        return self.constraint.tangent(latent, gradient, self.prior)
