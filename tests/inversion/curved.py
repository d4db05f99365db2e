"""A small curved generator in 64 bits, and derivatives by central differences."""

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.core.manifold import Manifold

LATENT, PIXELS = 3, 12
_RNG = np.random.default_rng(0)
_FIRST = _RNG.normal(size=(LATENT, 8))
_SECOND = _RNG.normal(size=(8, PIXELS)) / 2
_READOUT = _RNG.normal(size=(PIXELS, 3))
IMAGE = _RNG.uniform(0.2, 0.8, size=(3, 4, 1))
"""Off the range, where the generator's own curvature counts."""


def generate(latent):
    hidden = jnp.tanh(latent @ jnp.asarray(_FIRST, latent.dtype))
    return jax.nn.sigmoid(hidden @ jnp.asarray(_SECOND, latent.dtype)).reshape(3, 4, 1)


def classify(image):
    return jnp.sin(image.reshape(-1) @ jnp.asarray(_READOUT, image.dtype))


def manifold(**fields) -> Manifold:
    return Manifold(generate, (LATENT,), **fields)


def jacobian(function, image):
    """The derivative of the logits, [3, pixels], by JAX."""
    found = jax.jit(jax.jacrev(function))(jnp.asarray(image))
    return np.asarray(found).reshape(3, -1)


def differences(function, image, step=1e-4):
    """The same by central differences."""
    moves = step * np.eye(image.size).reshape(-1, *image.shape)
    values = jax.jit(jax.vmap(function))(
        jnp.asarray(np.concatenate([image + moves, image - moves]))
    )
    ahead, behind = np.split(np.asarray(values), 2)
    return ((ahead - behind) / (2 * step)).T


def distance(found, expected) -> float:
    """How far off a derivative is, as a share of its length."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
