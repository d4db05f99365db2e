"""Priors: the distributions that latents are drawn from."""

import abc
import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_manifold.core import keys
from robust_manifold.core.spec import check, with_checked_fields
from robust_manifold.core.types import PRNGKey


class Prior(abc.ABC):
    """The distribution of one latent: subclasses are frozen dataclasses."""

    @property
    @abc.abstractmethod
    def centre(self) -> float:
        """The mean of every dimension."""

    @property
    @abc.abstractmethod
    def deviation(self) -> float:
        """The standard deviation of every dimension."""

    def free_size(self, size: int) -> int:
        """Returns how many of a latent's first entries do not choose a class."""
        return size

    @abc.abstractmethod
    def sample(
        self, key: PRNGKey, shape: tuple[int, ...], dtype=jnp.float32
    ) -> Float[Array, "..."]:
        """Returns independent draws of this shape."""

    def scaled_sample(
        self, key: PRNGKey, shape: tuple[int, ...], scale: float, dtype=jnp.float32
    ) -> Float[Array, "..."]:
        """Returns draws whose distance from the centre is multiplied by `scale`."""
        return self.centre + scale * (self.sample(key, shape, dtype) - self.centre)

    def start(
        self,
        key: PRNGKey,
        restart: Int[Array, ""],
        shape: tuple[int, ...],
        scale: float,
        dtype=jnp.float32,
    ) -> Float[Array, "..."]:
        """Returns the latent that one restart of an inversion begins at.

        Args:
          key: of the image.
          restart: the number of the restart, folded into the key.
          shape: of one latent.
          scale: by which the distance from the centre is multiplied.
          dtype: of the latent.
        """
        key = jax.random.fold_in(key, restart)
        return self.scaled_sample(key, shape, scale, dtype)


@with_checked_fields
@dataclasses.dataclass(frozen=True)
class Normal(Prior):
    """A normal distribution in every dimension.

    Attributes:
      mean: of every dimension.
      deviation: standard deviation of every dimension.
    """

    mean: float = 0.0
    deviation: float = 1.0  # type: ignore[assignment]

    def __post_init__(self):
        check(math.isfinite(self.mean), self, "mean", "a finite number")
        check(
            0 < self.deviation < math.inf, self, "deviation", "a finite number above 0"
        )

    @property
    def centre(self) -> float:
        """The mean."""
        return self.mean

    def sample(self, key, shape, dtype=jnp.float32):
        """See `Prior.sample`."""
        return self.mean + self.deviation * jax.random.normal(key, shape, dtype)


STANDARD_NORMAL = Normal()
"""N(0, 1), the prior of most generators."""


@with_checked_fields
@dataclasses.dataclass(frozen=True)
class Uniform(Prior):
    """A uniform distribution in every dimension.

    Attributes:
      low: the least value.
      high: the largest value.
    """

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self):
        check(math.isfinite(self.low), self, "low", "a finite number")
        check(
            self.low < self.high < math.inf, self, "high", "a finite number above low"
        )

    @property
    def centre(self) -> float:
        """The middle."""
        return (self.low + self.high) / 2

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return (self.high - self.low) / math.sqrt(12)

    def sample(self, key, shape, dtype=jnp.float32):
        """See `Prior.sample`."""
        return jax.random.uniform(key, shape, dtype, self.low, self.high)


@with_checked_fields
@dataclasses.dataclass(frozen=True)
class ClassesInTurn(Prior):
    """The prior of a class-conditional generator, for restarts that try each class.

    Restarts draw from `base`; their last entries choose a class.  The first restart of
    an image takes a random one and the others go on in turn, so that as many restarts
    as classes try them all, which independent draws seldom do.

    Attributes:
      base: the prior of all entries.
      classes: how many last entries choose the class.
    """

    base: Prior
    classes: int

    def __post_init__(self):
        check(self.classes >= 2, self, "classes", "2 or more")

    @property
    def centre(self) -> float:
        """The centre of `base`."""
        return self.base.centre

    @property
    def deviation(self) -> float:
        """The deviation of `base`."""
        return self.base.deviation

    def free_size(self, size: int) -> int:
        """Returns the number of entries before the choice of a class."""
        return size - self.classes

    def sample(self, key, shape, dtype=jnp.float32):
        """See `Prior.sample`: the draws of `base`."""
        return self.base.sample(key, shape, dtype)

    def start(self, key, restart, shape, scale, dtype=jnp.float32):
        """See `Prior.start`."""
        latent = self.base.start(key, restart, shape, scale, dtype)
        first = jax.random.randint(keys.stream(key, "class"), (), 0, self.classes)
        choice = jax.nn.one_hot((first + restart) % self.classes, self.classes)
        return latent.at[-self.classes :].set(choice.astype(dtype))
