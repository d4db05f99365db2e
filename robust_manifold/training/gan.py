"""One step of adversarial training of a generator (Goodfellow et al. 2014)."""

import dataclasses
import functools
import math
from typing import Literal, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from robust_manifold.core import keys
from robust_manifold.core.spec import check
from robust_manifold.core.types import Params, PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.training.optimizers import Optimizer

GanLoss: TypeAlias = Literal["minimax", "non_saturating", "wgan_gp"]


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
    values for `wgan_gp`.
    """

    discriminator_loss: Scalar
    generator_loss: Scalar
    real: Scalar
    fake: Scalar


@dataclasses.dataclass(frozen=True)
class GanTraining:
    """Adversarial training: k discriminator steps, then one generator step.

    Attributes:
      generator_optimizer: the generator's optimiser.
      discriminator_optimizer: the discriminator's optimiser.
      steps: number of generator steps of the whole training.
      loss: "minimax" is Algorithm 1 of Goodfellow et al. (2014) to the letter: the
        discriminator ascends log D(x) + log(1 - D(G(z))), the generator descends
        log(1 - D(G(z))); "non_saturating" lets the generator ascend log D(G(z));
        "wgan_gp" is the Wasserstein loss with gradient penalty (Gulrajani et al.
        2017).
      discriminator_steps: k, each on a minibatch and noise of its own.
      gradient_penalty: weight of the penalty of "wgan_gp".
      average_decay: decay of the exponential moving average of the generator; 0
        keeps the last generator itself.
    """

    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    steps: int
    loss: GanLoss = "non_saturating"
    discriminator_steps: int = 1
    gradient_penalty: float = 10.0
    average_decay: float = 0.999

    def __post_init__(self):
        check(self.steps >= 1, self, "steps", "1 or more")
        check(self.discriminator_steps >= 1, self, "discriminator_steps", "1 or more")
        check(
            0 <= self.gradient_penalty < math.inf,
            self,
            "gradient_penalty",
            "a finite number, 0 or more",
        )
        check(0 <= self.average_decay < 1, self, "average_decay", "0 to below 1")

    def init(self, generator: Model, discriminator: Model, key: PRNGKey) -> GanState:
        """Returns the state before the first step."""
        generator_params = generator.init(keys.stream(key, "generator"))
        discriminator_params = discriminator.init(keys.stream(key, "discriminator"))
        return GanState(
            step=jnp.zeros((), jnp.int32),
            generator=generator_params,
            # A copy: both are donated to the step, and no buffer may be given twice.
            generator_average=jax.tree.map(jnp.copy, generator_params),
            discriminator=discriminator_params,
            generator_optimizer=self.generator_optimizer.build(self.steps).init(
                generator_params
            ),
            discriminator_optimizer=self.discriminator_optimizer.build(
                self.steps * self.discriminator_steps
            ).init(discriminator_params),
        )

    @functools.partial(
        jax.jit,
        static_argnames=("self", "generator", "discriminator"),
        donate_argnames="state",
    )
    def step(
        self,
        generator: Model,
        discriminator: Model,
        key: PRNGKey,
        state: GanState,
        images: Float[Array, "k_batch height width channels"],
    ) -> tuple[GanState, GanMetrics]:
        """Returns the state after one iteration of Algorithm 1, and its metrics.

        Args:
          generator: latent to image.
          discriminator: image to one logit (or critic value).
          key: of the whole training; each step folds its own number into it.
          state: donated; use the returned one.
          images: the k minibatches, one after the other; pixels in [0, 1].
        """
        k = self.discriminator_steps
        chex.assert_is_divisible(images.shape[0], k)
        step_key = jax.random.fold_in(keys.stream(key, "step"), state.step)
        minibatches = images.reshape(k, images.shape[0] // k, *images.shape[1:])
        minibatch_keys = jax.random.split(keys.stream(step_key, "discriminator"), k)

        def discriminator_step(carry, minibatch):
            params, optimizer = carry
            params, optimizer, metrics = self._discriminator_step(
                generator, discriminator, state.generator, params, optimizer, *minibatch
            )
            return (params, optimizer), metrics

        (discriminator_params, discriminator_optimizer), measured = jax.lax.scan(
            discriminator_step,
            (state.discriminator, state.discriminator_optimizer),
            (minibatches, minibatch_keys),
        )
        discriminator_loss, real, fake = jax.tree.map(jnp.mean, measured)

        def generator_loss_of(params):
            generator_key = keys.stream(step_key, "generator")
            latents = _latents(generator, generator_key, minibatches.shape[1])
            images, params = generator.train(params, latents, generator_key)
            outputs, _ = discriminator.train(
                discriminator_params, images, keys.stream(generator_key, "critic")
            )
            return self._generator_loss(outputs), params

        gradients = jax.value_and_grad(generator_loss_of, has_aux=True)
        (generator_loss, params), gradient = gradients(state.generator)
        updates, generator_optimizer = self.generator_optimizer.build(
            self.steps
        ).update(gradient, state.generator_optimizer, params)
        params = optax.apply_updates(params, updates)
        # The average starts short, so that a short training outgrows its first params.
        decay = jnp.minimum(self.average_decay, (1 + state.step) / (10 + state.step))
        average = optax.incremental_update(params, state.generator_average, 1 - decay)
        return GanState(
            state.step + 1,
            params,
            average,
            discriminator_params,
            generator_optimizer,
            discriminator_optimizer,
        ), GanMetrics(discriminator_loss, generator_loss, real, fake)

    def _discriminator_step(
        self, generator, discriminator, generator_params, params, optimizer, images, key
    ):
        """One step of the discriminator on one minibatch."""
        latents = _latents(generator, key, images.shape[0])
        generated, _ = generator.train(
            generator_params, latents, keys.stream(key, "generator")
        )

        def loss_of(params):
            real, params = discriminator.train(params, images, keys.stream(key, "real"))
            fake, params = discriminator.train(
                params, generated, keys.stream(key, "fake")
            )
            if self.loss != "wgan_gp":
                # log D(x) = -softplus(-logit); log(1 - D(x)) = -softplus(logit).
                loss = jnp.mean(jax.nn.softplus(-real)) + jnp.mean(
                    jax.nn.softplus(fake)
                )
                return loss, (params, jax.nn.sigmoid(real), jax.nn.sigmoid(fake))
            penalty = self._penalty(discriminator, params, images, generated, key)
            return jnp.mean(fake) - jnp.mean(real) + penalty, (params, real, fake)

        gradients = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (params, real, fake)), gradient = gradients(params)
        updates, optimizer = self.discriminator_optimizer.build(
            self.steps * self.discriminator_steps
        ).update(gradient, optimizer, params)
        params = optax.apply_updates(params, updates)
        return params, optimizer, (loss, jnp.mean(real), jnp.mean(fake))

    def _penalty(self, discriminator, params, images, generated, key):
        """Mean squared distance of the critic's gradient norm from 1, weighted."""
        shares = jax.random.uniform(keys.stream(key, "mix"), (images.shape[0], 1, 1, 1))
        mixed = shares * images + (1 - shares) * generated

        def critic(image):
            return discriminator.apply(params, image)

        gradients = jax.vmap(jax.grad(critic))(mixed)
        squares = jnp.sum(gradients**2, axis=(1, 2, 3))
        # The small term keeps the derivative of the root finite at a zero gradient.
        return self.gradient_penalty * jnp.mean((jnp.sqrt(squares + 1e-12) - 1) ** 2)

    def _generator_loss(self, outputs: Float[Array, " batch"]) -> Scalar:
        match self.loss:
            case "minimax":
                return -jnp.mean(jax.nn.softplus(outputs))
            case "non_saturating":
                return jnp.mean(jax.nn.softplus(-outputs))
            case "wgan_gp":
                return -jnp.mean(outputs)


def _latents(
    generator: Model, key: PRNGKey, count: int
) -> Float[Array, "count latent"]:
    return jax.random.normal(
        keys.stream(key, "latent"), (count, *generator.input_shape)
    )
