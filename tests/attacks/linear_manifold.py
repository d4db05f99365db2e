"""A linear generator and linear classifiers, whose optima have closed forms."""

import jax.numpy as jnp
import numpy as np

from robust_manifold.attacks import ManifoldParams
from robust_manifold.core.manifold import Spanner, SpannerParams

SHAPE = (4, 4, 1)
PIXELS, SIZE = 16, 3


def _generate(params, latent):
    return (latent @ params["A"] + params["b"]).reshape(SHAPE)


def _classify(params, image):
    return image.reshape(-1) @ params["W"] + params["c"]


SPANNER = Spanner(_generate, (SIZE,))
CLASSIFY = _classify


def make(classes, scale=1.0):
    """Returns parameters whose images of common latents lie in [0, 1]."""
    rng = np.random.default_rng(classes)
    left = np.linalg.qr(rng.normal(size=(PIXELS, SIZE)))[0]
    right = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0]
    matrix = (left * [0.1, 0.15, 0.2]) @ right
    weights = scale * rng.normal(size=(PIXELS, classes))
    # At the middle of the range every class is equally likely.
    offset = -np.full(PIXELS, 0.5) @ weights
    return ManifoldParams(
        SpannerParams(
            {
                "A": jnp.asarray(matrix.T, jnp.float32),
                "b": jnp.full(PIXELS, 0.5, jnp.float32),
            }
        ),
        {"W": jnp.asarray(weights, jnp.float32), "c": jnp.asarray(offset, jnp.float32)},
    )


def arrays(params):
    """Returns A [pixels, latent], b, W and c in double precision."""
    generator, classifier = params.spanner.generator, params.classifier
    return (
        np.float64(generator["A"]).T,
        np.float64(generator["b"]),
        np.float64(classifier["W"]),
        np.float64(classifier["c"]),
    )


def images_off_range(params, n, off):
    """Returns images at the distance `off` from the range, and their class."""
    matrix, offset, weights, bias = arrays(params)
    rng = np.random.default_rng(7)
    inside = rng.normal(size=(n, SIZE)) @ matrix.T + offset
    noise = rng.normal(size=(n, PIXELS))
    noise -= noise @ matrix @ np.linalg.pinv(matrix)
    noise *= off / np.linalg.norm(noise, axis=1, keepdims=True)
    labels = np.argmax(inside @ weights + bias, axis=1)
    images = (inside + noise).reshape(n, *SHAPE)
    assert 0 <= images.min() and images.max() <= 1
    return images.astype(np.float32), labels
