"""A small classifier whose functions keep their identity, and images for it."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Toy(NamedTuple):
    apply: object
    params: object
    images: np.ndarray
    labels: np.ndarray


def _apply(params, image):
    hidden = jnp.tanh(image.reshape(-1) @ params["w1"])
    return params["scale"] * (hidden @ params["w2"])


@functools.cache
def make_toy(classes: int) -> Toy:
    """Returns a classifier with so many classes, and its own labels of seven images."""
    rng = np.random.default_rng(0)
    params = {
        "w1": jnp.asarray(rng.normal(size=(36, 16)) / 2, jnp.float32),
        "w2": jnp.asarray(rng.normal(size=(16, classes)), jnp.float32),
        # As sure of itself as a trained network.
        "scale": jnp.float32(20.0),
    }
    images = rng.uniform(size=(7, 6, 6, 1)).astype(np.float32)
    # Pixels at the ends of the box, where a careless step would leave it.
    images[:, 0], images[:, 1] = 0.0, 1.0
    logits = jax.vmap(lambda image: _apply(params, image))(images)
    return Toy(_apply, params, images, np.argmax(np.asarray(logits), -1))
