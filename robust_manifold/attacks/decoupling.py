"""Decoupled direction and norm: gradient steps on a sphere that shrinks and grows."""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from robust_manifold.attacks import aim
from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    registry,
)
from robust_manifold.attacks.losses import check_loss, with_enough_classes
from robust_manifold.attacks.nearest import Nearest, begun
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey, Scalar

_LAST_STEP_SIZE = 0.01
"""The first one is 1; both are the paper's."""


class Sphere(NamedTuple):
    """Where the search stands."""

    image: Image
    radius: Scalar
    nearest: Nearest
    taken: Int[Array, ""]
    slopes: aim.Slopes


@registry.register("ddn")
@dataclasses.dataclass(frozen=True)
class DDN(SteppedAttack[Sphere]):
    """Minimum-norm l2 attack by decoupled direction and norm (Rony et al. 2019).

    Each step follows the gradient and is put back on a sphere around the image, whose
    radius then shrinks by `gamma` if the image is adversarial and grows by as much if
    it is not.  The step sizes fall from 1 to 0.01 along a cosine.  The nearest
    adversarial image met is returned.

    The paper climbs the cross-entropy, loss "ce".  The default, "nearest", is the
    difference of logits to the class whose boundary was the nearest to first order on
    the clean image: the logits' scale does not matter to it, and no other class that
    is likely as well diverts it from the shortest way.  In a targeted attack it is the
    plain difference.  A zero gradient leaves the direction as it is, where the paper
    draws one at random.
    """

    family: ClassVar[Family] = "minimum norm"
    title: ClassVar[str] = "decoupled direction and norm"
    source: ClassVar[str] = "Rony et al. 2019"
    norm: Norm = dataclasses.field(default="l2", init=False, repr=False)

    takes_start: ClassVar[bool] = True

    steps: int = 100
    init_epsilon: float = 1.0
    """The first radius, in the plain l2 norm, on pixels in [0, 1]."""
    gamma: float = 0.05
    loss: aim.AimedLoss = "nearest"
    """`nearest`, or any loss of `losses.py`."""

    def __post_init__(self):
        check(is_whole(self.steps, 1), self, "steps", "a whole number, 1 or more")
        check(
            0 < self.init_epsilon < math.inf,
            self,
            "init_epsilon",
            "a finite number above 0",
        )
        check(0 < self.gamma < 1, self, "gamma", "a number between 0 and 1")
        check_loss(self, "nearest")

    @property
    def iterations(self) -> int:
        """The steps."""
        return self.steps

    def passes(self, classes: int) -> Passes:
        """Returns the cost: a gradient a step, at first all classes' for "nearest"."""
        return Passes(begin=aim.cost(self.loss, classes), step=Queries(1, 1))

    def spent(self, state: Sphere, steps: Int[Array, ""], classes: int) -> Queries:
        """Returns what was asked for; a targeted attack needs no slopes."""
        del classes
        return aim.spent(state.slopes, steps)

    def for_classes(self, classes: int, targeted: bool = False) -> Any:
        """Returns the attack with a loss that so many classes have."""
        return with_enough_classes(self, classes, targeted)

    def begin(self, problem: Problem, key: PRNGKey) -> Sphere:
        """Returns the image itself and the first radius."""
        image = problem.image
        radius = jnp.full((), self.init_epsilon, image.dtype)
        slopes = aim.slopes(problem, self.loss, self.norm)
        return Sphere(image, radius, Nearest.nothing(image), jnp.int32(0), slopes)

    def step(self, problem: Problem, key: PRNGKey, state: Sphere) -> Sphere:
        """Returns the search one step on; the image it came from is compared.

        A given start comes after the image itself.
        """
        original, image = problem.image, state.image
        objective = aim.objective(problem, self.loss, state.slopes)
        evaluation, gradient = objective.evaluate_with_gradient(image)
        adversarial = evaluation.adversarial
        nearest = state.nearest.met(original, image, adversarial, self.norm)
        factor = jnp.where(adversarial, 1 - self.gamma, 1 + self.gamma)
        farthest = norms.norm(jnp.maximum(original, 1 - original), self.norm)
        radius = jnp.minimum(state.radius * factor, farthest)
        moved = (
            image
            - original
            + self._step_size(state.taken, image.dtype)
            * norms.steepest_direction(gradient, self.norm)
        )
        delta = radius * norms.steepest_direction(moved, self.norm)
        image = jnp.clip(original + delta, 0, 1)
        image, radius = begun(problem, state.taken, image, radius, self.norm)
        return Sphere(image, radius, nearest, state.taken + 1, state.slopes)

    def finish(self, problem: Problem, key: PRNGKey, state: Sphere) -> Image:
        """Returns the nearest adversarial image, or the original."""
        return state.nearest.image

    def _step_size(self, count: Int[Array, ""], dtype: Any) -> Scalar:
        angle = jnp.pi * count.astype(dtype) / self.steps
        return _LAST_STEP_SIZE + (1 - _LAST_STEP_SIZE) * (1 + jnp.cos(angle)) / 2
