"""Carlini and Wagner's l2 attack: a change of variables, Adam, a search for c."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from robust_manifold.attacks.base import Passes, Problem, Queries
from robust_manifold.attacks.losses import finite
from robust_manifold.attacks.trade_off import (
    Constant,
    Goal,
    Look,
    RoundProgress,
    RoundSearch,
    repeats,
)
from robust_manifold.core.norms import norm
from robust_manifold.core.types import Image, PRNGKey, Scalar

_INSIDE = 0.999999
"""Keeps the ends of the box at finite values of the new variable."""
_LONGEST_STEP = 4
"""Adam's steps are cut to so many times the distance."""
_HALVINGS = 10
"""Of the way back from the best image to the clean one."""


class L2Round(NamedTuple):
    """One descent with one constant."""

    delta: Image
    """The move in the new variable."""
    adam: optax.OptState
    steps: Int[Array, ""]
    found: Bool[Array, ""]
    progress: RoundProgress


class L2State(NamedTuple):
    """Where the attack stands."""

    round: L2Round
    rounds: Int[Array, ""]
    constant: Constant
    goal: Goal
    best: Image
    distance: Scalar
    """Of the best image; infinite while there is none."""


@dataclasses.dataclass(frozen=True)
class L2Search(RoundSearch[L2State]):
    """The search for one norm; `CarliniWagner` says what it does."""

    def begin(self, problem: Problem, key: PRNGKey) -> L2State:
        """Returns the start of the first round."""
        image = problem.image
        goal, there = Goal.of(problem, self.confidence, self.normalise)
        # Nothing is nearer than the image itself: there is nothing to search.
        rounds = jnp.where(there, self.binary_search_steps, 0)
        constant = Constant.starting(self.initial_const, image)
        infinite = jnp.full((), jnp.inf, image.dtype)
        first = self._fresh(problem)
        return L2State(first, rounds, constant, goal, image, infinite)

    def step(self, problem: Problem, key: PRNGKey, state: L2State) -> L2State:
        """Returns the search one step of Adam on."""
        image, descent = problem.image, state.round
        start = _to_variable(image)
        rebuilt = _to_image(start)

        def loss(delta: Image) -> tuple[Scalar, tuple[Image, Look]]:
            moved = _to_image(start + delta)
            look = state.goal.look(problem, problem.classify(moved))
            squared = jnp.sum((moved - rebuilt) ** 2)
            return state.constant.value * look.shortfall + squared, (moved, look)

        (value, (moved, look)), gradient = jax.value_and_grad(loss, has_aux=True)(
            descent.delta
        )
        update, adam = self._adam.update(finite(gradient), descent.adam)
        descent = L2Round(
            descent.delta + self._share(moved, state) * update,  # type: ignore[operator]
            adam,
            descent.steps + 1,
            descent.found | look.adversarial,
            descent.progress,
        )
        distance = norm(moved - image, "l2")
        nearer = look.adversarial & (distance < state.distance)
        best = jnp.where(nearer, moved, state.best)
        distance = jnp.where(nearer, distance, state.distance)
        state = state._replace(round=descent, best=best, distance=distance)
        return self._end_of_round(problem, value, state)

    def image_of(self, state: L2State) -> Image:
        """Returns the nearest adversarial image so far."""
        return state.best

    def passes(self, classes: int) -> Passes:
        """Returns the cost: the clean image, a gradient a step, the way back."""
        halvings = _HALVINGS if self.normalise else 0
        return super().passes(classes)._replace(finish=Queries(halvings, 0))

    def finish(self, problem: Problem, key: PRNGKey, state: L2State) -> Image:
        """Returns the nearest adversarial image of all rounds, and a little nearer."""
        if not self.normalise:
            return state.best
        move = state.best - problem.image

        def halve(_, ends: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
            inside, outside = ends
            middle = (inside + outside) / 2
            logits = problem.classify(problem.image + middle * move)
            adversarial = state.goal.look(problem, logits).adversarial
            return (
                jnp.where(adversarial, inside, middle),
                jnp.where(adversarial, middle, outside),
            )

        zero, one = jnp.zeros((), move.dtype), jnp.ones((), move.dtype)
        _, share = jax.lax.fori_loop(0, _HALVINGS, halve, (zero, one))
        # Where nothing is gained, the image that is known to succeed.
        return jnp.where(share < 1, problem.image + share * move, state.best)

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def _share(self, image: Image, state: L2State) -> Scalar | float:
        """Returns the share of Adam's step that keeps it near the distance.

        Adam's first step moves every variable by the learning rate, and a grey pixel
        by half of it.  Where the boundary is much nearer than that, all rounds would
        only overshoot it.  A black or a white pixel hardly moves: it has far to go in
        its variable, and counts by the slope that it has there.
        """
        if not self.normalise:
            return 1.0
        longest = self.learning_rate * norm(4 * image * (1 - image), "l2")
        # Where no pixel has a slope yet, at a distance of 0 too, the step is whole.
        return jnp.fmin(1, _LONGEST_STEP * state.distance / longest)

    def _fresh(self, problem: Problem) -> L2Round:
        zeros = jnp.zeros_like(problem.image)
        adam = self._adam.init(zeros)
        progress = RoundProgress.starting(zeros)
        move = _first_move(problem)
        return L2Round(move, adam, jnp.int32(0), jnp.bool_(False), progress)

    def _end_of_round(self, problem: Problem, loss: Scalar, state: L2State) -> L2State:
        """Returns the state, in the next round if this one is over."""
        descent = state.round
        over = descent.steps >= self.steps
        if self.abort_early:
            moved = jnp.any(descent.delta != _first_move(problem))
            progress = descent.progress.after(descent.steps, self.steps, loss, moved)
            over |= progress.stalled
            state = state._replace(round=descent._replace(progress=progress))
        rounds = state.rounds + 1
        constant = state.constant.after(
            descent.found, repeats(self.binary_search_steps, rounds)
        )
        if self.normalise:
            # Where the shortfall falls evenly from 1 to 0, the constant of distance d
            # is 2 d^2, and the best image so far is no nearer than that.
            value = jnp.minimum(constant.value, 4 * state.distance**2)
            value = jnp.where(value > constant.lower, value, constant.value)
            constant = constant._replace(value=value)
        after = state._replace(
            round=self._fresh(problem), rounds=rounds, constant=constant
        )
        return optax.tree.where(over, after, state)


def _first_move(problem: Problem) -> Image:
    """Returns the move that a round begins with: none, or that to a given start."""
    if problem.start is None:
        return jnp.zeros_like(problem.image)
    return _to_variable(problem.start) - _to_variable(problem.image)


def _to_variable(image: Image) -> Image:
    return jnp.arctanh(_INSIDE * (2 * image - 1))


def _to_image(variable: Image) -> Image:
    # (tanh + 1) / 2, but exact near 0 in single precision, where most of a digit's
    # pixels are and where the rounding of tanh near -1 would blur its slope.
    return jax.nn.sigmoid(2 * variable)
