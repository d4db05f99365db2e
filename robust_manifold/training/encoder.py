"""Training of an encoder that guesses the latents of a trained generator."""

import abc
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Shaped

from robust_manifold import models
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import Params, PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.training.descent import descend, remember
from robust_manifold.training.generator import Setting
from robust_manifold.training.optimizers import Adam, Optimizer, as_optimizer

LEAST_VARIANCE = 1e-4
"""Of a guess: without it the likelihood of a guess that is exact has no bound."""


class EncoderTraining(abc.ABC):
    """The base of all trainings of encoders: subclasses are frozen dataclasses.

    In their `Setting` the encoder is the generator's partner; the generator itself
    stays as it is.
    """

    def check_networks(self, setting: Setting) -> None:
        """Raises a `UsageError` if the encoder does not fit the generator."""
        generator, encoder, _ = setting
        if encoder.input_shape != generator.output_shape:
            raise UsageError(
                f"The encoder takes images of shape {encoder.input_shape}; allowed: "
                f"{generator.output_shape}, the generator's."
            )
        size = math.prod(generator.input_shape) - generator.latent_classes
        if encoder.output_shape != (2 * size,):
            raise UsageError(
                f"The encoder gives latents of size "
                f"{math.prod(encoder.output_shape) / 2:g}; allowed: {size}, the "
                "generator's."
            )

    @abc.abstractmethod
    def init(self, setting: Setting, key: PRNGKey, encoder: Params = None) -> Any:
        """Returns the state before the first step: a NamedTuple of arrays, with `step`.

        Args:
          setting: the generator, the encoder as its partner, and the steps of the
            whole training.
          key: of the whole training.
          encoder: parameters that the training goes on from; by default fresh ones.

        Raises:
          UsageError: for less than one step, or networks that do not fit each other.
        """

    @functools.partial(
        jax.jit, static_argnames=("self", "setting"), donate_argnames="state"
    )
    def step(
        self,
        setting: Setting,
        key: PRNGKey,
        generator: Params,
        state: Any,
        images: Float[Array, "batch height width channels"],
        labels: Shaped[Array, "batch ..."],
    ) -> tuple[Any, Any]:
        """Returns the state after one step, and its metrics: a NamedTuple of scalars.

        Compiled, with `self` and `setting` static.

        Args:
          setting: what the training works on.
          key: of the whole training; each step folds its own number into it.
          generator: its parameters.
          state: donated; use the returned one.
          images: pixels in [0, 1].
          labels: class numbers; they count only where the generator has classes.
        """
        step_key = jax.random.fold_in(keys.stream(key, "step"), state.step)
        return self._step(setting, step_key, generator, state, images, labels)

    @abc.abstractmethod
    def _step(
        self,
        setting: Setting,
        key: PRNGKey,
        generator: Params,
        state: Any,
        images: Float[Array, "batch height width channels"],
        labels: Shaped[Array, "batch ..."],
    ) -> tuple[Any, Any]:
        """Returns what `step` does; `key` is this step's own."""

    @abc.abstractmethod
    def encoder_params(self, state: Any) -> Params:
        """Returns the trained encoder."""


registry: Registry[EncoderTraining] = Registry("encoder training")
"""All trainings of encoders, by the names that configs use."""


class EncoderState(NamedTuple):
    """All that a training of an encoder carries from step to step."""

    step: Int[Array, ""]
    encoder: Params
    optimizer: optax.OptState


class EncoderMetrics(NamedTuple):
    """What a step measures on its batch."""

    loss: Scalar
    """image_error + latent_weight * latent_surprise."""
    image_error: Scalar
    """Mean squared error of what the generator makes of the guesses, a pixel."""
    latent_surprise: Scalar
    """Negative log likelihood of known latents, in nats a dimension."""


