"""Known densities on the real line, to train on what can be compared exactly."""

import abc
import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from robust_manifold.core import keys
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import PRNGKey

registry: Registry["Density"] = Registry("density")
"""All densities, by the names that configs use."""

_TAIL = 5.0
"""Deviations beyond a mean after which a normal distribution counts as over."""


class Density(abc.ABC):
    """A distribution of real numbers: subclasses are frozen dataclasses."""

    @abc.abstractmethod
    def sample(self, key: PRNGKey, count: int) -> Float[Array, " count"]:
        """Returns independent draws."""

    @abc.abstractmethod
    def density(self, x: ArrayLike) -> Float[Array, "*shape"]:
        """Returns the density at each x."""

    @abc.abstractmethod
    def cumulative(self, x: ArrayLike) -> Float[Array, "*shape"]:
        """Returns the probability of numbers up to each x."""

    @property
    @abc.abstractmethod
    def span(self) -> tuple[float, float]:
        """An interval outside of which next to nothing lies: less than 1e-6."""


@registry.register("normal")
@dataclasses.dataclass(frozen=True)
class NormalDensity(Density):
    """A normal distribution.

    Attributes:
      mean: where it has its mode.
      deviation: its standard deviation.
    """

    mean: float = 0.0
    deviation: float = 1.0

    def __post_init__(self):
        check(math.isfinite(self.mean), self, "mean", "a finite number")
        check(
            0 < self.deviation < math.inf, self, "deviation", "a finite number above 0"
        )

    def sample(self, key, count):
        """See `Density.sample`."""
        return self.mean + self.deviation * jax.random.normal(key, (count,))

    def density(self, x):
        """See `Density.density`."""
        return jax.scipy.stats.norm.pdf(jnp.asarray(x), self.mean, self.deviation)

    def cumulative(self, x):
        """See `Density.cumulative`."""
        return jax.scipy.stats.norm.cdf(jnp.asarray(x), self.mean, self.deviation)

    @property
    def span(self):
        """Five deviations to both sides of the mean."""
        reach = _TAIL * self.deviation
        return self.mean - reach, self.mean + reach


@registry.register("truncated_normal")
@dataclasses.dataclass(frozen=True)
class TruncatedNormal(Density):
    """A normal distribution without its tails, such as a bounded latent can reach.

    Attributes:
      mean: where it has its mode.
      deviation: standard deviation before the cut.
      reach: the cut, in deviations to both sides of the mean.
    """

    mean: float = 0.0
    deviation: float = 1.0
    reach: float = 2.0

    def __post_init__(self):
        check(math.isfinite(self.mean), self, "mean", "a finite number")
        for field in ("deviation", "reach"):
            value = getattr(self, field)
            check(0 < value < math.inf, self, field, "a finite number above 0")

    def sample(self, key, count):
        """See `Density.sample`."""
        drawn = jax.random.truncated_normal(key, -self.reach, self.reach, (count,))
        return self.mean + self.deviation * drawn

    def density(self, x):
        """See `Density.density`."""
        places = (jnp.asarray(x) - self.mean) / self.deviation
        standard = jax.scipy.stats.truncnorm.pdf(places, -self.reach, self.reach)
        return standard / self.deviation

    def cumulative(self, x):
        """See `Density.cumulative`."""
        places = (jnp.asarray(x) - self.mean) / self.deviation
        return jax.scipy.stats.truncnorm.cdf(places, -self.reach, self.reach)

    @property
    def span(self):
        """From cut to cut, and as much again on both sides, so that the cuts show."""
        reach = 2 * self.reach * self.deviation
        return self.mean - reach, self.mean + reach


@registry.register("mixture")
@dataclasses.dataclass(frozen=True)
class Mixture(Density):
    """A mixture of normal distributions.

    Attributes:
      means: of the components.
      deviations: their standard deviations, as many.
      weights: their shares, as many, in any unit; () makes them equal.
    """

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self):
        count = len(self.means)
        check(count >= 1, self, "means", "one number or more")
        check(_all(self.means, math.isfinite), self, "means", "finite numbers")
        for field in ("deviations", "weights"):
            values = getattr(self, field)
            right = _all(values, lambda value: 0 < value < math.inf)
            allowed = f"{count} finite numbers above 0, one for each of means"
            if field == "weights":
                allowed += ", or ()"
                right = right and len(values) in (0, count)
            else:
                right = right and len(values) == count
            check(right, self, field, allowed)

    def sample(self, key, count):
        """See `Density.sample`."""
        shares = jnp.log(jnp.array(self._shares()))
        chosen = jax.random.categorical(
            keys.stream(key, "component"), shares, shape=(count,)
        )
        noise = jax.random.normal(keys.stream(key, "noise"), (count,))
        return (
            jnp.array(self.means)[chosen] + jnp.array(self.deviations)[chosen] * noise
        )

    def density(self, x):
        """See `Density.density`."""
        return self._weighted("density", x)

    def cumulative(self, x):
        """See `Density.cumulative`."""
        return self._weighted("cumulative", x)

    @property
    def span(self):
        """The least interval that holds the spans of all components."""
        lows, highs = zip(*(part.span for part in self._components()), strict=True)
        return min(lows), max(highs)

    def _shares(self) -> tuple[float, ...]:
        weights = self.weights or (1.0,) * len(self.means)
        return tuple(weight / sum(weights) for weight in weights)

    def _components(self) -> list[NormalDensity]:
        return [
            NormalDensity(*p) for p in zip(self.means, self.deviations, strict=True)
        ]

    def _weighted(self, method: str, x: ArrayLike) -> Float[Array, "*shape"]:
        parts = zip(self._shares(), self._components(), strict=True)
        return jnp.asarray(sum(share * getattr(c, method)(x) for share, c in parts))


def _all(values, holds) -> bool:
    """Whether a condition holds for all values, which have to be numbers."""
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and holds(value)
        for value in values
    )
