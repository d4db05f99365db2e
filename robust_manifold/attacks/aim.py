"""An objective that follows the other class whose boundary is nearest."""

import dataclasses
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_manifold.attacks import hyperplane, losses
from robust_manifold.attacks.base import Problem, Queries
from robust_manifold.attacks.losses import Loss, Objective, ObjectiveValue
from robust_manifold.core.criterion import Misclassified
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import Output

AimedLoss: TypeAlias = Loss | str
"""A loss by its name, or "nearest"."""

Slopes: TypeAlias = Float[Array, " slopes"]
"""How steeply each class rises against the label; empty where it does not matter."""


@dataclasses.dataclass(frozen=True)
class NearestObjective(Objective):
    """Differences of logits, divided by their slopes; the largest quotient is climbed.

    Of a linear classifier the quotient is a distance: the class followed is then the
    nearest, which need not be the likeliest.
    """

    slopes: Slopes = dataclasses.field(default_factory=lambda: jnp.ones(0))

    def of(self, logits: Output) -> ObjectiveValue:
        """Returns the evaluation of one logit vector."""
        distances = (logits - logits[self.label]) / self.slopes
        nearest = jnp.max(losses.others(distances, self.label))
        return ObjectiveValue(nearest, self.succeeds(logits))


def slopes(problem: Problem, loss: AimedLoss, norm: Norm) -> Slopes:
    """Returns the slopes on the clean image: a forward, a backward for each rival.

    Only "nearest" needs them, and only where a class is to be left.
    """
    image = problem.image
    if not _follows_slopes(problem, loss):
        return jnp.ones(0, image.dtype)
    classes = jax.eval_shape(problem.classify, image).size
    others = (problem.label + jnp.arange(1, classes)) % classes
    near = hyperplane.boundaries(problem, image, others)
    steep = jax.vmap(lambda g: hyperplane.dual_norm(g, norm))(near.gradients)
    # A class without a gradient counts as far, not as infinitely far.
    least = jnp.min(jnp.where(steep > 0, steep, jnp.inf))
    least = jnp.where(jnp.isfinite(least), least, 1)
    steep = jnp.where(steep > 0, steep, least)
    return jnp.ones(classes, image.dtype).at[others].set(steep)


def cost(loss: AimedLoss, classes: int) -> Queries:
    """Returns the most that the slopes cost."""
    return Queries(1, classes - 1) if loss == "nearest" else Queries(0, 0)


def spent(slopes: Slopes, steps: Int[Array, ""]) -> Queries:
    """Returns what was asked for by the slopes, if any, and a gradient a step."""
    # There is a slope for each class.
    forwards, backwards = (1, slopes.size - 1) if slopes.size else (0, 0)
    return Queries(forwards + steps, backwards + steps)


def objective(problem: Problem, loss: AimedLoss, slopes: Slopes) -> Objective:
    """Returns what to climb.

    Where no class is to be left, "nearest" is the difference of logits to a target, or
    what the criterion brings.
    """
    if _follows_slopes(problem, loss):
        return NearestObjective(problem.classify, problem.label, slopes=slopes)
    named = "difference" if loss == "nearest" else loss
    return problem.objective(named)  # type: ignore[arg-type]


def _follows_slopes(problem: Problem, loss: AimedLoss) -> bool:
    """Returns whether the classes' slopes matter."""
    return loss == "nearest" and isinstance(problem.criterion, Misclassified)
