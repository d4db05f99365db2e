"""Single-step attacks along the sign of the gradient."""

import dataclasses

import jax
import jax.numpy as jnp

from robust_manifold.attacks import region
from robust_manifold.attacks.base import Attack, Attempt, check_epsilon, registry
from robust_manifold.attacks.losses import Loss, Objective, check_loss
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check
from robust_manifold.core.types import Classify, Image, Label, PRNGKey


@registry.register("fgsm")
@dataclasses.dataclass(frozen=True)
class FGSM(Attack):
    """Fast gradient sign method: one step of size `epsilon` (Goodfellow et al. 2015).

    The image is x + epsilon * sign(gradient), clipped to [0, 1]; where the gradient
    is zero the pixel stays.
    """

    epsilon: float
    """Largest change of a pixel, on pixels in [0, 1]."""
    loss: Loss = "margin"
    norm: Norm = dataclasses.field(default="linf", init=False, repr=False)

    def __post_init__(self):
        check_epsilon(self)
        check_loss(self)

    def run(
        self, key: PRNGKey, classify: Classify, image: Image, label: Label
    ) -> Attempt:
        """Returns the image one step along the sign of its gradient."""
        del key
        objective = Objective(classify, label, self.loss)
        gradient = objective.evaluate_with_gradient(image).gradient
        project = region.projection(image, self.epsilon, self.norm)
        stepped = project(image + self.epsilon * jnp.sign(gradient))
        return Attempt(stepped, jnp.int32(1), jnp.int32(1))


@registry.register("rand_fgsm")
@dataclasses.dataclass(frozen=True)
class RandFGSM(Attack):
    """RAND+FGSM: a random step of size `alpha`, then FGSM with what is left.

    x' = x + alpha * sign(N(0, 1)), clipped to [0, 1], then FGSM from x' with
    epsilon - alpha (Tramer et al. 2018; alpha = 0.05 in Defense-GAN,
    Samangouei et al. 2018).
    """

    epsilon: float
    """Largest change of a pixel, both steps together, on pixels in [0, 1]."""
    alpha: float = 0.05
    loss: Loss = "margin"
    norm: Norm = dataclasses.field(default="linf", init=False, repr=False)

    def __post_init__(self):
        check_epsilon(self)
        check(
            0 <= self.alpha <= self.epsilon,
            self,
            "alpha",
            f"0 to epsilon, which is {self.epsilon}",
        )
        check_loss(self)

    def run(
        self, key: PRNGKey, classify: Classify, image: Image, label: Label
    ) -> Attempt:
        """Returns the image after the random step and the gradient step."""
        project = region.projection(image, self.epsilon, self.norm)
        noise = jnp.sign(jax.random.normal(key, image.shape, image.dtype))
        start = project(image + self.alpha * noise)
        objective = Objective(classify, label, self.loss)
        gradient = objective.evaluate_with_gradient(start).gradient
        stepped = project(start + (self.epsilon - self.alpha) * jnp.sign(gradient))
        return Attempt(stepped, jnp.int32(1), jnp.int32(1))
