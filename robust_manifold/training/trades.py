"""TRADES: cross-entropy, and how far predictions move within a ball."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from robust_manifold.attacks import region
from robust_manifold.attacks.losses import finite
from robust_manifold.core import keys, norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, Params, PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.training.adversarial import moved
from robust_manifold.training.classifier import (
    ClassifierState,
    CrossEntropy,
    accuracy,
    registry,
)


class TradesMetrics(NamedTuple):
    """What a step measures on its batch."""

    loss: Scalar
    """The cross-entropy and beta times the divergence."""
    accuracy: Scalar
    """On the images as they are."""
    divergence: Scalar
    """Mean KL divergence of the predictions on moved images, in nats."""


@registry.register("trades")
@dataclasses.dataclass(frozen=True)
class TRADES(CrossEntropy):
    """Training by cross-entropy + beta * KL(clean || moved) (Zhang et al. 2019).

    Equation 5 of the paper, where beta is called 1 / lambda.  Every image is moved
    within its ball to where its prediction differs most from the clean one: from a
    small normal draw, since at the image itself the divergence has no slope, along the
    steepest direction, to the last point, the classifier in inference mode.  Both
    predictions are then trained.  With beta = 0 it is plain training.

    Attributes:
      optimizer: as for `CrossEntropy`.
      label_smoothing: as for `CrossEntropy`, of the clean images' cross-entropy.
      average_decay: as for `CrossEntropy`; images are moved with the parameters
        themselves.
      epsilon: radius of the ball, in the plain norm, on pixels in [0, 1].
      norm: `linf` or `l2`.
      beta: weight of the divergence.
      steps: of the search for the moved image.
      step_size: by default 2.5 * epsilon / steps.
      start_deviation: standard deviation of every pixel's first move.
    """

    epsilon: float = 0.3
    norm: Norm = "linf"
    beta: float = 6.0
    steps: int = 40
    step_size: float | None = None
    start_deviation: float = 0.001

    def __post_init__(self):
        super().__post_init__()
        for field in ("epsilon", "beta"):
            known = 0 <= getattr(self, field) < math.inf
            check(known, self, field, "a finite number, 0 or more")
        check(self.norm in ("linf", "l2"), self, "norm", "linf or l2")
        check(is_whole(self.steps, 1), self, "steps", "1 or more")
        size, deviation = self.step_size, self.start_deviation
        positive = "a finite number above 0"
        sized = size is None or 0 < size < math.inf
        check(sized, self, "step_size", f"{positive}, or None")
        check(0 < deviation < math.inf, self, "start_deviation", positive)

    def most_divergent(
        self,
        model: Model,
        params: Params,
        images: Float[Array, "batch height width channels"],
        key: PRNGKey,
    ) -> Float[Array, "batch height width channels"]:
        """Returns each image moved to another prediction, as constants of any gradient.

        Args:
          model: the classifier, used in inference mode.
          params: its current parameters.
          images: pixels in [0, 1].
          key: of this step; every image folds its place in the minibatch into it.
        """
        params = jax.lax.stop_gradient(params)
        size = self.step_size or 2.5 * self.epsilon / self.steps

        def one(key: PRNGKey, image: Image) -> Image:
            clean = model.apply(params, image)
            project = region.projection(image, self.epsilon, self.norm)
            slope = jax.grad(lambda x: divergence(clean, model.apply(params, x)))

            def climb(_, candidate: Image) -> Image:
                direction = norms.steepest_direction(
                    finite(slope(candidate)), self.norm
                )
                return project(candidate + size * direction)

            noise = jax.random.normal(key, image.shape, image.dtype)
            start = project(image + self.start_deviation * noise)
            return jax.lax.fori_loop(0, self.steps, climb, start)

        return moved(one, key, images)

    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: ClassifierState,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
    ) -> tuple[ClassifierState, TradesMetrics]:
        """One step down the gradient of the cross-entropy and the divergence."""
        moved_key = keys.stream(key, "moved")
        others = self.most_divergent(
            model, state.params, images, keys.stream(key, "attack")
        )

        def loss_of(networks):
            (params,) = networks
            logits, params = model.train(params, images, key)
            changed, params = model.train(params, others, moved_key)
            apart = jnp.mean(jax.vmap(divergence)(logits, changed))
            loss = jnp.mean(self._losses(logits, labels)) + self.beta * apart
            return loss, ((params,), (logits, apart))

        state, descended = self._descended(steps, state, loss_of)
        logits, apart = descended.measured
        return state, TradesMetrics(descended.loss, accuracy(logits, labels), apart)


def divergence(
    clean: Float[Array, " classes"], changed: Float[Array, " classes"]
) -> Scalar:
    """Returns KL(softmax(clean) || softmax(changed)) of two logit vectors, in nats."""
    return optax.losses.kl_divergence_with_log_targets(
        jax.nn.log_softmax(changed), jax.nn.log_softmax(clean)
    )
