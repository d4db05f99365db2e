"""Training of a generator as the decoder of a variational autoencoder."""

import dataclasses
import math
from typing import ClassVar, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Shaped

from robust_manifold import models
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.prior import Normal
from robust_manifold.core.spec import check
from robust_manifold.core.types import Params, PRNGKey, Scalar
from robust_manifold.models import EncoderSpec, Model, ModelSpec
from robust_manifold.models.encoders import VAEEncoder
from robust_manifold.training.descent import descend, moving_average, remember
from robust_manifold.training.generator import GeneratorTraining, Setting, registry
from robust_manifold.training.optimizers import Adam, Optimizer, as_optimizer

Likelihood: TypeAlias = Literal["bernoulli", "gaussian"]


class VaeState(NamedTuple):
    """All that a training of a VAE carries from step to step."""

    step: Int[Array, ""]
    generator: Params
    generator_average: Params
    encoder: Params
    optimizer: optax.OptState


class VaeMetrics(NamedTuple):
    """What a step measures on its batch, in nats an image."""

    loss: Scalar
    """reconstruction + beta * kl."""
    reconstruction: Scalar
    """Negative log likelihood of the images."""
    kl: Scalar
    """From the prior to the encoder's distribution of the latent."""


@registry.register("vae")
@dataclasses.dataclass(frozen=True)
class VaeTraining(GeneratorTraining):
    """Maximises the evidence lower bound (Kingma and Welling 2014).

    The encoder gives mean and log variance of a normal distribution of the latent; one
    draw of it a step, mean + deviation * noise, passes the gradient to the encoder.
    The generator's prior has to be N(0, 1).  A class-conditional generator is told the
    labels of the images; its encoder sees the images alone.

    Attributes:
      encoder: the encoder, or its text as in a config.
      optimizer: the optimiser of both networks, or its text as in a config.
      likelihood: of a pixel, given the generator's g: "bernoulli" is
        g^x (1 - g)^(1 - x), "gaussian" is N(g, deviation^2).
      deviation: standard deviation of a pixel, for "gaussian".
      beta: weight of the divergence; 1 is the bound, others are Higgins et al. 2017.
      average_decay: decay of the exponential moving average of the generator; 0
        keeps the last generator itself.
    """

    encoder: EncoderSpec | str = VAEEncoder()
    optimizer: Optimizer | str = Adam(0.001)
    likelihood: Likelihood = "bernoulli"
    deviation: float = 0.1
    beta: float = 1.0
    average_decay: float = 0.0

    role: ClassVar[str] = "vae_encoder"

    def __post_init__(self):
        super().__post_init__()
        self._become_spec("encoder", EncoderSpec, "an encoder such as 'vae_encoder'")
        allowed = " or ".join(get_args(Likelihood))
        check(self.likelihood in get_args(Likelihood), self, "likelihood", allowed)
        check(
            0 < self.deviation < math.inf, self, "deviation", "a finite number above 0"
        )
        check(0 <= self.beta < math.inf, self, "beta", "a finite number, 0 or more")

    @property
    def partner(self) -> ModelSpec:
        """The encoder's spec."""
        return self.encoder  # type: ignore[return-value]

    def check_networks(self, generator: Model, partner: Model) -> None:
        """Raises a `UsageError` if the training can't work on the two networks."""
        super().check_networks(generator, partner)
        if generator.prior != Normal():
            raise UsageError(
                f"VaeTraining's generator has the prior {generator.prior}; allowed: "
                f"{Normal()}, from which the divergence is measured."
            )
        size = math.prod(generator.input_shape) - generator.latent_classes
        if partner.output_shape != (2 * size,):
            raise UsageError(
                f"VaeTraining.encoder gives latents of size "
                f"{partner.output_shape[0] / 2:g}; allowed: {size}, the generator's."
            )

    def init(self, setting: Setting, key: PRNGKey) -> VaeState:
        """Returns the state before the first step."""
        self._check_setting(setting)
        generator = setting.generator.init(keys.stream(key, "generator"))
        encoder = setting.partner.init(keys.stream(key, "encoder"))
        return VaeState(
            step=jnp.zeros((), jnp.int32),
            generator=generator,
            # A copy: both are donated to the step, and no buffer may be given twice.
            generator_average=jax.tree.map(jnp.copy, generator),
            encoder=encoder,
            optimizer=remember(self._descent(setting), (generator, encoder)),
        )

    def _step(
        self,
        setting: Setting,
        key: PRNGKey,
        state: VaeState,
        images: Float[Array, "batch height width channels"],
        labels: Shaped[Array, "batch ..."],
    ) -> tuple[VaeState, VaeMetrics]:
        """One step up the evidence lower bound."""

        def loss_of(networks):
            generator, encoder = networks
            encoded, encoder = setting.partner.train(
                encoder, images, keys.stream(key, "encoder")
            )
            mean, log_variance = jnp.split(encoded, 2, axis=-1)
            latents = _drawn(mean, log_variance, keys.stream(key, "latent"))
            latents = models.with_classes(setting.generator, latents, labels)
            generated, generator = setting.generator.train(
                generator, latents, keys.stream(key, "generator")
            )
            reconstruction = jnp.mean(self._surprise(images, generated))
            kl = jnp.mean(divergence(mean, log_variance))
            loss = reconstruction + self.beta * kl
            return loss, ((generator, encoder), (reconstruction, kl))

        descended = descend(
            loss_of,
            (state.generator, state.encoder),
            self._descent(setting),
            state.optimizer,
        )
        generator, encoder = descended.networks
        average = moving_average(
            state.generator_average, generator, self.average_decay, state.step
        )
        return (
            VaeState(state.step + 1, generator, average, encoder, descended.memory),
            VaeMetrics(descended.loss, *descended.measured),
        )

    def generator_params(self, state: VaeState) -> Params:
        """Returns the moving average of the generator."""
        return state.generator_average

    def partner_params(self, state: VaeState) -> Params:
        """Returns the encoder."""
        return state.encoder

    def _descent(self, setting: Setting) -> optax.GradientTransformation:
        return as_optimizer(self.optimizer).build(setting.steps)

    def _surprise(
        self,
        images: Float[Array, "batch height width channels"],
        generated: Float[Array, "batch height width channels"],
    ) -> Float[Array, " batch"]:
        """Returns the negative log likelihood of each image, in nats."""
        if self.likelihood == "bernoulli":
            return bernoulli_surprise(images, generated)
        return gaussian_surprise(images, generated, self.deviation)


