"""A linear generator whose projection is known in closed form."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest


class Linear(NamedTuple):
    generate: object
    params: object
    images: np.ndarray
    latents: np.ndarray
    """The least-squares solutions."""
    errors: np.ndarray


def _generate(params, latent):
    return (latent @ params["A"] + params["b"]).reshape(4, 5, 1)


@pytest.fixture(scope="session")
def linear() -> Linear:
    rng = np.random.default_rng(0)
    # Singular values from 1 to 2, so that the mean squared error is well conditioned.
    left = np.linalg.qr(rng.normal(size=(20, 3)))[0]
    right = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    matrix = (left * [1.0, 1.5, 2.0]) @ right
    offset = rng.uniform(size=20)
    images = rng.uniform(size=(5, 4, 5, 1)).astype(np.float32)
    centred = images.reshape(5, -1) - offset
    latents = centred @ np.linalg.pinv(matrix).T
    errors = np.mean((latents @ matrix.T - centred) ** 2, axis=1)
    params = {
        "A": jnp.asarray(matrix.T, jnp.float32),
        "b": jnp.asarray(offset, jnp.float32),
    }
    return Linear(_generate, params, images, latents, errors)
