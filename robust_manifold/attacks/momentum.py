"""Gradient ascent in a ball along an accumulated gradient."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from robust_manifold.attacks import region
from robust_manifold.attacks.base import registry
from robust_manifold.attacks.losses import Loss
from robust_manifold.attacks.projected_gradient import GradientAscent
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check
from robust_manifold.core.types import Image, Scalar


@registry.register("momentum_pgd")
@dataclasses.dataclass(frozen=True)
class MomentumPGD(GradientAscent):
    """Momentum iterative method, MI-FGSM in linf (Dong et al. 2018).

    Every gradient, scaled to one length, is added to what `decay` leaves of the sum of
    those before it, and the step goes along the steepest direction of that sum.  The
    best of the trajectory is returned, not the last image.

    An l2 step leaves out the pixels that the box holds back: their share of it would be
    lost, and the steps together would end short of the ball's edge.
    """

    title: ClassVar[str] = "momentum iterative method"
    source: ClassVar[str] = "Dong et al. 2018"

    epsilon: float
    """Radius of the ball, in the plain norm, on pixels in [0, 1]."""
    norm: Norm = "linf"
    """`linf` or `l2`."""
    steps: int = 10
    step_size: float | None = None
    """By default epsilon / steps, as in the paper."""
    decay: float = 1.0
    """What is left of the accumulated gradient after a step."""
    restarts: int = 1
    random_start: bool = False
    """Start from a uniform point of the ball; otherwise from the image itself."""
    loss: Loss = "margin"
    stop: bool = False
    """End an image's search at its first success."""
    scaling: Literal["l1", "steepest"] = "l1"
    """What is accumulated: the gradient over its l1 norm, as in the paper, or the
    steepest direction of the attack's own norm."""

    def __post_init__(self):
        self.check_fields("linf", "l2")
        check(0 <= self.decay < math.inf, self, "decay", "a finite number, 0 or more")
        known = ("l1", "steepest")
        check(self.scaling in known, self, "scaling", " or ".join(known))

    def default_size(self, epsilon: Scalar) -> Scalar:
        """Returns the steps' equal share of the budget."""
        return epsilon / self.steps

    def remember(self, image: Image) -> Image:
        """Returns the sum of no gradients."""
        return jnp.zeros_like(image)

    def direction(
        self, image: Image, gradient: Image, memory: Any
    ) -> tuple[Image, Any]:
        """Returns the steepest direction of the accumulated gradient, and that."""
        accumulated = self.decay * memory + self._scaled(gradient)
        ahead = accumulated
        if self.norm == "l2":
            ahead = region.inwards(accumulated, image)
        return norms.steepest_direction(ahead, self.norm), accumulated

    def _scaled(self, gradient: Image) -> Image:
        if self.scaling == "steepest":
            return norms.steepest_direction(gradient, self.norm)
        length = norms.norm(gradient, "l1")
        return gradient / jnp.where(length > 0, length, 1)
