"""Adversarial training of a generator (Goodfellow et al. 2014)."""

import dataclasses
import math
from typing import ClassVar, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Shaped

from robust_manifold import models
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import check
from robust_manifold.core.types import Params, PRNGKey, Scalar
from robust_manifold.models import DiscriminatorSpec, Model, ModelSpec
from robust_manifold.models.discriminators import DCGANDiscriminator
from robust_manifold.training.descent import descend, moving_average, remember
from robust_manifold.training.gan_losses import (
    LOSSES,
    GanLoss,
    Outputs,
    distance_from_one,
    half_squared_norm,
)
from robust_manifold.training.generator import GeneratorTraining, Setting, registry
from robust_manifold.training.optimizers import Adam, Optimizer, as_optimizer


class GanState(NamedTuple):
    """All that a training of a GAN carries from step to step."""

    step: Int[Array, ""]
    generator: Params
    generator_average: Params
    discriminator: Params
    generator_optimizer: optax.OptState
    discriminator_optimizer: optax.OptState


class GanMetrics(NamedTuple):
    """What a step measures; `real` and `fake` are the discriminator's mean outputs.

    They are probabilities D for the two losses of Goodfellow et al. and critic
    values for "wgan_gp" and "hinge".  The discriminator's loss has its penalties in it.
    """

    discriminator_loss: Scalar
    generator_loss: Scalar
    real: Scalar
    fake: Scalar


class _Judged(NamedTuple):
    """The discriminator's outputs on a minibatch and on as many generated images."""

    real: Outputs
    fake: Outputs
    penalty: Scalar
    params: Params


