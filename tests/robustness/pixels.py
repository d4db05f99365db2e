"""A classifier whose worst case is known: the brightest of three pixels."""

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.evaluation.cascades import Effort

N = 60
LABELS = np.arange(N) % 3
_NOISE = np.random.default_rng(0).uniform(0.2, 0.4, (N, 4))
IMAGES = np.float32(_NOISE + 0.3 * np.eye(3, 4)[LABELS]).reshape(N, 2, 2, 1)
PARAMS = jnp.eye(4, 3)
EPSILONS = (0.1, 0.14, 0.2)
EFFORT = Effort(
    steps=3,
    aimed_steps=0,
    views=1,
    all_steps=0,
    queries=0,
    dampings=(1e-3,),
    pilot=8,
    samples=2,
)


def apply(params, image):
    return image.reshape(-1) @ params


CLASSIFIER = (apply, PARAMS)


def levels(image):
    """Rounds to four values."""
    return jnp.round(image * 3) / 3


def levels_in_numpy(image):
    """Does the same, out of JAX's sight."""
    assert type(image) is np.ndarray
    return np.round(image * 3) / np.float32(3)


def noisy(key, image):
    return image + 0.1 * jax.random.normal(key, image.shape)


def noisy_in_numpy(words, image):
    return image + 0.1 * np.random.default_rng(words).normal(size=image.shape)


def gap(images=IMAGES):
    """Returns how far the label's pixel is ahead of the next one."""
    pixels = np.array(images, np.float64).reshape(len(images), -1)[:, :3]
    own = pixels[np.arange(len(images)), LABELS[: len(images)]]
    pixels[np.arange(len(images)), LABELS[: len(images)]] = -np.inf
    return own - pixels.max(1)


def falls(epsilon):
    """Returns which images some image of the ball in linf is misclassified of."""
    return gap() < 2 * epsilon
