"""Adversarial training against balls of several norms at once, step by step."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.attacks import Objective, region
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, Label, PRNGKey, Scalar
from robust_manifold.training.adversarial import OnMoved, moved
from robust_manifold.training.classifier import registry

_ACROSS = 2.5
"""Radii that all steps of one norm together would go: Madry et al.'s choice."""


class Ball(NamedTuple):
    """One of the balls whose union is searched."""

    norm: Norm
    epsilon: float


@registry.register("multi_steepest")
@dataclasses.dataclass(frozen=True)
class MultiSteepest(OnMoved):
    """Training on the union of balls by multi steepest descent (Maini et al. 2020).

    An image's perturbation begins at zero.  At each step it is moved three ways: along
    the steepest direction of each norm, and back into that norm's ball and [0, 1].  The
    move of highest loss is taken, so that the search changes from ball to ball, and
    its last point is trained on.  The measured loss and accuracy are those of the
    moved minibatch.

    In l1 a step moves a share of the entries, those of largest gradient that the box
    lets move, as `pgd` does; the paper draws how many at random.

    Attributes:
      optimizer: as for `CrossEntropy`.
      label_smoothing: as for `CrossEntropy`.
      average_decay: as for `CrossEntropy`; images are moved with the parameters
        themselves.
      linf: radius of this norm's ball on pixels in [0, 1]; 0 leaves the norm out.
      l2: likewise.
      l1: likewise.
      steps: of the search.
      across: how many radii all steps would go if one norm took them all.
      sparsity: share of the entries that an l1 step moves.
    """

    linf: float = 0.3
    l2: float = 1.5
    l1: float = 12.0
    steps: int = 50
    across: float = _ACROSS
    sparsity: float = 0.05

    def __post_init__(self):
        super().__post_init__()
        for field in ("linf", "l2", "l1"):
            known = 0 <= getattr(self, field) < math.inf
            check(known, self, field, "a finite number, 0 or more")
        check(bool(self.balls), self, "linf", "above 0, where l2 and l1 are 0")
        check(is_whole(self.steps, 1), self, "steps", "1 or more")
        check(0 < self.across < math.inf, self, "across", "a finite number above 0")
        check(0 < self.sparsity <= 1, self, "sparsity", "above 0, up to 1")

    @property
    def balls(self) -> tuple[Ball, ...]:
        """The balls that are searched."""
        every = (Ball("linf", self.linf), Ball("l2", self.l2), Ball("l1", self.l1))
        return tuple(ball for ball in every if ball.epsilon)

    def attacked(self, model, params, images, labels, key):
        """Returns the images at the end of the search, as constants of any gradient."""
        params = jax.lax.stop_gradient(params)

        def one(key: PRNGKey, image: Image, label: Label) -> Image:
            del key
            # The margin rises where the cross-entropy does, and does not underflow.
            objective = Objective(lambda x: model.apply(params, x), label, "margin")

            def climb(_, candidate: Image) -> Image:
                gradient = objective.evaluate_with_gradient(candidate).gradient
                tried = jnp.stack(
                    [self._step_in(b, image, candidate, gradient) for b in self.balls]
                )
                if len(self.balls) == 1:
                    return tried[0]
                return tried[jnp.argmax(_losses(objective.evaluate, tried))]

            return jax.lax.fori_loop(0, self.steps, climb, image)

        return moved(one, key, images, labels)

    def _step_in(
        self, ball: Ball, image: Image, candidate: Image, gradient: Image
    ) -> Image:
        """Returns the candidate one step on in one ball."""
        norm, epsilon = ball
        if norm == "l1":
            count = math.ceil(self.sparsity * image.size)
            direction = region.sparse_inwards(gradient, candidate, count)
        else:
            direction = norms.steepest_direction(gradient, norm)
        size = self.across * epsilon / self.steps
        return region.projection(image, epsilon, norm)(candidate + size * direction)


def _losses(evaluate: Callable, tried: Float[Array, "balls ..."]) -> Array:
    """Returns the loss of each; of one whose loss is NaN the lowest that there is."""
    losses: Scalar = jax.vmap(lambda image: evaluate(image).loss)(tried)
    return jnp.where(jnp.isnan(losses), -jnp.inf, losses)