@registry.register("gan")
@dataclasses.dataclass(frozen=True)
class GanTraining(GeneratorTraining):
    """Adversarial training: k discriminator steps, then one generator step.

    A class-conditional generator is trained with a discriminator that is told the
    class, as one plane of pixels a class behind the image's channels: all ones for
    the image's class, zeros for the others.  Real images bring their labels, and
    generated ones the class that the prior drew, any with equal probability.

    Attributes:
      discriminator: the discriminator, or its text as in a config.
      optimizer: the generator's optimiser, or its text as in a config.
      discriminator_optimizer: the discriminator's, in the same way.
      loss: "minimax" is Algorithm 1 of Goodfellow et al. (2014) to the letter: the
        discriminator ascends log D(x) + log(1 - D(G(z))), the generator descends
        log(1 - D(G(z))); "non_saturating" lets the generator ascend log D(G(z));
        "wgan_gp" is the Wasserstein loss with gradient penalty (Gulrajani et al.
        2017); "hinge" (Lim and Ye 2017) is customary with spectral normalisation
        (Miyato et al. 2018).
      discriminator_steps: k, each on a minibatch and noise of its own.
      gradient_penalty: weight of the penalty of "wgan_gp".  A discriminator that is
        told the class is penalised as a function of pixels and planes together, at
        points between a real and a generated pair of both.
      r1: weight gamma of the penalty gamma / 2 * E ||grad D(x)||^2 on real images
        (Mescheder et al. 2018), for any loss; 0 leaves it out.
      average_decay: decay of the exponential moving average of the generator; 0
        keeps the last generator itself.
    """

    discriminator: DiscriminatorSpec | str = DCGANDiscriminator()
    optimizer: Optimizer | str = Adam(0.0002, b1=0.5)
    discriminator_optimizer: Optimizer | str = Adam(0.0002, b1=0.5)
    loss: GanLoss = "non_saturating"
    discriminator_steps: int = 1
    gradient_penalty: float = 10.0
    r1: float = 0.0
    average_decay: float = 0.999

    role: ClassVar[str] = "discriminator"

    def __post_init__(self):
        super().__post_init__()
        self._become_spec(
            "discriminator",
            DiscriminatorSpec,
            "a discriminator such as 'dcgan_discriminator'",
        )
        optimizer = as_optimizer(self.discriminator_optimizer)
        object.__setattr__(self, "discriminator_optimizer", optimizer)
        check(self.loss in LOSSES, self, "loss", ", ".join(get_args(GanLoss)))
        check(self.discriminator_steps >= 1, self, "discriminator_steps", "1 or more")
        for field in ("gradient_penalty", "r1"):
            weight = getattr(self, field)
            allowed = "a finite number, 0 or more"
            check(0 <= weight < math.inf, self, field, allowed)

    @property
    def partner(self) -> ModelSpec:
        """The discriminator's spec."""
        return self.discriminator  # type: ignore[return-value]

    @property
    def minibatches(self) -> int:
        """The number of minibatches that a step takes: one a discriminator step."""
        return self.discriminator_steps

    def check_networks(self, generator: Model, partner: Model) -> None:
        """Raises a `UsageError` if the training can't work on the two networks."""
        super().check_networks(generator, partner)
        penalty = "r1" if self.r1 else "loss='wgan_gp'"
        penalised = self.r1 or self.loss == "wgan_gp"
        params = jax.eval_shape(partner.init, jax.random.key(0))
        if penalised and _normalises_batches(params):
            raise UsageError(
                "GanTraining.discriminator has batch normalisation; allowed with "
                f"{penalty}: one without, since the penalty takes the gradient at "
                "each image by itself."
            )

    def init(self, setting: Setting, key: PRNGKey) -> GanState:
        """Returns the state before the first step."""
        self._check_setting(setting)
        generator = setting.generator.init(keys.stream(key, "generator"))
        discriminator = setting.partner.init(keys.stream(key, "discriminator"))
        return GanState(
            step=jnp.zeros((), jnp.int32),
            generator=generator,
            # A copy: both are donated to the step, and no buffer may be given twice.
            generator_average=jax.tree.map(jnp.copy, generator),
            discriminator=discriminator,
            generator_optimizer=remember(
                self._generator_descent(setting), (generator,)
            ),
            discriminator_optimizer=remember(
                self._discriminator_descent(setting), (discriminator,)
            ),
        )

    def _step(
        self,
        setting: Setting,
        key: PRNGKey,
        state: GanState,
        images: Float[Array, "k_batch height width channels"],
        labels: Shaped[Array, "k_batch ..."],
    ) -> tuple[GanState, GanMetrics]:
        """One iteration of Algorithm 1."""
        k = self.discriminator_steps
        minibatches = (
            images.reshape(k, -1, *images.shape[1:]),
            labels.reshape(k, -1),
            jax.random.split(keys.stream(key, "discriminator"), k),
        )

        def discriminator_step(carry, minibatch):
            return self._discriminator_step(setting, state.generator, carry, *minibatch)

        (discriminator, discriminator_optimizer), measured = jax.lax.scan(
            discriminator_step,
            (state.discriminator, state.discriminator_optimizer),
            minibatches,
        )
        discriminator_loss, real, fake = jax.tree.map(jnp.mean, measured)

        generator_key = keys.stream(key, "generator")

        def loss_of(networks):
            (params,) = networks
            generated, params = _generate(
                setting.generator, params, generator_key, images.shape[0] // k
            )
            outputs, _ = setting.partner.train(
                discriminator, generated, keys.stream(generator_key, "critic")
            )
            return LOSSES[self.loss].generator(outputs), ((params,), None)

        descended = descend(
            loss_of,
            (state.generator,),
            self._generator_descent(setting),
            state.generator_optimizer,
        )
        (generator,) = descended.networks
        average = moving_average(
            state.generator_average, generator, self.average_decay, state.step
        )
        return GanState(
            state.step + 1,
            generator,
            average,
            discriminator,
            descended.memory,
            discriminator_optimizer,
        ), GanMetrics(discriminator_loss, descended.loss, real, fake)

    def generator_params(self, state: GanState) -> Params:
        """Returns the moving average of the generator."""
        return state.generator_average

    def partner_params(self, state: GanState) -> Params:
        """Returns the discriminator."""
        return state.discriminator

    def _partner_images(self, generator, image_shape):
        *sides, channels = image_shape
        return (*sides, channels + generator.latent_classes)

    def _generator_descent(self, setting: Setting) -> optax.GradientTransformation:
        return as_optimizer(self.optimizer).build(setting.steps)

    def _discriminator_descent(self, setting: Setting) -> optax.GradientTransformation:
        total = setting.steps * self.discriminator_steps
        return as_optimizer(self.discriminator_optimizer).build(total)

    def _discriminator_step(self, setting, generator, carry, images, labels, key):
        """One step of the discriminator on one minibatch."""
        params, memory = carry
        real = _labelled(images, labels, setting.generator.latent_classes)
        fake, _ = _generate(setting.generator, generator, key, images.shape[0])

        def loss_of(networks):
            (params,) = networks
            judged = self._judge(setting, params, real, fake, key)
            loss = LOSSES[self.loss].discriminator(judged.real, judged.fake)
            return loss + judged.penalty, ((judged.params,), judged)

        descended = descend(
            loss_of, (params,), self._discriminator_descent(setting), memory
        )
        judged, reading = descended.measured, LOSSES[self.loss].reading
        means = jnp.mean(reading(judged.real)), jnp.mean(reading(judged.fake))
        (params,) = descended.networks
        return (params, descended.memory), (descended.loss, *means)

    def _judge(self, setting, params, real, fake, key) -> _Judged:
        """Returns what the discriminator says, with as few passes as the loss needs."""
        discriminator = setting.partner
        real_key, fake_key = keys.stream(key, "real"), keys.stream(key, "fake")
        penalty = jnp.zeros(())
        # Real and generated images go apart: batch normalisation wants it so (Radford
        # et al. 2016), and on a CPU two batches are faster than one of twice the size.
        if self.r1:
            # The gradient at the images shares its forward pass with the outputs.
            on_real, pull, params = jax.vjp(
                lambda images: discriminator.train(params, images, real_key),
                real,
                has_aux=True,
            )
            (slopes,) = pull(jnp.ones_like(on_real))
            # Planes of labels are no pixels.
            slopes = slopes[..., : setting.generator.output_shape[-1]]
            penalty = self.r1 * half_squared_norm(slopes)
        else:
            on_real, params = discriminator.train(params, real, real_key)
        on_fake, params = discriminator.train(params, fake, fake_key)
        if self.loss == "wgan_gp":
            mixed = _mixed(real, fake, keys.stream(key, "mix"))
            # Every output depends on its image alone, so the sum's gradient is theirs.
            slopes = jax.grad(lambda x: jnp.sum(discriminator.apply(params, x)))(mixed)
            penalty += self.gradient_penalty * distance_from_one(slopes)
        return _Judged(on_real, on_fake, penalty, params)


