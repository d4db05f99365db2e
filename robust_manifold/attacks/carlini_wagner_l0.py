"""Carlini and Wagner's l0 attack: l2 attacks on ever fewer pixels."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from robust_manifold.attacks.base import Problem
from robust_manifold.attacks.trade_off import Goal, Look, RoundSearch
from robust_manifold.core.types import Image, PRNGKey, Scalar

_FACTOR = 10
_LARGEST = 1e4
"""The last constant that is tried before a set of pixels is given up."""
_SHARE = 0.3
"""Of the pixels that are changed, removed in a round as long as that goes well."""

Pixels = Bool[Array, "height width channels"]


_HALVINGS = 24


class Kept(NamedTuple):
    """The best image so far, and what is known about its pixels."""

    image: Image
    worth: Image
    """Change times slope of each: the least worthy is removed first."""
    needed: Pixels
    """Those without which no adversarial image was found."""


class Trial(NamedTuple):
    """One attack on a set of pixels."""

    image: Image
    adam: optax.OptState
    allowed: Pixels
    constant: Scalar
    steps: Int[Array, ""]


class L0State(NamedTuple):
    """Where the attack stands."""

    trial: Trial
    kept: Kept
    share: Scalar
    """Of the removable pixels, removed at once."""
    rounds: Int[Array, ""]
    goal: Goal


@dataclasses.dataclass(frozen=True)
class L0Search(RoundSearch[L0State]):
    """The search for one norm; `CarliniWagner` says what it does."""

    def begin(self, problem: Problem, key: PRNGKey) -> L0State:
        """Returns the start, with all pixels allowed."""
        image = problem.image
        goal, there = Goal.of(problem, self.confidence, self.normalise)
        everything = jnp.ones(image.shape, bool)
        constant = jnp.asarray(self.initial_const, image.dtype)
        return L0State(
            self._trial(problem.begins_at, everything, constant),
            Kept(image, jnp.zeros_like(image), ~everything),
            jnp.asarray(_SHARE, image.dtype),
            jnp.where(there, self.binary_search_steps, 0),
            goal,
        )

    def step(self, problem: Problem, key: PRNGKey, state: L0State) -> L0State:
        """Returns the search one step on: a step of Adam, or another set of pixels."""
        trial = state.trial
        look, descent = state.goal.slope(problem, trial.image)
        stepped = self._stepped(problem, trial, look, descent)
        up = stepped.steps >= self.steps
        last = _FACTOR * trial.constant > _LARGEST * self.initial_const
        raised = stepped._replace(constant=_FACTOR * trial.constant, steps=jnp.int32(0))
        going = optax.tree.where(
            up,
            state._replace(trial=raised, rounds=state.rounds + 1),
            state._replace(trial=stepped),
        )
        succeeded = state._replace(kept=_kept(problem, state, descent))
        decided = optax.tree.where(
            look.adversarial, succeeded, _given_up(problem, state)
        )
        fewer = self._next(problem, decided)
        return optax.tree.where(look.adversarial | (up & last), fewer, going)

    def image_of(self, state: L0State) -> Image:
        """Returns the image of the trial."""
        return state.trial.image

    def finish(self, problem: Problem, key: PRNGKey, state: L0State) -> Image:
        """Returns the adversarial image with the fewest changed pixels."""
        return state.kept.image

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def _trial(self, image: Image, allowed: Pixels, constant: Scalar) -> Trial:
        adam = self._adam.init(jnp.zeros_like(image))
        return Trial(image, adam, allowed, constant, jnp.int32(0))

    def _stepped(
        self, problem: Problem, trial: Trial, look: Look, descent: Image
    ) -> Trial:
        """Returns the trial one step of Adam on."""
        pull = jnp.where(look.adversarial, 0, trial.constant)
        gradient = 2 * (trial.image - problem.image) - pull * descent
        gradient = jnp.where(trial.allowed, gradient, 0)
        update, adam = self._adam.update(gradient, trial.adam)
        moved = jnp.clip(trial.image + update, 0, 1)  # type: ignore[operator]
        moved = jnp.where(trial.allowed, moved, problem.image)
        return trial._replace(image=moved, adam=adam, steps=trial.steps + 1)

    def _next(self, problem: Problem, state: L0State) -> L0State:
        """Returns a trial from the best image, its least worthy pixels put back."""
        kept = state.kept
        changed = kept.image != problem.image
        removable = changed & ~kept.needed
        allowed = changed & ~_least_worthy(kept.worth, removable, state.share)
        start = jnp.where(allowed, kept.image, problem.image)
        over = ~removable.any()
        return state._replace(
            trial=self._trial(start, allowed, state.trial.constant),
            rounds=jnp.where(over, self.binary_search_steps, state.rounds + 1),
        )


def _kept(problem: Problem, state: L0State, descent: Image) -> Kept:
    """Returns the trial's image, which has succeeded, as the best."""
    image = state.trial.image
    worth = jnp.abs((image - problem.image) * descent)
    return Kept(image, worth, state.kept.needed)


def _given_up(problem: Problem, state: L0State) -> L0State:
    """Returns the state after a trial that failed: fewer pixels are removed."""
    kept = state.kept
    removed = (kept.image != problem.image) & ~state.trial.allowed
    needed = kept.needed | (removed & (jnp.sum(removed) <= 1))
    return state._replace(kept=kept._replace(needed=needed), share=state.share / 2)


def _least_worthy(worth: Image, removable: Pixels, share: Scalar) -> Pixels:
    """Returns the least worthy pixels: the share of the removable ones, at least one.

    The threshold is found by bisection: sorting at every step would cost more than a
    small network's gradient.
    """
    worth = jnp.where(removable, worth, jnp.inf)
    lowest = worth == jnp.min(worth)
    first = jnp.arange(worth.size) == jnp.argmax(lowest.reshape(-1))
    allowance = share * jnp.sum(removable)

    def halve(_, bounds):
        lower, upper = bounds
        middle = (lower + upper) / 2
        fits = jnp.sum(worth <= middle) <= allowance
        return jnp.where(fits, middle, lower), jnp.where(fits, upper, middle)

    most = jnp.max(jnp.where(removable, worth, 0))
    bounds = (jnp.zeros_like(most), most)
    threshold, _ = jax.lax.fori_loop(0, _HALVINGS, halve, bounds)
    few = (worth <= threshold) & (jnp.sum(worth <= threshold) <= allowance)
    return removable & (few | first.reshape(worth.shape))
