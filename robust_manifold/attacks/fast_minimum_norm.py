"""Fast minimum norm: gradient steps in a ball whose radius follows the boundary."""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from robust_manifold.attacks import aim, hyperplane, region
from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    registry,
)
from robust_manifold.attacks.nearest import Nearest, begun
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey, Scalar

_LAST_GAMMA = 0.001
"""The radius' smallest relative change, the paper's."""

_BEYOND = 64
"""Roundings by which a radius exceeds the distance to the linearised boundary: without
them an image may touch the boundary for ever and never cross it."""


class Ball(NamedTuple):
    """Where the search stands."""

    image: Image
    radius: Scalar
    """Infinite until the first step; for l0 the number of values that may change."""
    nearest: Nearest
    taken: Int[Array, ""]
    slopes: aim.Slopes
    lost: Scalar
    """What the box took away of the last move's length."""


@registry.register("fmn")
@dataclasses.dataclass(frozen=True)
class FMN(SteppedAttack[Ball]):
    """Minimum-norm attack in any of four norms (Pintor et al. 2021).

    Each step follows the gradient of the difference of logits, of l2 length 1, into a
    ball around the image.  The ball's radius is the distance to the linearised boundary
    until the first adversarial image is met; from then on it shrinks where the image is
    adversarial and grows where it is not, by shares that fall along a cosine as the
    step sizes do.  The nearest adversarial image met is returned.

    Three things differ from the paper.  A radius that is a distance to the boundary
    leads beyond it by some roundings.  With `inside_box` neither steps nor radii count
    on values which the box takes away again: the gradient is zero where it leads out of
    the box, such a radius makes up for what was cut off the last move, and for l0 a
    step is clipped before its largest values are chosen.  And, unless `loss` is
    "difference", the logit followed is not that of the likeliest other class, which may
    be far, but of the nearest to first order: the differences are divided by the
    lengths of their gradients on the clean image.
    """

    family: ClassVar[Family] = "minimum norm"
    title: ClassVar[str] = "fast minimum norm"
    source: ClassVar[str] = "Pintor et al. 2021"
    takes_start: ClassVar[bool] = True

    norm: Norm = "linf"
    """`linf`, `l2`, `l1` or `l0`, which counts values, not pixels."""
    steps: int = 100
    max_stepsize: float = 1.0
    """The first step's l2 length."""
    min_stepsize: float | None = None
    """The last step's; by default a hundredth of the first one's."""
    gamma: float = 0.05
    """The radius' first relative change."""
    loss: str = "nearest"
    """`nearest`, or the paper's `difference`; a targeted attack has but the latter."""
    inside_box: bool = True
    """Count on the room that [0, 1] leaves; off: the paper's steps and radii."""

    def __post_init__(self):
        known = ("linf", "l2", "l1", "l0")
        check(self.norm in known, self, "norm", " or ".join(known))
        check(is_whole(self.steps, 1), self, "steps", "a whole number, 1 or more")
        check(
            0 < self.max_stepsize < math.inf,
            self,
            "max_stepsize",
            "a finite number above 0",
        )
        check(
            self.min_stepsize is None or 0 < self.min_stepsize <= self.max_stepsize,
            self,
            "min_stepsize",
            "a number above 0, at most max_stepsize, or None",
        )
        check(
            _LAST_GAMMA <= self.gamma < 1,
            self,
            "gamma",
            f"a number from {_LAST_GAMMA} to 1, 1 excluded",
        )
        check(
            self.loss in ("nearest", "difference"),
            self,
            "loss",
            "nearest or difference",
        )

    @property
    def iterations(self) -> int:
        """The steps."""
        return self.steps

    def passes(self, classes: int) -> Passes:
        """Returns the cost: a gradient a step, at first all classes' for "nearest"."""
        return Passes(begin=aim.cost(self.loss, classes), step=Queries(1, 1))

    def spent(self, state: Ball, steps: Int[Array, ""], classes: int) -> Queries:
        """Returns what was asked for; a targeted attack needs no slopes."""
        del classes
        return aim.spent(state.slopes, steps)

    def begin(self, problem: Problem, key: PRNGKey) -> Ball:
        """Returns the image itself."""
        image = problem.image
        radius = jnp.full((), 1 if self.norm == "l0" else jnp.inf, image.dtype)
        # The steepest single entry, l1's slope, tells little of a curved classifier.
        slopes = aim.slopes(problem, self.loss, "linf" if self.norm == "linf" else "l2")
        zero = jnp.zeros((), image.dtype)
        return Ball(image, radius, Nearest.nothing(image), jnp.int32(0), slopes, zero)

    def step(self, problem: Problem, key: PRNGKey, state: Ball) -> Ball:
        """Returns the search one step on; the image it came from is compared.

        A given start comes after the image itself.
        """
        original, image = problem.image, state.image
        objective = aim.objective(problem, self.loss, state.slopes)
        evaluation, gradient = objective.evaluate_with_gradient(image)
        if self.inside_box:
            gradient = region.inwards(gradient, image)
        adversarial = evaluation.adversarial
        nearest = state.nearest.met(original, image, adversarial, self.norm)
        state = state._replace(nearest=nearest)
        farthest = norms.norm(jnp.maximum(original, 1 - original), self.norm)
        if self.norm == "l0":
            radius = self._count_allowed(state, adversarial)
        else:
            size = norms.norm(image - original, self.norm) + state.lost
            left = hyperplane.distance(evaluation.loss, gradient, self.norm)
            # Logits that are level, by rounding as well, do not say how far it is.
            left = jnp.where(left > 0, left, _LAST_GAMMA * farthest)
            reach = (size + left) * (1 + _BEYOND * jnp.finfo(image.dtype).eps)
            radius = self._radius(state, adversarial, reach)
        radius = jnp.fmin(radius, farthest)
        stepsize = self._falling(state, self.max_stepsize, self._least_stepsize)
        moved = image + stepsize * norms.steepest_direction(gradient, "l2")
        if self.norm == "l0" and self.inside_box:
            moved = jnp.clip(moved, 0, 1)
        delta = self._project(moved - original, radius)
        image = jnp.clip(original + delta, 0, 1)
        lost = self._lost(delta, image - original)
        image, radius = begun(problem, state.taken, image, radius, self.norm)
        return Ball(image, radius, nearest, state.taken + 1, state.slopes, lost)

    def finish(self, problem: Problem, key: PRNGKey, state: Ball) -> Image:
        """Returns the nearest adversarial image, or the original."""
        return state.nearest.image

    @property
    def _least_stepsize(self) -> float:
        if self.min_stepsize is None:
            return self.max_stepsize / 100
        return self.min_stepsize

    def _falling(self, state: Ball, first: float, last: float) -> Scalar:
        """Returns a value that falls along half a cosine."""
        angle = jnp.pi * state.taken.astype(state.image.dtype) / self.steps
        return last + (first - last) * (1 + jnp.cos(angle)) / 2

    def _lost(self, delta: Image, kept: Image) -> Scalar:
        """Returns by how much the box has shortened a move."""
        if not self.inside_box:
            return jnp.zeros((), delta.dtype)
        lost = norms.norm(delta, self.norm) - norms.norm(kept, self.norm)
        # Where nothing was cut off, a difference is one of rounding.
        return jnp.where(jnp.any(delta != kept), jnp.maximum(lost, 0), 0)

    def _radius(
        self, state: Ball, adversarial: Bool[Array, ""], reach: Scalar
    ) -> Scalar:
        """Returns the next radius.

        Args:
          state: the nearest already compared with the image.
          adversarial: whether the image is.
          reach: the radius that leads just beyond the linearised boundary.
        """
        gamma = self._falling(state, self.gamma, _LAST_GAMMA)
        smaller = jnp.minimum(state.radius * (1 - gamma), state.nearest.distance)
        larger = jnp.where(state.nearest.found, state.radius * (1 + gamma), reach)
        return jnp.where(adversarial, smaller, larger)

    def _count_allowed(self, state: Ball, adversarial: Bool[Array, ""]) -> Scalar:
        """Returns how many values may change next: at least one more or less."""
        gamma = self._falling(state, self.gamma, _LAST_GAMMA)
        smaller = jnp.minimum(state.radius - 1, jnp.floor(state.radius * (1 - gamma)))
        smaller = jnp.minimum(smaller, state.nearest.distance)
        larger = jnp.maximum(state.radius + 1, jnp.floor(state.radius * (1 + gamma)))
        return jnp.maximum(jnp.where(adversarial, smaller, larger), 1)

    def _project(self, delta: Image, radius: Scalar) -> Image:
        if self.norm == "l0":
            return _largest(delta, radius)
        return norms.project_ball(delta, radius, self.norm)


def _largest(delta: Image, count: Any) -> Image:
    """Returns the `count` largest values, the others being 0."""
    order = jnp.argsort(-jnp.abs(delta).ravel(), stable=True)
    kept = jnp.zeros(delta.size, bool).at[order].set(jnp.arange(delta.size) < count)
    return jnp.where(kept.reshape(delta.shape), delta, 0)