def divergence(
    mean: Float[Array, "batch latent"], log_variance: Float[Array, "batch latent"]
) -> Float[Array, " batch"]:
    """Returns KL(N(mean, variance) || N(0, 1)) of each latent, in nats.

    Source: Kingma and Welling 2014, appendix B.
    """
    terms = mean**2 + jnp.exp(log_variance) - 1 - log_variance
    return jnp.sum(terms, axis=-1) / 2


def bernoulli_surprise(
    images: Float[Array, "batch height width channels"],
    generated: Float[Array, "batch height width channels"],
) -> Float[Array, " batch"]:
    """Returns -sum of x log g + (1 - x) log(1 - g) over each image's pixels, in nats.

    Probabilities nearer to 0 than half the float's resolution at 1 count as that far.
    """
    least = jnp.finfo(generated.dtype).eps / 2
    ones = jnp.log(jnp.maximum(generated, least))
    zeros = jnp.log(jnp.maximum(1 - generated, least))
    return -jnp.sum(images * ones + (1 - images) * zeros, axis=(1, 2, 3))


def gaussian_surprise(
    images: Float[Array, "batch height width channels"],
    generated: Float[Array, "batch height width channels"],
    deviation: float,
) -> Float[Array, " batch"]:
    """Returns -log N(x; g, deviation^2) of each image, in nats."""
    squares = jnp.sum((images - generated) ** 2, axis=(1, 2, 3))
    constant = math.log(deviation * math.sqrt(2 * math.pi)) * images[0].size
    return squares / (2 * deviation**2) + constant


def _drawn(
    mean: Float[Array, "batch latent"],
    log_variance: Float[Array, "batch latent"],
    key: PRNGKey,
) -> Float[Array, "batch latent"]:
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    return mean + jnp.exp(log_variance / 2) * noise
