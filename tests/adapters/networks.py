"""The same kind of network in each framework: convolution, batch norm, dropout."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import adapters

KEY = jax.random.key(0)
SHAPE = (6, 5, 3)
IMAGES = np.random.default_rng(0).uniform(size=(4, *SHAPE)).astype(np.float32)
FEATURES, CLASSES = 2, 4
FLAT = 4 * 3 * FEATURES
"""Numbers of an image after a convolution of 3 x 3 without padding."""
WEIGHTS = np.random.default_rng(1).normal(size=(4, CLASSES)).astype(np.float32)
"""Of a sum of logits, whose gradients are compared."""


class Case(NamedTuple):
    """A network, and what its framework makes of it by itself."""

    adapted: Any
    """Adapts it, as `adapted()` or `adapted(image_shape=...)`."""
    logits: Any
    """Of `IMAGES`, [4, classes]."""
    gradients: Any
    """Of the weighted sum of these, [4, height, width, channels]."""


def by_jax(adapted, batch, images=IMAGES, back=lambda gradients: gradients):
    """Returns the case of a network that is a function of a batch in JAX."""

    def total(images):
        logits = batch(images)
        return jnp.sum(logits * WEIGHTS), logits

    gradients, logits = jax.jit(jax.grad(total, has_aux=True))(images)
    return Case(adapted, logits, back(gradients))


def relu(image):
    """A function among arrays: Equinox wants none that JAX has wrapped."""
    return jnp.maximum(image, 0)


def linen(training=False):
    from flax import linen

    class Network(linen.Module):
        @linen.compact
        def __call__(self, images, train):
            images = linen.Conv(FEATURES, (3, 3), padding="VALID")(images)
            images = linen.BatchNorm(use_running_average=not train)(images)
            images = linen.Dropout(0.5, deterministic=not train)(linen.relu(images))
            return linen.Dense(CLASSES)(images.reshape(len(images), -1))

    network = Network()

    @jax.jit
    def trained():
        variables = network.init(KEY, IMAGES, False)
        _, updated = network.apply(
            variables, IMAGES, True, rngs={"dropout": KEY}, mutable=["batch_stats"]
        )
        return variables | updated

    variables = trained()
    if training:
        return adapters.from_linen(network, variables, train=True)
    return by_jax(
        functools.partial(adapters.from_linen, network, variables),
        lambda images: network.apply(variables, images, False),
    )


def nnx(training=False):
    from flax import nnx

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, FEATURES, (3, 3), padding="VALID", rngs=rngs)
            self.norm = nnx.BatchNorm(FEATURES, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.dense = nnx.Linear(FLAT, CLASSES, rngs=rngs)

        def __call__(self, images):
            images = self.dropout(nnx.relu(self.norm(self.conv(images))))
            return self.dense(images.reshape(len(images), -1))

    network = Network(nnx.Rngs(0))
    network(jnp.asarray(IMAGES))
    if training:
        return adapters.from_nnx(network)
    network.eval()
    return by_jax(functools.partial(adapters.from_nnx, network), network)


def equinox(training=False):
    eqx = pytest.importorskip("equinox", reason="equinox is not installed")

    class Network(eqx.Module):
        layers: list
        norm: Any
        dropout: Any

        def __init__(self):
            self.layers = [
                eqx.nn.Conv2d(3, FEATURES, 3, key=KEY),
                relu,
                eqx.nn.Linear(FLAT, CLASSES, key=KEY),
            ]
            self.norm = eqx.nn.BatchNorm(FEATURES, axis_name="batch", mode="batch")
            self.dropout = eqx.nn.Dropout(0.5)

        def __call__(self, image, state, key):
            image, state = self.norm(self.layers[0](image), state)
            image = self.dropout(self.layers[1](image), key=key)
            return self.layers[2](image.reshape(-1)), state

    network, state = eqx.nn.make_with_state(Network)()
    first = jnp.asarray(IMAGES.transpose(0, 3, 1, 2))

    @eqx.filter_jit
    def trained(network, state):
        keys = jax.random.split(KEY, len(IMAGES))
        batch = jax.vmap(network, (0, None, 0), (0, None), axis_name="batch")
        return batch(first, state, keys)[1]

    state = trained(network, state)
    if training:
        return adapters.from_equinox(network, state)
    network = eqx.nn.inference_mode(network)
    return by_jax(
        functools.partial(adapters.from_equinox, network, state),
        jax.vmap(lambda image: network(image, state, None)[0]),
        first,
        lambda gradients: gradients.transpose(0, 2, 3, 1),
    )


def haiku(training=False):
    hk = pytest.importorskip("haiku", reason="dm-haiku is not installed")

    @hk.transform_with_state
    def network(images, is_training, drop):
        images = hk.Conv2D(FEATURES, 3, padding="VALID")(images)
        images = hk.BatchNorm(True, True, 0.9)(images, is_training)
        if drop:
            images = hk.dropout(hk.next_rng_key(), 0.5, images)
        return hk.Linear(CLASSES)(hk.Flatten()(jax.nn.relu(images)))

    @jax.jit
    def trained():
        params, state = network.init(KEY, IMAGES, True, True)
        return params, network.apply(params, state, KEY, IMAGES, True, True)[1]

    params, state = trained()
    if training:
        mode = {"is_training": training == "batch norm", "drop": training == "dropout"}
        return adapters.from_haiku(network, params, state, **mode)
    return by_jax(
        functools.partial(adapters.from_haiku, network, params, state, drop=False),
        lambda images: network.apply(params, state, None, images, False, False)[0],
    )


def torch(training=False):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, FEATURES, 3),
        torch.nn.BatchNorm2d(FEATURES),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Flatten(),
        torch.nn.Linear(FLAT, CLASSES),
    )
    first = torch.tensor(IMAGES).permute(0, 3, 1, 2)
    network(first)
    if training:
        network[:3].eval()
        return adapters.from_torch(network, image_shape=SHAPE)
    network.eval()
    adapted = functools.partial(adapters.from_torch, network, image_shape=SHAPE)
    first.requires_grad_()
    logits = network(first)
    torch.sum(logits * torch.tensor(WEIGHTS)).backward()
    gradients = first.grad.permute(0, 2, 3, 1)
    return Case(adapted, logits.detach().numpy(), gradients.numpy())


FRAMEWORKS = {
    "linen": linen,
    "nnx": nnx,
    "equinox": equinox,
    "haiku": haiku,
    "torch": torch,
}
