"""Single-step attacks along the sign of the gradient."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

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
from robust_manifold.attacks.losses import Loss, check_loss, with_enough_classes
from robust_manifold.core import keys
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check
from robust_manifold.core.types import Image, PRNGKey, Scalar


class _OneStep(SteppedAttack[Image]):
    """What both attacks have in common: one gradient, one step."""

    family: ClassVar[Family] = "budgeted"
    loss: Loss

    @property
    def iterations(self) -> int:
        """One step."""
        return 1

    def passes(self, classes: int) -> Passes:
        """Returns the cost: one gradient."""
        return Passes(step=Queries(1, 1))

    def for_classes(self, classes: int, targeted: bool = False) -> Any:
        """Returns the attack with a loss that so many classes have."""
        return with_enough_classes(self, classes, targeted)

    def image_of(self, state: Image) -> Image:
        """Returns the image, which is all that the state is."""
        return state

    def finish(self, problem: Problem, key: PRNGKey, state: Image) -> Image:
        """Returns the moved image."""
        return state


@registry.register("fgsm")
@dataclasses.dataclass(frozen=True)
class FGSM(_OneStep):
    """Fast gradient sign method: one step of size `epsilon` (Goodfellow et al. 2015).

    The image is x + epsilon * sign(gradient), clipped to [0, 1]; where the gradient
    is zero the pixel stays.
    """

    title: ClassVar[str] = "fast gradient sign method"
    source: ClassVar[str] = "Goodfellow et al. 2015"

    epsilon: float
    """Largest change of a pixel, on pixels in [0, 1]."""
    loss: Loss = "margin"
    norm: Norm = dataclasses.field(default="linf", init=False, repr=False)

    def __post_init__(self):
        check_epsilon(self)
        check_loss(self)

    def begin(self, problem: Problem, key: PRNGKey) -> Image:
        """Returns the image itself."""
        return problem.image

    def step(self, problem: Problem, key: PRNGKey, state: Image) -> Image:
        """Returns the image one step along the sign of its gradient."""
        return _signed_step(problem, self.loss, state, problem.epsilon)


@registry.register("rand_fgsm")
@dataclasses.dataclass(frozen=True)
class RandFGSM(_OneStep):
    """RAND+FGSM: a random step of size `alpha`, then FGSM with what is left.

    x' = x + alpha * sign(N(0, 1)), clipped to [0, 1], then FGSM from x' with
    epsilon - alpha (Tramer et al. 2018; alpha = 0.05 in Defense-GAN,
    Samangouei et al. 2018).
    """

    title: ClassVar[str] = "RAND+FGSM"
    source: ClassVar[str] = "Tramèr et al. 2018"

    epsilon: float
    """Largest change of a pixel, both steps together, on pixels in [0, 1]."""
    alpha: float = 0.05
    loss: Loss = "margin"
    norm: Norm = dataclasses.field(default="linf", init=False, repr=False)

    def __post_init__(self):
        check_epsilon(self)
        check_loss(self)
        check(
            0 <= self.alpha <= self.epsilon,
            self,
            "alpha",
            f"0 to epsilon, which is {self.epsilon}",
        )

    def begin(self, problem: Problem, key: PRNGKey) -> Image:
        """Returns the image after the random step."""
        image = problem.image
        project = region.projection(image, problem.epsilon, self.norm)
        noise = jnp.sign(keys.drawn(jax.random.normal, key, image.shape, image.dtype))
        return project(image + self.alpha * noise)

    def step(self, problem: Problem, key: PRNGKey, state: Image) -> Image:
        """Returns the image after the gradient step with what is left."""
        return _signed_step(problem, self.loss, state, problem.epsilon - self.alpha)


def _signed_step(problem: Problem, loss: Any, image: Image, size: Scalar) -> Image:
    gradient = problem.objective(loss).evaluate_with_gradient(image).gradient
    project = region.projection(problem.image, problem.epsilon, "linf")
    return project(image + size * jnp.sign(gradient))