@registry.register("inverting")
@dataclasses.dataclass(frozen=True)
class Inverting(EncoderTraining):
    """Guesses latents of real images by their images, of generated ones by themselves.

    The encoder gives mean and log variance of a normal distribution of the latent.  Its
    mean is trained to give back real images through the generator; of images that the
    generator made of draws from its prior the latents are known, and their likelihood
    is raised too, from which alone the variance learns how far off the mean may be.
    A class-conditional generator is told the labels of the images; the encoder sees
    the images alone and guesses the other entries.

    Attributes:
      optimizer: the encoder's optimiser, or its text as in a config.
      latent_weight: of the known latents' negative log likelihood, beside the mean
        squared error of the pixels.
    """

    optimizer: Optimizer | str = Adam(0.001, "cosine")
    latent_weight: float = 0.001

    def __post_init__(self):
        # The text becomes its spec, so that equal trainings are equal and hash alike.
        object.__setattr__(self, "optimizer", as_optimizer(self.optimizer))
        check(
            0 <= self.latent_weight < math.inf,
            self,
            "latent_weight",
            "a finite number, 0 or more",
        )

    def init(
        self, setting: Setting, key: PRNGKey, encoder: Params = None
    ) -> EncoderState:
        """Returns the state before the first step; see `EncoderTraining.init`."""
        if setting.steps < 1:
            raise UsageError(
                f"steps of {type(self).__name__} is {setting.steps}; allowed: 1 or "
                "more."
            )
        self.check_networks(setting)
        if encoder is None:
            encoder = setting.partner.init(keys.stream(key, "init"))
        else:
            # A copy: the step donates what it is given.
            encoder = jax.tree.map(jnp.copy, encoder)
        return EncoderState(
            step=jnp.zeros((), jnp.int32),
            encoder=encoder,
            optimizer=remember(self._descent(setting), (encoder,)),
        )

    def _step(
        self,
        setting: Setting,
        key: PRNGKey,
        generator: Params,
        state: EncoderState,
        images: Float[Array, "batch height width channels"],
        labels: Shaped[Array, "batch ..."],
    ) -> tuple[EncoderState, EncoderMetrics]:
        """One step down the gradient of both errors."""
        spanner, encoder = setting.generator, setting.partner
        count = len(images)
        latents = models.sample_latents(spanner, keys.stream(key, "latent"), count)
        generated = spanner.apply(generator, latents)
        known = latents[:, : latents.shape[-1] - spanner.latent_classes]

        def loss_of(networks):
            # In one batch, so that batch statistics are those of both kinds of images.
            guesses, params = encoder.train(
                networks[0],
                jnp.concatenate([images, generated]),
                keys.stream(key, "encoder"),
            )
            guessed = guessed_images(spanner, generator, guesses[:count], labels)
            image_error = jnp.mean((guessed - images) ** 2)
            mean, log_variance = jnp.split(guesses[count:], 2, axis=-1)
            latent_surprise = jnp.mean(surprise(known, mean, log_variance))
            loss = image_error + self.latent_weight * latent_surprise
            return loss, ((params,), (image_error, latent_surprise))

        descended = descend(
            loss_of, (state.encoder,), self._descent(setting), state.optimizer
        )
        return (
            EncoderState(state.step + 1, descended.networks[0], descended.memory),
            EncoderMetrics(descended.loss, *descended.measured),
        )

    def encoder_params(self, state: EncoderState) -> Params:
        """Returns the encoder as it is."""
        return state.encoder

    def _descent(self, setting: Setting) -> optax.GradientTransformation:
        return as_optimizer(self.optimizer).build(setting.steps)


def guessed_images(
    generator: Model,
    params: Params,
    guesses: Float[Array, "batch guess"],
    labels: Shaped[Array, "batch ..."],
) -> Float[Array, "batch height width channels"]:
    """Returns what a generator makes of the means that an encoder guesses.

    Args:
      generator: a generator, whose classes, if it has any, the labels choose.
      params: of the generator.
      guesses: mean and log variance of each latent.
      labels: the class of each image.
    """
    mean, _ = jnp.split(guesses, 2, axis=-1)
    return generator.apply(params, models.with_classes(generator, mean, labels))


def surprise(
    latents: Float[Array, "batch latent"],
    mean: Float[Array, "batch latent"],
    log_variance: Float[Array, "batch latent"],
) -> Float[Array, "batch latent"]:
    """Returns -log N(latent; mean, variance) of each dimension, in nats.

    To the variance `LEAST_VARIANCE` is added.
    """
    variance = jnp.exp(log_variance) + LEAST_VARIANCE
    squares = (latents - mean) ** 2 / variance
    return (squares + jnp.log(2 * math.pi * variance)) / 2
