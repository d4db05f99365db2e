"""Projected gradient ascent in a ball, with restarts and the best of the trajectory."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from robust_manifold.attacks import region
from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    check_epsilon,
    registry,
)
from robust_manifold.attacks.losses import (
    Candidate,
    Loss,
    best_of,
    check_loss,
    with_enough_classes,
)
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check
from robust_manifold.core.types import Image, PRNGKey


class Climb(NamedTuple):
    """Where the restarts stand, along a leading axis."""

    image: Image
    best: Candidate


@registry.register("pgd")
@dataclasses.dataclass(frozen=True)
class PGD(SteppedAttack[Climb]):
    """Projected gradient ascent (Madry et al. 2018), best of the whole trajectory.

    Every step moves by `step_size` along the steepest direction of the norm and
    projects onto the ball and onto [0, 1].  What is returned is the best image met,
    the clean one and the last one included: an adversarial image beats any other,
    then the higher loss wins.  Restart r draws from the key folded with r, so more
    restarts only add candidates.
    """

    family: ClassVar[Family] = "budgeted"
    title: ClassVar[str] = "projected gradient descent"
    source: ClassVar[str] = "Madry et al. 2018"

    epsilon: float
    """Radius of the ball, in the plain norm, on pixels in [0, 1]."""
    norm: Norm = "linf"
    """`linf` or `l2`."""
    steps: int = 40
    step_size: float | None = None
    """By default 2.5 * epsilon / steps, Madry et al.'s choice for l2 balls."""
    restarts: int = 1
    random_start: bool = True
    """Start from a uniform point of the ball; otherwise from the image itself."""
    loss: Loss = "margin"
    stop: bool = False
    """End an image's search at its first success: successes stay the same, but the
    image is then the first adversarial one, not the worst."""

    def __post_init__(self):
        check_epsilon(self)
        check(self.norm in ("linf", "l2"), self, "norm", "linf or l2")
        check(self.steps >= 1, self, "steps", "1 or more")
        check(
            self.step_size is None or 0 < self.step_size < float("inf"),
            self,
            "step_size",
            "a finite number above 0, or None",
        )
        check(self.restarts >= 1, self, "restarts", "1 or more")
        check(
            self.random_start or self.restarts == 1,
            self,
            "restarts",
            "1 where random_start is off, since all restarts would be equal",
        )
        check_loss(self)

    @property
    def iterations(self) -> int:
        """The steps."""
        return self.steps

    @property
    def ends_early(self) -> bool:  # type: ignore[override]
        """Whether the first success ends the search."""
        return self.stop

    def passes(self, classes: int) -> Passes:
        """Returns the cost: a gradient a step, and the value of both ends."""
        restarts = self.restarts
        return Passes(
            begin=Queries(int(self.random_start), 0),
            step=Queries(restarts, restarts),
            finish=Queries(restarts, 0),
        )

    def for_classes(self, classes: int, targeted: bool = False) -> Any:
        """Returns the attack with a loss that so many classes have."""
        return with_enough_classes(self, classes)

    def begin(self, problem: Problem, key: PRNGKey) -> Climb:
        """Returns the starts, and the clean image as the first best."""
        clean = self._clean(problem)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
            key, jnp.arange(self.restarts)
        )
        return jax.vmap(lambda key: Climb(self._start(problem, key), clean))(keys)

    def step(self, problem: Problem, key: PRNGKey, state: Climb) -> Climb:
        """Returns every restart one step on."""
        return jax.vmap(lambda climb: self.climb(problem, climb))(state)

    def climb(self, problem: Problem, climb: Climb) -> Climb:
        """Returns one restart one step on, its last image compared with the best."""
        image = climb.image
        evaluation, gradient = problem.objective(self.loss).evaluate_with_gradient(
            image
        )
        best = climb.best.better_of(Candidate(image, evaluation))
        size = self.step_size
        if size is None:
            size = 2.5 * problem.epsilon / self.steps
        direction = norms.steepest_direction(gradient, self.norm)
        project = region.projection(problem.image, problem.epsilon, self.norm)
        return Climb(project(image + size * direction), best)

    def ended(self, state: Climb) -> Bool[Array, ""]:
        """Returns whether some restart has met an adversarial image."""
        return state.best.evaluation.adversarial.any()

    def finish(self, problem: Problem, key: PRNGKey, state: Climb) -> Image:
        """Returns the best image over all steps of all restarts."""
        last = jax.vmap(problem.objective(self.loss).candidate)(state.image)
        return best_of(jax.vmap(Candidate.better_of)(state.best, last)).image

    def _clean(self, problem: Problem) -> Candidate:
        """Returns the clean image as the first best."""
        clean = problem.image
        if self.random_start:
            return problem.objective(self.loss).candidate(clean)
        # The first step evaluates the very same image: any loss beats this one.
        return Candidate.nothing(clean)

    def _start(self, problem: Problem, key: PRNGKey) -> Image:
        image = problem.image
        if not self.random_start:
            return image
        project = region.projection(image, problem.epsilon, self.norm)
        unit = norms.uniform_in_ball(key, image, self.norm)
        return project(image + problem.epsilon * unit)
