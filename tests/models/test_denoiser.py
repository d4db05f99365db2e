"""The denoiser: what it is at the ends of its levels, and its layers one by one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.core.networks import with_level

SHAPE, MEAN, DEVIATION = (8, 12, 2), 0.2, 0.4
MODEL = models.build(
    f"denoiser(width=3, bottleneck=5, mean={MEAN}, deviation={DEVIATION})",
    image_shape=SHAPE,
)
PARAMS = MODEL.init(jax.random.key(0))
NOISY = jax.random.normal(jax.random.key(1), SHAPE)


def apply(level, noisy=NOISY, params=PARAMS):
    return np.asarray(MODEL.apply(params, with_level(noisy, level)))


def test_without_noise_it_gives_the_image_back():
    np.testing.assert_allclose(apply(0.0), NOISY, atol=1e-6)


@pytest.mark.parametrize("level", [0.1, 0.4, 2.0])
def test_without_its_layers_it_is_the_best_denoiser_of_normal_pixels(level):
    """Of N(mean, deviation^2) in each pixel, whose posterior mean is by hand."""
    params = jax.tree.map(jnp.zeros_like, PARAMS)
    kept = DEVIATION**2 / (DEVIATION**2 + level**2)
    expected = MEAN + kept * (np.asarray(NOISY) - MEAN)
    np.testing.assert_allclose(apply(level, params=params), expected, atol=1e-6)


def test_its_layers_are_those_of_the_docstring():
    """The same network of flax's own layers, and of pixels moved by hand."""
    level = 0.3
    params = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape) * 0.3,
        PARAMS,
    )["params"]
    scale = np.hypot(level, DEVIATION)
    told = np.log(level) / 2

    def halved(x):
        corners = [x[i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return jnp.concatenate(corners, axis=-1)

    def doubled(x):
        height, width, channels = x.shape
        each = channels // 4
        made = np.zeros((2 * height, 2 * width, each), np.float32)
        for place in range(4):
            part = x[..., place * each : (place + 1) * each]
            made[place // 2 :: 2, place % 2 :: 2] = part
        return jnp.asarray(made)

    def conv(number, x, stride=1):
        x = jnp.concatenate([x, jnp.full((*x.shape[:2], 1), told)], axis=-1)
        own = params[f"Conv_{number}"]
        layer = nn.Conv(own["bias"].size, (3, 3), stride)
        return layer.apply({"params": own}, x[None])[0]

    def dense(number, x):
        own = params[f"Dense_{number}"]
        return nn.Dense(own["bias"].size).apply({"params": own}, x)

    def block(number, x):
        return x + conv(number + 1, nn.silu(conv(number, nn.silu(x))))

    x = block(1, conv(0, halved((NOISY - MEAN) / scale)))
    y = block(4, conv(3, nn.silu(x), 2))
    z = dense(1, nn.silu(dense(0, nn.silu(y).reshape(-1))))
    y = jnp.concatenate([y, z.reshape(2, 3, 16)], axis=-1)
    x = block(6, x + doubled(dense(2, nn.silu(y))))
    made = doubled(dense(3, nn.silu(x)))
    kept = DEVIATION**2 / scale**2
    expected = MEAN + kept * (NOISY - MEAN) + level * DEVIATION / scale * made
    found = apply(level, params={"params": params})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