def _generate(
    generator: Model, params: Params, key: PRNGKey, count: int
) -> tuple[Float[Array, "count height width planes"], Params]:
    """Returns images as a discriminator sees them, and the updated parameters."""
    latents = models.sample_latents(generator, keys.stream(key, "latent"), count)
    images, params = generator.train(params, latents, keys.stream(key, "generator"))
    classes = generator.latent_classes
    # Without classes these mean nothing, and are not used.
    labels = jnp.argmax(latents[:, -classes:], axis=-1)
    return _labelled(images, labels, classes), params


def _labelled(
    images: Float[Array, "n height width channels"],
    labels: Shaped[Array, "n ..."],
    classes: int,
) -> Float[Array, "n height width planes"]:
    """Returns the images with one plane a class behind their channels."""
    if not classes:
        return images
    planes = jax.nn.one_hot(labels, classes, dtype=images.dtype)[:, None, None]
    planes = jnp.broadcast_to(planes, (*images.shape[:-1], classes))
    return jnp.concatenate([images, planes], axis=-1)


def _mixed(
    real: Float[Array, "n height width planes"],
    fake: Float[Array, "n height width planes"],
    key: PRNGKey,
) -> Float[Array, "n height width planes"]:
    """Returns a random point between the images of each pair."""
    shares = jax.random.uniform(key, (real.shape[0], 1, 1, 1))
    return shares * real + (1 - shares) * fake


def _normalises_batches(params: Params) -> bool:
    """Returns whether an output depends on the other images of the batch.

    Spectral normalisation keeps statistics too, but of weights.
    """
    paths = jax.tree_util.tree_leaves_with_path(params.get("batch_stats", {}))
    return any("BatchNorm" in jax.tree_util.keystr(path) for path, _ in paths)
