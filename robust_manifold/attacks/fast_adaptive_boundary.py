"""FAB: projections onto linearised boundaries, biased towards the original image."""

import copy
import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from robust_manifold.attacks import hyperplane, losses, region
from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    check_epsilon,
    registry,
)
from robust_manifold.attacks.nearest import Nearest
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey, Scalar

_SEARCH_STEPS = 3
"""Of the final search between the original and what was found, as in the paper."""

_BEYOND = 1e-4
"""How far a step goes beyond the boundary that it starts on, in the attack's norm."""


class FABState(NamedTuple):
    """Where the search stands."""

    image: Image
    nearest: Nearest
    inside: Bool[Array, ""]
    """Whether the nearest is inside the budget; never without one."""
    others: Int[Array, " others"]
    """The classes beside the label, the likeliest on the clean image first."""
    taken: Int[Array, ""]
    runs: Int[Array, ""]
    """How many there are in all."""
    backwards: Int[Array, ""]


@registry.register("fab")
@dataclasses.dataclass(frozen=True)
class FAB(SteppedAttack[FABState]):
    """Fast adaptive boundary attack (Croce and Hein 2020), in three norms.

    Each step linearises the nearest boundary, projects both the current and the
    original image onto it inside the box, goes a little beyond, and takes a mean of
    the two, biased towards the original.  Whenever the result is adversarial the search
    goes back towards the original by the factor `beta`.  The nearest adversarial image
    met is returned, after a short search on the way to it.

    With `targets` it is the targeted version: one run for each of so many likeliest
    classes, each with one gradient a step instead of one for each class.  That is still
    an untargeted attack: any wrong class is a success.

    Without `epsilon` it looks for the smallest perturbation.  With it, a run ends at
    the first adversarial image inside the ball, and none outside is returned.  Later
    restarts begin at random, within half the smaller of the budget and the distance
    found so far.
    """

    family: ClassVar[Family] = "minimum norm"
    title: ClassVar[str] = "fast adaptive boundary"
    source: ClassVar[str] = "Croce and Hein 2020"
    needs_classes: ClassVar[bool] = True
    ends_early: ClassVar[bool] = True
    takes_start: ClassVar[bool] = True

    norm: Norm = "linf"
    """`linf`, `l2` or `l1`."""
    steps: int = 100
    """Of each run."""
    restarts: int = 1
    alpha_max: float = 0.1
    """The largest weight of the original's projection."""
    eta: float = 1.05
    """How far a projection goes, 1 being the boundary."""
    beta: float = 0.9
    """What is kept of an adversarial perturbation."""
    targets: int | None = None
    """Classes of the targeted version, at most; None: all boundaries in each step."""
    epsilon: float | None = None
    """The budget, in the plain norm, on pixels in [0, 1]; None: the minimum norm."""

    def __post_init__(self):
        check(self.norm in ("linf", "l2", "l1"), self, "norm", "linf or l2 or l1")
        check(is_whole(self.steps, 1), self, "steps", "a whole number, 1 or more")
        check(is_whole(self.restarts, 1), self, "restarts", "a whole number, 1 or more")
        check(0 <= self.alpha_max <= 1, self, "alpha_max", "a number from 0 to 1")
        check(1 <= self.eta < math.inf, self, "eta", "a finite number, 1 or more")
        check(0 < self.beta <= 1, self, "beta", "a number above 0, at most 1")
        check(
            self.targets is None or is_whole(self.targets, 1),
            self,
            "targets",
            "a whole number, 1 or more, or None",
        )
        if self.epsilon is not None:
            check_epsilon(self)

    @property
    def iterations(self) -> int:
        """The steps of all runs, should there be as many classes as `targets`."""
        return self.steps * self.restarts * (self.targets or 1)

    def passes(self, classes: int) -> Passes:
        """Returns the cost: the gradients of a step, and the new image's value.

        A step needs one gradient with `targets` or in a targeted attack, otherwise one
        for each class but the label.
        """
        gradients = 1 if self.targets else classes - 1
        return Passes(
            begin=Queries(1, 0),
            step=Queries(2, gradients),
            finish=Queries(2 + _SEARCH_STEPS, 0),
        )

    def cost(self, classes: int) -> Queries:
        """Returns the most that is asked for with so many classes."""
        if self.targets is None or self.targets < classes:
            return super().cost(classes)
        return dataclasses.replace(self, targets=classes - 1).cost(classes)

    def spent(self, state: FABState, steps: Int[Array, ""], classes: int) -> Queries:
        """Returns what was asked for; the gradients are counted in the state."""
        forwards = super().spent(state, steps, classes).forwards
        return Queries(forwards, state.backwards)

    def without_budget(self) -> Any:
        """Returns the attack as a part of a program that serves all budgets.

        Its `epsilon` is 0 for all of them: there are budgets, `problem.epsilon`.
        """
        if self.epsilon is None:
            return self
        shared = copy.copy(self)
        object.__setattr__(shared, "epsilon", 0.0)
        return shared

    def begin(self, problem: Problem, key: PRNGKey) -> FABState:
        """Returns the clean image, and the classes in their order."""
        image = problem.image
        logits = problem.classify(image)
        nearest = Nearest.nothing(image).met(
            image, image, problem.succeeds(logits), self.norm
        )
        others = hyperplane.rivals(problem, logits)[:-1]
        living = jnp.sum(losses.possible(logits)[others])
        most = 1 if problem.targeted else min(self.targets or 1, others.size)
        # Classes that cannot win, which come last, need no runs.
        classes = jnp.clip(living, 1, most)
        return FABState(
            image=image,
            nearest=nearest,
            inside=self._inside(problem, nearest),
            others=others,
            taken=jnp.int32(0),
            runs=(classes * self.restarts).astype(jnp.int32),
            backwards=jnp.int32(0),
        )

    def step(self, problem: Problem, key: PRNGKey, state: FABState) -> FABState:
        """Returns the search one step on, or at the first step of its next run."""
        begins = state.taken % self.steps == 0
        image = jnp.where(begins, self._start(problem, key, state), state.image)
        near = hyperplane.boundaries(problem, image, self._rivals(state))
        adversarial = problem.succeeds(near.logits)
        nearest = state.nearest.met(problem.image, image, adversarial, self.norm)

        image = self._moved(problem.image, image, near)
        adversarial = problem.succeeds(problem.classify(image))
        nearest = nearest.met(problem.image, image, adversarial, self.norm)
        back = problem.image + self.beta * (image - problem.image)
        return state._replace(
            image=jnp.where(adversarial, jnp.clip(back, 0, 1), image),
            nearest=nearest,
            inside=self._inside(problem, nearest),
            taken=state.taken + 1,
            backwards=state.backwards + near.values.size,
        )

    def ended(self, state: FABState) -> Bool[Array, ""]:
        """Returns whether all runs are done or none can find anything nearer."""
        done = state.taken >= state.runs * self.steps
        return done | state.inside | (state.nearest.distance <= 0)

    def finish(self, problem: Problem, key: PRNGKey, state: FABState) -> Image:
        """Returns the nearest adversarial image, or the original."""
        nearest = self._searched(problem, state.nearest)
        if self.epsilon is None:
            return nearest.image
        return jnp.where(self._inside(problem, nearest), nearest.image, problem.image)

    def _inside(self, problem: Problem, nearest: Nearest) -> Bool[Array, ""]:
        if self.epsilon is None:
            return jnp.bool_(False)
        return nearest.distance <= problem.epsilon

    def _rivals(self, state: FABState) -> Int[Array, " others"]:
        """Returns the classes of this step's boundaries."""
        if self.targets is None:
            return state.others
        run = state.taken // self.steps
        classes = state.runs // self.restarts
        return jax.lax.dynamic_slice_in_dim(state.others, run % classes, 1)

    def _start(self, problem: Problem, key: PRNGKey, state: FABState) -> Image:
        """Returns where a run begins: the first of each class at the image itself.

        Where a start is given, the first of each class begins there.
        """
        image, farthest = problem.image, state.nearest.distance
        given = problem.begins_at
        if self.epsilon is not None and problem.start is not None:
            given = region.projection(image, problem.epsilon, self.norm)(given)
        if self.restarts == 1:
            return given
        corner = norms.norm(jnp.maximum(image, 1 - image), self.norm)
        farthest = jnp.minimum(farthest, corner)
        if self.epsilon is not None:
            farthest = jnp.minimum(farthest, problem.epsilon)
        unit = norms.uniform_in_ball(key, image, self.norm)
        random = jnp.clip(image + farthest / 2 * unit, 0, 1)
        first = state.taken < state.runs // self.restarts * self.steps
        return jnp.where(first, given, random)

    def _moved(self, original: Image, image: Image, near: Any) -> Image:
        """Returns the biased mean of both projections onto the nearest boundary."""
        distances = jax.vmap(lambda v, g: hyperplane.distance(v, g, self.norm))(
            near.values, near.gradients
        )
        nearest = jnp.argmin(distances)
        value, gradient = near.values[nearest], near.gradients[nearest]
        delta = self._projection(image, value, gradient)
        there = value + jnp.vdot(gradient, original - image)
        original_delta = self._projection(original, there, gradient)
        own, others = (norms.norm(d, self.norm) for d in (delta, original_delta))
        total = own + others
        alpha = jnp.where(total > 0, own / jnp.where(total > 0, total, 1), 0)
        alpha = jnp.minimum(alpha, self.alpha_max)
        mean = (1 - alpha) * (image + self.eta * delta)
        return jnp.clip(mean + alpha * (original + self.eta * original_delta), 0, 1)

    def _projection(self, point: Image, value: Scalar, gradient: Image) -> Image:
        """Returns the step onto the boundary, from either side of it.

        From the boundary itself, which a tie may keep from being adversarial, it leads
        a little beyond.
        """
        upwards = jnp.where(value <= 0, gradient, -gradient)
        beyond = _BEYOND * hyperplane.dual_norm(gradient, self.norm)
        gain = jnp.where(value == 0, beyond, jnp.abs(value))
        return hyperplane.step(point, upwards, gain, self.norm).delta

    def _searched(self, problem: Problem, nearest: Nearest) -> Nearest:
        """Returns the nearest on the way from the original to what was found.

        The difference of logits is interpolated between the last point that is not
        adversarial and the first that is.
        """
        objective = problem.objective("difference")
        away = nearest.image - problem.image
        low, high = jnp.zeros_like(nearest.distance), jnp.ones_like(nearest.distance)
        below = objective.evaluate(problem.image).loss
        above = objective.evaluate(nearest.image).loss
        for _ in range(_SEARCH_STEPS):
            rise = above - below
            share = -below / jnp.where(rise > 0, rise, 1)
            # A little beyond, where the boundary is crossed for certain if it is flat.
            share = jnp.clip(jnp.where(rise > 0, share, 1) + 0.01, 0.05, 0.95)
            middle = low + share * (high - low)
            image = jnp.clip(problem.image + middle * away, 0, 1)
            logits = problem.classify(image)
            met = objective.of(logits)
            nearest = nearest.met(
                problem.image, image, met.adversarial & nearest.found, self.norm
            )
            low = jnp.where(met.adversarial, low, middle)
            below = jnp.where(met.adversarial, below, met.loss)
            high = jnp.where(met.adversarial, middle, high)
            above = jnp.where(met.adversarial, met.loss, above)
        return nearest
