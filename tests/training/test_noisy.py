"""Training under noise: it is that of plain training on noisy images."""

import jax
import numpy as np
import pytest

from robust_manifold.core import keys
from robust_manifold.training import CrossEntropy, Noisy
from tests.training.networks import images, labels, linear, step_key, weights

SHAPE = (4, 4, 1)
MODEL = linear(SHAPE, (3,))
SGD = "momentum(0.1, momentum=0.0)"
KEY = jax.random.key(0)


def test_a_step_is_that_of_plain_training_on_noisy_images():
    pixels, classes = images(6, SHAPE), labels(6)
    noisy, plain = Noisy(SGD, sigma=0.7), CrossEntropy(SGD)
    after, found = noisy.step(MODEL, 5, KEY, noisy.init(MODEL, KEY, 5), pixels, classes)
    drawn = jax.random.normal(keys.stream(step_key(), "noise"), pixels.shape)
    moved = pixels + 0.7 * np.asarray(drawn)
    assert moved.min() < 0 and moved.max() > 1
    known, told = plain.step(MODEL, 5, KEY, plain.init(MODEL, KEY, 5), moved, classes)
    np.testing.assert_allclose(weights(after.params), weights(known.params), rtol=1e-6)
    np.testing.assert_allclose(found.loss, told.loss, rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, float("nan"), float("inf")])
def test_a_sigma_that_is_none_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma is .*; allowed: a finite number above"):
        Noisy(sigma=sigma)
