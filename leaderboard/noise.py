"""Normal noise of deviation 0.3 is added to the image, fresh for each look at it."""

import jax
import jax.numpy as jnp

DEVIATION = 0.3


def entry():
    return {"defence": noisy, "title": "noise 0.3"}


def noisy(key, image):
    return jnp.clip(image + DEVIATION * jax.random.normal(key, image.shape), 0, 1)
