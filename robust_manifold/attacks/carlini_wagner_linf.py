"""Carlini and Wagner's l-infinity attack: a bound on every pixel, lowered in rounds."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from robust_manifold.attacks.base import Problem
from robust_manifold.attacks.trade_off import Goal, RoundSearch
from robust_manifold.core.norms import norm
from robust_manifold.core.types import Image, PRNGKey, Scalar

_DECREASE = 0.9
"""Factor of the bound after a success."""
_NARROW = 0.005
"""The search ends when what succeeds and what fails are so near to each other."""
_FACTOR = 10
_LARGEST = 100


class Descent(NamedTuple):
    """One descent with one bound and one constant."""

    image: Image
    adam: optax.OptState
    constant: Scalar
    steps: Int[Array, ""]


class LinfState(NamedTuple):
    """Where the attack stands."""

    descent: Descent
    bound: Scalar
    """tau: what a pixel may move without a penalty."""
    failed: Scalar
    """The largest bound that was given up."""
    best: Image
    distance: Scalar
    rounds: Int[Array, ""]
    goal: Goal


@dataclasses.dataclass(frozen=True)
class LinfSearch(RoundSearch[LinfState]):
    """The search for one norm; `CarliniWagner` says what it does."""

    def begin(self, problem: Problem, key: PRNGKey) -> LinfState:
        """Returns the start, with every pixel free."""
        image = problem.image
        goal, there = Goal.of(problem, self.confidence, self.normalise)
        one, zero = jnp.ones((), image.dtype), jnp.zeros((), image.dtype)
        rounds = jnp.where(there, self.binary_search_steps, 0)
        start = self._fresh(problem.begins_at)
        return LinfState(start, one, zero, image, one, rounds, goal)

    def step(self, problem: Problem, key: PRNGKey, state: LinfState) -> LinfState:
        """Returns the search one step of Adam on."""
        descent, bound = state.descent, state.bound
        look, slope = state.goal.slope(problem, descent.image)
        delta = descent.image - problem.image
        distance = norm(delta, "linf")
        met = look.adversarial & (distance <= (bound + state.distance) / 2)
        nearer = look.adversarial & (distance <= state.distance)
        best = jnp.where(nearer, descent.image, state.best)
        nearest = jnp.where(nearer, distance, state.distance)

        beyond = jnp.where(jnp.abs(delta) > bound, jnp.sign(delta), 0)
        pull = jnp.where(look.adversarial, 0, descent.constant)
        update, adam = self._adam.update(beyond - pull * slope, descent.adam)
        moved = jnp.clip(descent.image + self._size(state) * update, 0, 1)  # type: ignore[operator]
        going = Descent(moved, adam, descent.constant, descent.steps + 1)
        state = state._replace(descent=going, best=best, distance=nearest)
        return optax.tree.where(
            met, self._next(state), self._at_the_end_of_steps(state)
        )

    def image_of(self, state: LinfState) -> Image:
        """Returns the image of the descent."""
        return state.descent.image

    def finish(self, problem: Problem, key: PRNGKey, state: LinfState) -> Image:
        """Returns the nearest adversarial image of all rounds."""
        return state.best

    @property
    def _adam(self) -> optax.GradientTransformation:
        # The size of a step is set by the bound.
        return optax.adam(1.0)

    def _size(self, state: LinfState) -> Scalar:
        """Returns the size of a step: half of what the bound still asks for."""
        half = (state.distance - state.bound) / 2
        return jnp.where(
            half > 0, jnp.minimum(half, self.learning_rate), self.learning_rate
        )

    def _fresh(self, image: Image) -> Descent:
        constant = jnp.asarray(self.initial_const, image.dtype)
        adam = self._adam.init(jnp.zeros_like(image))
        return Descent(image, adam, constant, jnp.int32(0))

    def _at_the_end_of_steps(self, state: LinfState) -> LinfState:
        """Returns the state, with a larger constant or bound if the steps are up."""
        descent = state.descent
        over = descent.steps >= self.steps
        last = _FACTOR * descent.constant > _LARGEST * self.initial_const
        larger = descent._replace(
            constant=_FACTOR * descent.constant, steps=jnp.int32(0)
        )
        raised = state._replace(descent=larger, rounds=state.rounds + 1)
        failed = self._next(state._replace(failed=state.bound))
        return optax.tree.where(over, optax.tree.where(last, failed, raised), state)

    def _next(self, state: LinfState) -> LinfState:
        """Returns the next round, with a bound between what fails and what succeeds."""
        lower, upper = state.failed, state.distance
        bound = jnp.maximum(_DECREASE * upper, (lower + upper) / 2)
        over = upper - lower <= _NARROW * upper
        return state._replace(
            descent=self._fresh(state.best),
            bound=bound,
            rounds=jnp.where(over, self.binary_search_steps, state.rounds + 1),
        )
