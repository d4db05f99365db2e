"""Constraints: where inversion may look for a latent."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from robust_manifold.core.prior import Prior
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import Latent, Scalar

Directions: TypeAlias = Callable[[Float[Array, " n"]], Float[Array, " n"]]

_TOUCHES = 1e-5
"""Share of a bound within which a latent counts as lying on it."""


class Constraint(abc.ABC):
    """A set of latents: subclasses are frozen dataclasses.

    The entries of a latent that choose a class are free.
    """

    def project(self, latent: Latent, prior: Prior) -> Latent:
        """Returns the latent of the set that is nearest to `latent`."""
        size = prior.free_size(latent.shape[0])
        offset = self._nearest(latent[:size] - prior.centre, prior.deviation)
        return latent.at[:size].set(prior.centre + offset)

    def tangent(self, latent: Latent, gradient: Latent, prior: Prior) -> Directions:
        """Returns the map of a vector to the part along which a latent may move.

        Args:
          latent: of the set.
          gradient: of what is minimised, at the latent: a bound binds where going
            downhill would cross it.
          prior: of the latents.
        """
        size = prior.free_size(latent.shape[0])
        offset = latent[:size] - prior.centre
        part = self._free(offset, gradient[:size], prior.deviation)
        return lambda vector: vector.at[:size].set(part(vector[:size]))

    def bend(self, latent: Latent, gradient: Latent, prior: Prior) -> Scalar:
        """Returns the curvature that a curved bound adds along itself.

        Where the bound holds a latent back from going downhill, the objective rises
        along it by more than its own curvature says.  Flat bounds add none.

        Args:
          latent: of the set.
          gradient: of what is minimised, at the latent.
          prior: of the latents.
        """
        del gradient, prior
        return jnp.zeros((), latent.dtype)

    @abc.abstractmethod
    def _free(
        self,
        offset: Float[Array, " free"],
        gradient: Float[Array, " free"],
        deviation: float,
    ) -> Directions:
        """Returns `tangent` for the entries that do not choose a class."""

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

    def _free(self, offset, gradient, deviation):
        at_bound = jnp.abs(offset) >= self.reach * deviation * (1 - _TOUCHES)
        blocked = at_bound & (offset * gradient < 0)
        return lambda vector: jnp.where(blocked, 0, vector)


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
        norm, direction = _polar(offset)
        radius = math.sqrt(offset.size) * deviation
        return direction * jnp.clip(norm, self.inner * radius, self.outer * radius)

    def bend(self, latent, gradient, prior):
        """See `Constraint.bend`: the slope across the bound over its radius."""
        size = prior.free_size(latent.shape[0])
        offset = latent[:size] - prior.centre
        norm, direction = _polar(offset)
        blocked = self._blocked(offset, gradient[:size], prior.deviation)
        radius = jnp.where(norm > 0, norm, 1)
        return jnp.where(blocked, -(direction @ gradient[:size]) / radius, 0)

    def _free(self, offset, gradient, deviation):
        _, direction = _polar(offset)
        blocked = self._blocked(offset, gradient, deviation)
        return lambda vector: (
            vector - jnp.where(blocked, (direction @ vector) * direction, 0)
        )

    def _blocked(self, offset, gradient, deviation) -> Bool[Array, ""]:
        """Returns whether going downhill would cross one of the bounds."""
        norm, direction = _polar(offset)
        share = norm / (math.sqrt(offset.size) * deviation)
        slope = direction @ gradient
        return ((share >= self.outer * (1 - _TOUCHES)) & (slope < 0)) | (
            (share <= self.inner * (1 + _TOUCHES)) & (slope > 0)
        )


def _polar(
    offset: Float[Array, " free"],
) -> tuple[Float[Array, ""], Float[Array, " free"]]:
    """Returns length and direction; at the centre one direction is as good as any."""
    square = offset @ offset
    away = square > 0
    norm = jnp.sqrt(jnp.where(away, square, 1))
    direction = jnp.where(away, offset / norm, offset.size**-0.5)
    return jnp.where(away, norm, 0), direction


def as_constraint(constraint: Constraint | str | None) -> Constraint | None:
    """Returns the constraint that a config's text describes, or what it is given.

    Raises:
      UsageError: for a text that `registry` cannot build.
    """
    return registry.build(constraint) if isinstance(constraint, str) else constraint
