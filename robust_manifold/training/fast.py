"""Adversarial training with a single step from a random start."""

import dataclasses
import math

import jax
from jaxtyping import Array, Float, Int

from robust_manifold.attacks import Objective, region
from robust_manifold.core import keys, norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check
from robust_manifold.core.types import Image, Label, Params, PRNGKey
from robust_manifold.models import Model
from robust_manifold.training.adversarial import moved
from robust_manifold.training.classifier import (
    ClassifierMetrics,
    ClassifierState,
    CrossEntropy,
    registry,
)


@registry.register("fast_fgsm")
@dataclasses.dataclass(frozen=True)
class FastFGSM(CrossEntropy):
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

    def attacked(
        self,
        model: Model,
        params: Params,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
        key: PRNGKey,
    ) -> Float[Array, "batch height width channels"]:
        """Returns the images one step on, as constants of any gradient.

        Args:
          model: the classifier, used in inference mode.
          params: its current parameters.
          images: pixels in [0, 1].
          labels: class numbers, which the step leads away from.
          key: of this step; every image folds its place in the minibatch into it.
        """
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

    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: ClassifierState,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
    ) -> tuple[ClassifierState, ClassifierMetrics]:
        """One step down the gradient of the cross-entropy of the moved images."""
        attack_key = keys.stream(key, "attack")
        images = self.attacked(model, state.params, images, labels, attack_key)
        return super()._step(model, steps, key, state, images, labels)
