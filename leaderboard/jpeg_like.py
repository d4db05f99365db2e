"""Cosine coefficients of blocks of 7 x 7 pixels are rounded, as JPEG does.

High frequencies are rounded more coarsely (Dziugaite, Ghahramani and Roy 2016).
"""

import jax.numpy as jnp
import numpy as np

SIDE, COARSENESS = 7, 0.35


def entry():
    return {"defence": compressed, "title": "JPEG-like rounding"}


def cosines():
    places = np.arange(SIDE)
    rows = np.cos(np.pi * (places[None] + 0.5) * places[:, None] / SIDE)
    rows[0] /= np.sqrt(2)
    return np.float32(rows * np.sqrt(2 / SIDE))


def compressed(image):
    height, width, channels = image.shape
    basis = cosines()
    blocks = image.reshape(height // SIDE, SIDE, width // SIDE, SIDE, channels)
    found = jnp.einsum("ri,aibjc,sj->arbsc", basis, blocks, basis)
    # High frequencies are rounded more coarsely.
    order = np.add.outer(np.arange(SIDE), np.arange(SIDE))
    step = np.array(COARSENESS * (1 + order / 4), np.float32)[None, :, None, :, None]
    found = jnp.round(found / step) * step
    back = jnp.einsum("ri,arbsc,sj->aibjc", basis, found, basis)
    return jnp.clip(back.reshape(image.shape), 0, 1)
