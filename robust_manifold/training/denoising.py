"""Training of a denoiser on images under Gaussian noise of every level."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import with_level
from robust_manifold.core.spec import check
from robust_manifold.core.types import Image, Params, PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.training.descent import descend, moving_average, remember
from robust_manifold.training.network import NetworkTraining, registry
from robust_manifold.training.optimizers import Adam, Optimizer, as_optimizer


class DenoisingState(NamedTuple):
    """All that a training of a denoiser carries from step to step."""

    step: Int[Array, ""]
    params: Params
    average: Params
    optimizer: optax.OptState


class DenoisingMetrics(NamedTuple):
    """What a step measures on its batch."""

    loss: Scalar
    """Mean weighted error."""
    error: Scalar
    """Mean squared error of the denoised images, a pixel, over all levels."""


@registry.register("denoising")
@dataclasses.dataclass(frozen=True)
class Denoising(NetworkTraining):
    """Denoising score matching (Vincent 2011), by the error of the denoised image.

    The least squared error has the mean of the clean image given the noisy one, D, and
    (D - noisy) / level^2 is then the gradient of the log density of noisy images.
    Levels, the noise's standard deviations, are drawn uniformly in their logarithm.
    An error counts 1 / level^2 + 1 / deviation^2 times, so that all levels count alike
    (Karras et al. 2022).

    Attributes:
      optimizer: the optimiser, or its text as in a config.
      least: the least level, on pixels in [0, 1].
      most: the largest level.
      deviation: of the pixels about their mean, for the weights.
      average_decay: decay of the exponential moving average of the parameters; 0
        keeps the last parameters themselves.
    """

    optimizer: Optimizer | str = Adam(0.002, "cosine")
    least: float = 0.03
    most: float = 2.0
    deviation: float = 0.3
    average_decay: float = 0.999

    def __post_init__(self):
        # The text becomes its spec, so that equal trainings are equal and hash alike.
        object.__setattr__(self, "optimizer", as_optimizer(self.optimizer))
        for field in ("least", "most", "deviation"):
            finite = 0 < getattr(self, field) < math.inf
            check(finite, self, field, "a finite number above 0")
        check(self.least < self.most, self, "least", f"below most, {self.most}")
        check(0 <= self.average_decay < 1, self, "average_decay", "0 to below 1")

    def check_network(self, model: Model, image_shape: tuple[int, ...]) -> None:
        """Raises a `UsageError` unless it turns noisy images and levels into images."""
        *sides, channels = image_shape
        wanted = ((*sides, channels + 1), tuple(image_shape))
        found = (model.input_shape, model.output_shape)
        if found != wanted:
            raise UsageError(
                f"Denoising has a network from {found[0]} to {found[1]}; allowed: one "
                f"from {wanted[0]}, an image and the level of its noise, to "
                f"{wanted[1]}, such as 'denoiser'."
            )

    def init(self, model: Model, key: PRNGKey, steps: int) -> DenoisingState:
        """Returns the state before the first step; see `NetworkTraining.init`."""
        if steps < 1:
            raise UsageError(f"steps of Denoising is {steps}; allowed: 1 or more.")
        params = model.init(keys.stream(key, "init"))
        return DenoisingState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            # A copy: both are donated to the step, and no buffer may be given twice.
            average=jax.tree.map(jnp.copy, params),
            optimizer=remember(self._descent(steps), (params,)),
        )

    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: DenoisingState,
        images: Float[Array, "batch height width channels"],
    ) -> tuple[DenoisingState, DenoisingMetrics]:
        """One step down the gradient of the mean weighted error."""
        noisy, levels = jax.vmap(self._noisy)(
            jax.random.split(key, len(images)), images
        )

        def loss_of(networks):
            (params,) = networks
            inputs = jax.vmap(with_level)(noisy, levels)
            made, params = model.train(params, inputs, keys.stream(key, "network"))
            errors = jnp.mean((made - images) ** 2, axis=(1, 2, 3))
            loss = jnp.mean(self._weight(levels) * errors)
            return loss, ((params,), jnp.mean(errors))

        descended = descend(
            loss_of, (state.params,), self._descent(steps), state.optimizer
        )
        (params,) = descended.networks
        average = moving_average(state.average, params, self.average_decay, state.step)
        return (
            DenoisingState(state.step + 1, params, average, descended.memory),
            DenoisingMetrics(descended.loss, descended.measured),
        )

    def loss(self, model: Model, params: Params, key: PRNGKey, image: Image) -> Scalar:
        """Returns the weighted error at a level drawn for the image."""
        noisy, level = self._noisy(key, image)
        made = model.apply(params, with_level(noisy, level))
        return self._weight(level) * jnp.mean((made - image) ** 2)

    def network_params(self, state: DenoisingState) -> Params:
        """Returns the moving average of the parameters."""
        return state.average

    def _descent(self, steps: int) -> optax.GradientTransformation:
        return as_optimizer(self.optimizer).build(steps)

    def _noisy(self, key: PRNGKey, image: Image) -> tuple[Image, Scalar]:
        """Returns an image under noise, and the level of that."""
        ends = math.log(self.least), math.log(self.most)
        level = jnp.exp(
            jax.random.uniform(
                keys.stream(key, "level"),
                (),
                image.dtype,
                minval=ends[0],
                maxval=ends[1],
            )
        )
        noise_key = keys.stream(key, "noise")
        noise = keys.drawn(jax.random.normal, noise_key, image.shape, image.dtype)
        return image + level * noise, level

    def _weight(self, level: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        return 1 / level**2 + 1 / self.deviation**2
