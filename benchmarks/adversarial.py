"""GAN training of `experiments/mnist.py`, by the package and by PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_gan
from layers import MEMORY_FORMATS
from timing import Contender

from robust_manifold import models
from robust_manifold.core import keys
from robust_manifold.training import GanTraining, Setting

BATCH = 64
ADAM = {"lr": 0.0005, "betas": (0.5, 0.9)}
TRAININGS = {"wgan_gp": 3, "non_saturating": 1}
"""Each loss with its number k of discriminator steps."""
CHECKED_STEPS = 3
TIMED_STEPS = 8


class Ours:
    """The package's training, step by step."""

    def __init__(self, loss, minibatches):
        (b1, b2), rate = ADAM["betas"], ADAM["lr"]
        adam = f"adam(learning_rate={rate}, b1={b1}, b2={b2})"
        self.training = GanTraining(
            discriminator="dcgan_discriminator(width=32)",
            optimizer=adam,
            discriminator_optimizer=adam,
            loss=loss,
            discriminator_steps=TRAININGS[loss],
        )
        generator = models.build("dcgan_generator(latent_size=64, width=32)")
        partner = self.training.build_partner(generator, (28, 28, 1), 10)
        self.setting = Setting(generator, partner, 8000)
        self.key = jax.random.key(0)
        self.state = self.training.init(self.setting, self.key)
        k, batch = minibatches.shape[:2]
        self.images = minibatches.reshape(k * batch, *minibatches.shape[2:])
        self.labels = jnp.zeros(k * batch, jnp.int32)

    def step(self):
        self.state, metrics = self.training.step(
            self.setting, self.key, self.state, self.images, self.labels
        )
        return metrics

    def params(self):
        """The generator's and the discriminator's weights."""
        networks = (self.state.generator, self.state.discriminator)
        return [jax.tree.map(np.array, network["params"]) for network in networks]

    def draws(self, step):
        """The random numbers of a step, drawn as the training draws them."""
        key = jax.random.fold_in(keys.stream(self.key, "step"), step)
        inner = jax.random.split(
            keys.stream(key, "discriminator"), self.training.discriminator_steps
        )

        def latents(key):
            stream = keys.stream(key, "latent")
            return models.sample_latents(self.setting.generator, stream, BATCH)

        shares = [
            jax.random.uniform(keys.stream(key, "mix"), (BATCH, 1, 1, 1))
            for key in inner
        ]
        arrays = (
            jnp.stack([latents(key) for key in inner]),
            jnp.stack(shares),
            latents(keys.stream(key, "generator")),
        )
        return torch_gan.Draws(*(torch.from_numpy(np.array(a)) for a in arrays))


def contenders(loss):
    """Returns what is to be timed, by name: steps, of which the first are checked.

    In the check PyTorch is given the package's random numbers; the losses of some
    steps, each with its updates, must then be the same but for rounding.
    """
    k = TRAININGS[loss]
    random = np.random.default_rng(0)
    minibatches = random.random((k, BATCH, 28, 28, 1), np.float32)
    ours = Ours(loss, minibatches)
    params = ours.params()
    theirs = {
        name: torch_gan.Training(loss, params, ADAM, 0.999, memory_format)
        for name, memory_format in MEMORY_FORMATS.items()
    }
    images = torch.from_numpy(minibatches).permute(0, 1, 4, 2, 3).contiguous()
    for step in range(CHECKED_STEPS):
        draws, expected = ours.draws(step), ours.step()
        for name, training in theirs.items():
            found = training.step(images, draws)
            np.testing.assert_allclose(
                [float(found.discriminator_loss), float(found.generator_loss)],
                [float(expected.discriminator_loss), float(expected.generator_loss)],
                rtol=1e-3,
                atol=1e-4,
                err_msg=f"torch {name} trains differently in step {step}",
            )
    found = {"ours": Contender(lambda: _steps(ours), TIMED_STEPS)}
    for name, training in theirs.items():
        found[f"torch {name}"] = Contender(_torch_steps(training, images), TIMED_STEPS)
    return found


def _steps(ours):
    for _ in range(TIMED_STEPS):
        ours.step()
    jax.block_until_ready(ours.state)


def _torch_steps(training, images):
    def run():
        for _ in range(TIMED_STEPS):
            latents = torch.randn(*images.shape[:2], 64)
            shares = torch.rand(*images.shape[:2], 1, 1, 1)
            training.step(
                images, torch_gan.Draws(latents, shares, torch.randn(BATCH, 64))
            )

    return run
