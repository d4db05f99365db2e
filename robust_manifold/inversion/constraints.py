"""Constraints: where inversion may look for a latent."""

import abc
import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.core.prior import Prior
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import Latent


class Constraint(abc.ABC):
    """A set of latents: subclasses are frozen dataclasses.

    The entries of a latent that choose a class are free.
    """

    def project(self, latent: Latent, prior: Prior) -> Latent:
        """Returns the latent of the set that is nearest to `latent`."""
        size = prior.free_size(latent.shape[0])
        offset = self._nearest(latent[:size] - prior.centre, prior.deviation)
        return latent.at[:size].set(prior.centre + offset)

    @abc.abstractmethod
    def _nearest(
        self, offset: Float[Array, " free"], deviation: float
    ) -> Float[Array, " free"]:
        """Returns the nearest distance from the prior's centre that is allowed."""


registry: Registry[Constraint] = Registry("constraint")
"""The constraints by the names that configs use."""


@registry.register("box")
@dataclasses.dataclass(frozen=True)
class Box(Constraint):
    """Every entry within `reach` deviations of the prior's centre.

    A uniform prior's own support has the reach sqrt(3) = 1.7320508.
    """

    reach: float = 3.0

    def __post_init__(self):
        check(0 < self.reach < math.inf, self, "reach", "a finite number above 0")

    def _nearest(self, offset, deviation):
        bound = self.reach * deviation
        return jnp.clip(offset, -bound, bound)


@registry.register("shell")
@dataclasses.dataclass(frozen=True)
class Shell(Constraint):
    """The shell that draws of the prior lie near: a distance from its centre.

    In d dimensions that is sqrt(d) deviations, the root mean square of draws.

    Attributes:
      inner: least distance, as a share of sqrt(d) deviations; 0 makes it a ball.
      outer: largest distance, likewise.
    """

    inner: float = 1.0
    outer: float = 1.0

    def __post_init__(self):
        check(0 <= self.inner < math.inf, self, "inner", "a finite number, 0 or more")
        check(
            max(self.inner, 0) <= self.outer < math.inf and self.outer > 0,
            self,
            "outer",
            "a finite number above 0, at least inner",
        )

    def _nearest(self, offset, deviation):
        radius = math.sqrt(offset.size) * deviation
        norm = jnp.linalg.norm(offset)
        # At the centre every direction is as near as any other.
        direction = jnp.where(
            norm > 0, offset / jnp.where(norm > 0, norm, 1), offset.size**-0.5
        )
        return direction * jnp.clip(norm, self.inner * radius, self.outer * radius)


def as_constraint(constraint: Constraint | str | None) -> Constraint | None:
    """Returns the constraint that a config's text describes, or what it is given.

    Raises:
      UsageError: for a text that `registry` cannot build.
    """
    return registry.build(constraint) if isinstance(constraint, str) else constraint
