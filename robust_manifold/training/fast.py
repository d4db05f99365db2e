"""Adversarial training with a single step from a random start."""

import dataclasses
import math

import jax

from robust_manifold.attacks import Objective, region
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check
from robust_manifold.core.types import Image, Label, PRNGKey
from robust_manifold.training.adversarial import OnMoved, moved
from robust_manifold.training.classifier import registry


@registry.register("fast_fgsm")
@dataclasses.dataclass(frozen=True)
class FastFGSM(OnMoved):
    """Training by the cross-entropy of images moved in one step (Wong et al. 2020).

    Every image starts at a uniform point of its ball, takes one step along the
    steepest direction of the loss there, and is put back into the ball and into
    [0, 1].  Unlike adversarial training with `pgd(steps=1)`, whose images are the best
    that it meets, the moved image is taken however good it is.  The measured loss and
    accuracy are those of the moved minibatch.

    Attributes:
      optimizer: as for `CrossEntropy`.
      label_smoothing: as for `CrossEntropy`.
      average_decay: as for `CrossEntropy`; images are moved with the parameters
        themselves.
      epsilon: radius of the ball, in the plain norm, on pixels in [0, 1].
      norm: `linf`, as in the paper, or `l2`.
      step_size: by default 1.25 * epsilon.
    """

    epsilon: float = 0.3
    norm: Norm = "linf"
    step_size: float | None = None

    def __post_init__(self):
        super().__post_init__()
        known = 0 <= self.epsilon < math.inf
        check(known, self, "epsilon", "a finite number, 0 or more")
        check(self.norm in ("linf", "l2"), self, "norm", "linf or l2")
        check(
            self.step_size is None or 0 < self.step_size < math.inf,
            self,
            "step_size",
            "a finite number above 0, or None",
        )

    def attacked(self, model, params, images, labels, key):
        """Returns the images one step on, as constants of any gradient."""
        params = jax.lax.stop_gradient(params)
        size = self.step_size or 1.25 * self.epsilon

        def one(key: PRNGKey, image: Image, label: Label) -> Image:
            # The margin rises where the cross-entropy does, and does not underflow.
            objective = Objective(lambda x: model.apply(params, x), label, "margin")
            project = region.projection(image, self.epsilon, self.norm)
            draw = norms.uniform_in_ball(key, image, self.norm)
            start = project(image + self.epsilon * draw)
            gradient = objective.evaluate_with_gradient(start).gradient
            direction = norms.steepest_direction(gradient, self.norm)
            return project(start + size * direction)

        return moved(one, key, images, labels)
