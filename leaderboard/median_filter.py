"""Each pixel becomes the median of its 3 x 3 neighbours (Xu, Evans and Qi 2018)."""

import jax.numpy as jnp


def entry():
    return {"defence": median, "title": "median filter 3 x 3"}


def median(image):
    height, width, _ = image.shape
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = [
        padded[row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    ]
    return jnp.median(jnp.stack(shifted), axis=0)
