"""Projected gradient ascent in a ball, with restarts and the best of the trajectory."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from robust_manifold.attacks import region
from robust_manifold.attacks.base import Attack, Attempt, check_epsilon, registry
from robust_manifold.attacks.losses import Evaluation, Loss, Objective, check_loss
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check
from robust_manifold.core.types import Classify, Image, Label, PRNGKey


class Candidate(NamedTuple):
    """An image with its evaluation."""

    image: Image
    evaluation: Evaluation

    def better_of(self, other: "Candidate") -> "Candidate":
        """Returns `other` if it is strictly better, this one otherwise."""
        better = other.evaluation.beats(self.evaluation)
        return jax.tree.map(lambda a, b: jnp.where(better, b, a), self, other)


@registry.register("pgd")
@dataclasses.dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient ascent (Madry et al. 2018), best of the whole trajectory.

    Every step moves by `step_size` along the steepest direction of the norm and
    projects onto the ball and onto [0, 1].  What is returned is the best image met,
    the clean one and the last one included: an adversarial image beats any other,
    then the higher loss wins.  Restart r draws from the key folded with r, so more
    restarts only add candidates.
    """

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

    def run(
        self, key: PRNGKey, classify: Classify, image: Image, label: Label
    ) -> Attempt:
        """Returns the best image over all steps of all restarts."""
        objective = Objective(classify, label, self.loss)
        project = region.projection(image, self.epsilon, self.norm)
        clean = self._clean(objective, image)

        def climb(restart_key: PRNGKey) -> Candidate:
            start = self._start(restart_key, image, project)
            (last, best), _ = jax.lax.scan(
                lambda carry, _: (self.step(objective, project, *carry), None),
                (start, clean),
                length=self.steps,
            )
            return best.better_of(Candidate(last, objective.evaluate(last)))

        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
            key, jnp.arange(self.restarts)
        )
        best = _best_of(jax.vmap(climb)(keys))
        forwards = self.restarts * (self.steps + 1) + int(self.random_start)
        backwards = self.restarts * self.steps
        return Attempt(best.image, jnp.int32(forwards), jnp.int32(backwards))

    def step(
        self,
        objective: Objective,
        project: Callable[[Image], Image],
        image: Image,
        best: Candidate,
    ) -> tuple[Image, Candidate]:
        """Returns the next image, and the better of `best` and `image`."""
        evaluation, gradient = objective.evaluate_with_gradient(image)
        best = best.better_of(Candidate(image, evaluation))
        size = self.step_size
        if size is None:
            size = 2.5 * self.epsilon / self.steps
        direction = norms.steepest_direction(gradient, self.norm)
        return project(image + size * direction), best

    def _clean(self, objective: Objective, image: Image) -> Candidate:
        """Returns the clean image as the first best."""
        if self.random_start:
            return Candidate(image, objective.evaluate(image))
        # The first step evaluates the very same image: any loss beats this one.
        nothing = Evaluation(jnp.full((), -jnp.inf, image.dtype), jnp.bool_(False))
        return Candidate(image, nothing)

    def _start(
        self, key: PRNGKey, image: Image, project: Callable[[Image], Image]
    ) -> Image:
        if not self.random_start:
            return image
        if self.norm == "linf":
            unit = jax.random.uniform(key, image.shape, image.dtype, -1, 1)
        else:
            direction_key, radius_key = jax.random.split(key)
            normal = jax.random.normal(direction_key, image.shape, image.dtype)
            direction = norms.steepest_direction(normal, "l2")
            # The share of the ball within radius r is r**n.
            share = jax.random.uniform(radius_key, dtype=image.dtype)
            unit = direction * share ** (1 / image.size)
        return project(image + self.epsilon * unit)


def _best_of(candidates: Candidate) -> Candidate:
    """Returns the best of candidates stacked along a leading axis."""
    loss, adversarial = candidates.evaluation
    eligible = adversarial == adversarial.any()
    best = jnp.argmax(jnp.where(eligible & ~jnp.isnan(loss), loss, -jnp.inf))
    return jax.tree.map(lambda leaf: leaf[best], candidates)
