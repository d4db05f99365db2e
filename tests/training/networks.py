"""Linear and quadratic networks, for which every loss has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.core import keys
from robust_manifold.models import Model
from robust_manifold.training import Setting

SHAPE = (2, 2, 1)
LATENT = 3


def linear(shape_in, shape_out, scale=0.3, **fields):
    """Returns a model y = W x without a bias; entries of W are of size `scale`."""
    n, m = int(np.prod(shape_in)), int(np.prod(shape_out))

    def init(key):
        return {"params": {"w": scale * jax.random.normal(key, (n, m))}}

    def apply(params, x):
        batch = x.shape[: x.ndim - len(shape_in)]
        outputs = x.reshape(*batch, n) @ params["params"]["w"]
        return outputs.reshape(*batch, *shape_out)

    return _model(init, apply, shape_in, shape_out, **fields)


def quadratic(weights):
    """Returns a critic w . x^2 / 2: its gradient, w x, is another at each image."""

    def init(key):
        return {"params": {"w": jnp.asarray(weights)}}

    def apply(params, x):
        squares = x.reshape(*x.shape[: x.ndim - len(SHAPE)], -1) ** 2
        return squares @ params["params"]["w"] / 2

    return _model(init, apply, SHAPE, ())


def _model(init, apply, shape_in, shape_out, **fields):
    def train(params, x, key):
        return apply(params, x), params

    return Model(init, apply, train, shape_in, shape_out, **fields)


GENERATOR = linear((LATENT,), SHAPE)
DISCRIMINATOR = linear(SHAPE, ())


def images(n=5, shape=SHAPE):
    """Returns `n` images, pixels in [0, 1]."""
    return np.random.default_rng(1).random((n, *shape), np.float32)


def labels(n=5, classes=3):
    """Returns labels 0, 1, 2, 0, ..."""
    return (np.arange(n) % classes).astype(np.int32)


def weights(params):
    """Returns the one matrix of a network."""
    return np.asarray(params["params"]["w"])


def step(training, generator=GENERATOR, partner=DISCRIMINATOR, steps=10, **given):
    """Takes one step; returns the state before and after it, and the metrics.

    `given` may hold a key, the number of the step, images, and labels.
    """
    key = given.get("key", jax.random.key(0))
    setting = Setting(generator, partner, steps)
    state = training.init(setting, key)._replace(step=jnp.int32(given.get("step", 0)))
    before = jax.tree.map(np.asarray, state)
    batch = given.get("images", images(5 * training.minibatches))
    told = given.get("labels", labels(len(batch)))
    return before, *training.step(setting, key, state, batch, told)


def step_key(step=0, key=None):
    """Returns the key of one step of a training with the key 0."""
    key = jax.random.key(0) if key is None else key
    return jax.random.fold_in(keys.stream(key, "step"), step)


def minibatch_key(step=0, number=0, k=1):
    """Returns the key of one of the k discriminator steps."""
    return jax.random.split(keys.stream(step_key(step), "discriminator"), k)[number]


def latents(key, n=5, size=LATENT):
    """Returns the latents drawn with a discriminator's or the generator's key."""
    return np.asarray(jax.random.normal(keys.stream(key, "latent"), (n, size)))


def generator_latents(step=0, n=5, size=LATENT):
    """Returns the latents of the generator's half of a step."""
    return latents(keys.stream(step_key(step), "generator"), n, size)


def sigmoid(x):
    """Returns 1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))
