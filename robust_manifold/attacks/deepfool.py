"""DeepFool: step by step to the nearest linearised boundary."""

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks import hyperplane
from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    registry,
)
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey

_BEYOND = 1e-4
"""How far beyond the linearised boundary a step goes, in the attack's norm: the
overshoot alone is lost to rounding near the boundary."""

_LEAST_KEPT = 0.25
"""The share of a step's gain that clipping must leave."""


class DeepFoolState(NamedTuple):
    """Where the walk stands."""

    position: Image
    """May be outside the box; the image is its clip."""
    found: Bool[Array, ""]
    others: Int[Array, " others"]
    """The candidate classes, the likeliest first."""
    backwards: Int[Array, ""]


@registry.register("deepfool")
@dataclasses.dataclass(frozen=True)
class DeepFool(SteppedAttack[DeepFoolState]):
    """Steps to the nearest boundary, linearised anew (Moosavi-Dezfooli et al. 2016).

    The candidate classes are those likeliest on the clean image; a targeted attack has
    one boundary, that to the class likeliest beside the target.  The first adversarial
    image is returned.

    A step ignores the box, and the image is clipped afterwards: what the clipping takes
    away can hold the paper's walk short of the boundary for ever.  Here the shortest
    step inside the box is taken wherever the clipping would leave less than a quarter
    of the step's gain, unless `inside_box` is off.
    """

    family: ClassVar[Family] = "minimum norm"
    title: ClassVar[str] = "DeepFool"
    source: ClassVar[str] = "Moosavi-Dezfooli et al. 2016"
    needs_classes: ClassVar[bool] = True
    ends_early: ClassVar[bool] = True
    takes_start: ClassVar[bool] = True

    norm: Norm = "l2"
    """`l2` or `linf`."""
    steps: int = 50
    overshoot: float = 0.02
    """Each step is longer than to the boundary by this share."""
    candidates: int = 10
    """Classes looked at, the label included."""
    inside_box: bool = True
    """Solve a step inside [0, 1] where clipping spoils it; off: the paper's steps."""

    def __post_init__(self):
        check(self.norm in ("linf", "l2"), self, "norm", "linf or l2")
        check(is_whole(self.steps, 1), self, "steps", "a whole number, 1 or more")
        check(
            0 <= self.overshoot < math.inf,
            self,
            "overshoot",
            "a finite number, 0 or more",
        )
        check(
            is_whole(self.candidates, 2),
            self,
            "candidates",
            "a whole number, 2 or more",
        )

    @property
    def iterations(self) -> int:
        """The steps."""
        return self.steps

    def passes(self, classes: int) -> Passes:
        """Returns the cost: a gradient for each candidate, and the new image's value.

        A targeted attack has but one candidate.
        """
        others = min(self.candidates, classes) - 1
        return Passes(begin=Queries(1, 0), step=Queries(2, others))

    def spent(
        self, state: DeepFoolState, steps: Int[Array, ""], classes: int
    ) -> Queries:
        """Returns what was asked for; the gradients are counted in the state."""
        forwards = super().spent(state, steps, classes).forwards
        return Queries(forwards, state.backwards)

    def begin(self, problem: Problem, key: PRNGKey) -> DeepFoolState:
        """Returns the clean image, or the given start, with its candidate classes."""
        logits = problem.classify(problem.image)
        others = hyperplane.rivals(problem, logits)
        count = min(self.candidates, logits.size) - 1
        found = problem.succeeds(logits)
        # An image that is adversarial by itself is what the walk returns.
        start = jnp.where(found, problem.image, problem.begins_at)
        return DeepFoolState(start, found, others[:count], jnp.int32(0))

    def step(
        self, problem: Problem, key: PRNGKey, state: DeepFoolState
    ) -> DeepFoolState:
        """Returns the walk one step nearer to, or beyond, the nearest boundary."""
        image = jnp.clip(state.position, 0, 1)
        near = hyperplane.boundaries(problem, image, state.others)
        position = self._moved(state.position, image, near)
        found = problem.succeeds(problem.classify(jnp.clip(position, 0, 1)))
        if problem.start is not None:
            # Only of a given start is it not known yet.
            there = problem.succeeds(near.logits)
            position = jnp.where(there, state.position, position)
            found |= there
        backwards = state.backwards + near.values.size
        return DeepFoolState(position, found, state.others, backwards)

    def image_of(self, state: DeepFoolState) -> Image:
        """Returns the position, clipped to the box."""
        return jnp.clip(state.position, 0, 1)

    def ended(self, state: DeepFoolState) -> Bool[Array, ""]:
        """Returns whether the image is adversarial."""
        return state.found

    def finish(self, problem: Problem, key: PRNGKey, state: DeepFoolState) -> Image:
        """Returns the adversarial image, or the original."""
        return jnp.where(state.found, jnp.clip(state.position, 0, 1), problem.image)

    def _moved(
        self, position: Image, image: Image, near: hyperplane.Boundaries
    ) -> Image:
        """Returns the position beyond the nearest linearised boundary."""

        def gain(value, gradient):
            return jnp.abs(value) + _BEYOND * hyperplane.dual_norm(gradient, self.norm)

        gains = jax.vmap(gain)(near.values, near.gradients)
        distances = jax.vmap(lambda v, g: hyperplane.distance(v, g, self.norm))(
            near.values, near.gradients
        )
        best = jnp.argmin(distances)
        free = hyperplane.free_step(near.gradients[best], gains[best], self.norm)
        moved = position + (1 + self.overshoot) * free
        if not self.inside_box:
            return moved
        kept = jnp.vdot(near.gradients[best], jnp.clip(moved, 0, 1) - image)
        inside = (1 + self.overshoot) * self._shortest_inside(image, near, gains)
        enough = kept >= _LEAST_KEPT * gains[best]
        return jnp.where(enough, moved, jnp.clip(image + inside, 0, 1))

    def _shortest_inside(
        self, image: Image, near: hyperplane.Boundaries, gains: Float[Array, " others"]
    ) -> Image:
        """Returns the step to the boundary that is nearest inside the box."""
        delta, reached = jax.vmap(
            lambda g, gain: hyperplane.step(image, g, gain, self.norm)
        )(near.gradients, gains)
        lengths = jax.vmap(lambda d: norms.norm(d, self.norm))(delta)
        nearest = jnp.argmin(jnp.where(reached, lengths, jnp.inf))
        # Where the box holds no boundary, the one that is approached the most.
        gained = jax.vmap(jnp.vdot)(near.gradients, delta)
        closest = jnp.argmax(gained / jnp.where(gains > 0, gains, 1))
        return delta[jnp.where(reached.any(), nearest, closest)]
