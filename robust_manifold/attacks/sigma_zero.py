"""Sigma-zero: an l0 attack that descends on a smooth count of the changed values."""

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    registry,
)
from robust_manifold.attacks.nearest import Nearest
from robust_manifold.attacks.trade_off import Goal
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey, Scalar

_ADAM = optax.scale_by_adam()
_LAST_RATE = 0.1
"""Share of the first learning rate that is left at the end."""
_SMALLEST = 1e-12
"""Largest entry of a gradient that is not scaled any more."""


class SigmaZeroState(NamedTuple):
    """Where the search stands."""

    image: Image
    adam: optax.OptState
    threshold: Scalar
    """Smaller changes than this are taken back."""
    nearest: Nearest
    taken: Int[Array, ""]
    goal: Goal


@registry.register("sigma_zero")
@dataclasses.dataclass(frozen=True)
class SigmaZero(SteppedAttack[SigmaZeroState]):
    """Minimum-norm attack in l0 (Cina et al. 2024, arXiv 2402.01879).

    Adam descends on the shortfall of the logits plus the mean over all values of
    d^2 / (d^2 + sigma), a smooth count of the changes d, along gradients of largest
    entry 1.  Changes below a threshold are taken back after each step; the threshold
    rises while the image is adversarial and falls while it is not.  The adversarial
    image with the fewest changed values is returned.

    Beyond the paper the attack can be targeted, and the shortfall counts in units of
    the clean image's own (`normalise`), so that the scale of the logits changes
    nothing.
    """

    family: ClassVar[Family] = "minimum norm"
    title: ClassVar[str] = "sigma-zero"
    source: ClassVar[str] = "Cina et al. 2024"
    takes_start: ClassVar[bool] = True

    norm: Norm = "l0"
    """Counts values, not pixels; there is no other."""
    steps: int = 1000
    learning_rate: float = 1.0
    """Adam's first; it falls along half a cosine to a tenth."""
    sigma: float = 0.001
    """The square of the change that counts as one half."""
    threshold: float = 0.3
    """The first one, in pixel values."""
    threshold_rate: float = 0.01
    """By which it moves in a step, times the learning rate."""
    normalise: bool = True
    """Measure the shortfall in units of the clean image's; otherwise in logits."""

    def __post_init__(self):
        check(self.norm == "l0", self, "norm", "l0")
        check(is_whole(self.steps, 1), self, "steps", "a whole number, 1 or more")
        for field in ("learning_rate", "sigma"):
            fits = 0 < getattr(self, field) < math.inf
            check(fits, self, field, "a finite number above 0")
        check(0 <= self.threshold <= 1, self, "threshold", "a number from 0 to 1")
        fits = 0 <= self.threshold_rate < math.inf
        check(fits, self, "threshold_rate", "a finite number, 0 or more")

    @property
    def iterations(self) -> int:
        """The steps."""
        return self.steps

    def passes(self, classes: int) -> Passes:
        """Returns the cost: the clean image, then a gradient a step."""
        del classes
        return Passes(begin=Queries(1, 0), step=Queries(1, 1))

    def begin(self, problem: Problem, key: PRNGKey) -> SigmaZeroState:
        """Returns the image itself, or the given start."""
        image = problem.image
        goal, there = Goal.of(problem, 0.0, self.normalise)
        nearest = Nearest.nothing(image)
        if problem.start is not None:
            # Without one, the first step compares the image itself.
            nearest = nearest.met(image, image, there, "l0")
        return SigmaZeroState(
            problem.begins_at,
            _ADAM.init(image),
            jnp.asarray(self.threshold, image.dtype),
            nearest,
            jnp.int32(0),
            goal,
        )

    def step(
        self, problem: Problem, key: PRNGKey, state: SigmaZeroState
    ) -> SigmaZeroState:
        """Returns the search one step on; the image it came from is compared."""
        original, image = problem.image, state.image
        taken = state.taken.astype(image.dtype)
        (_, adversarial), descent = state.goal.slope(problem, image)
        nearest = state.nearest.met(original, image, adversarial, "l0")
        delta = image - original
        gradient = jnp.where(adversarial, 0, -descent) + self._count_slope(delta)
        gradient = gradient / jnp.maximum(norms.norm(gradient, "linf"), _SMALLEST)
        update, adam = _ADAM.update(gradient, state.adam)
        moved = delta - self._rate(taken - 1) * jnp.asarray(update)
        moved = jnp.clip(original + moved, 0, 1) - original
        change = self.threshold_rate * self._rate(taken)
        threshold = state.threshold + jnp.where(adversarial, change, -change)
        threshold = jnp.clip(threshold, 0, 1)
        delta = jnp.where(jnp.abs(moved) < threshold, 0, moved)
        return SigmaZeroState(
            jnp.clip(original + delta, 0, 1),
            adam,
            threshold,
            nearest,
            state.taken + 1,
            state.goal,
        )

    def finish(self, problem: Problem, key: PRNGKey, state: SigmaZeroState) -> Image:
        """Returns the adversarial image with the fewest changes, or the original."""
        return state.nearest.image

    def _count_slope(self, delta: Image) -> Image:
        """Returns the gradient of the smooth count's mean."""
        return 2 * delta * self.sigma / (delta**2 + self.sigma) ** 2 / delta.size

    def _rate(self, taken: Array) -> Scalar:
        """Returns the learning rate after so many steps; at -1, too, the first."""
        angle = jnp.pi * jnp.maximum(taken, 0) / self.steps
        share = _LAST_RATE + (1 - _LAST_RATE) * (1 + jnp.cos(angle)) / 2
        return self.learning_rate * share
