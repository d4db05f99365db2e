"""Searches for pairs, a generator and a classifier for trainings on pairs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.attacks.overpowered import Overpowered, Pair
from robust_manifold.core import keys
from robust_manifold.core.manifold import Spanner, SpannerParams
from tests.training.networks import GENERATOR, LATENT, SHAPE, images, labels, linear

MODEL = linear(SHAPE, (3,), scale=2)
SPANNER = Spanner(GENERATOR.apply, (LATENT,))
BATCH = images(6), labels(6)
SGD = "momentum(0.1, momentum=0.0)"
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Drawn(Overpowered):
    """Random images, some pairs of them feasible; of the others every pixel is NaN."""

    share: float = 0.5
    alike: bool = False
    """Whether all searches find one and the same pair."""

    def pair(self, key, manifold, classify):
        key = jax.random.key(3) if self.alike else key
        pixels = jax.random.uniform(key, (2, *SHAPE))
        feasible = jax.random.uniform(keys.stream(key, "coin")) < self.share
        pixels = jnp.where(feasible, pixels, jnp.nan)
        distance = jnp.sqrt(jnp.sum((pixels[0] - pixels[1]) ** 2))
        logits = jax.vmap(classify)(pixels)
        latents = jnp.zeros((2, *manifold.latent_shape))
        return Pair(latents, pixels, distance, logits, feasible, feasible)


@dataclasses.dataclass(frozen=True)
class Following(Overpowered):
    """A grey image, and the same moved along the slope of the first logit."""

    def pair(self, key, manifold, classify):
        grey = jnp.full(SHAPE, 0.5)
        pixels = jnp.stack([grey, grey + jax.grad(lambda x: classify(x)[0])(grey)])
        latents = jnp.zeros((2, *manifold.latent_shape))
        logits, always = jax.vmap(classify)(pixels), jnp.bool_(True)
        return Pair(latents, pixels, jnp.ones(()), logits, always, always)


def params_of_spanner():
    """Returns the generator's parameters."""
    return SpannerParams(GENERATOR.init(jax.random.key(1)))


def start(training, model=MODEL, steps=10):
    """Returns the training with its generator, and the state before its first step."""
    training = training.with_spanner(SPANNER)
    return training, training.init(model, KEY, steps, spanner=params_of_spanner())


def run(training, model=MODEL, steps=10, batch=BATCH, count=1):
    """Takes some steps; returns the parameters before, the state, and all metrics."""
    if training.needs_spanner:
        training, state = start(training, model, steps)
    else:
        state = training.init(model, KEY, steps)
    before, measured = jax.tree.map(np.asarray, state.params), []
    for _ in range(count):
        state, metrics = training.step(model, steps, KEY, state, *batch)
        measured.append(metrics)
    return before, jax.tree.map(np.asarray, state), measured


def mean_cross_entropy(w, batch=BATCH):
    """Returns the mean cross-entropy of the linear model with weights `w`."""
    pixels, classes = batch
    logits = pixels.reshape(len(pixels), -1) @ w
    shares = jax.nn.log_softmax(logits)
    return -jnp.mean(shares[jnp.arange(len(classes)), classes])


def logits_of(w, pairs):
    """Returns the logits of the feasible pairs, [pairs, 2, classes]."""
    chosen = pairs.images[pairs.feasible]
    return chosen.reshape(*chosen.shape[:2], -1) @ w
