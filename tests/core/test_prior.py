"""Draws of a prior have its moments; scaling moves them towards its centre."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.core.prior import STANDARD_NORMAL, ClassesInTurn, Normal, Uniform

KEY = jax.random.key(0)
# Prior, mean, standard deviation.
MOMENTS = [
    (STANDARD_NORMAL, 0.0, 1.0),
    (Normal(-1.0, 1.0), -1.0, 1.0),
    (Normal(2.0, 0.5), 2.0, 0.5),
    (Uniform(-1.0, 1.0), 0.0, 1 / math.sqrt(3)),
    (Uniform(1.0, 3.0), 2.0, 1 / math.sqrt(3)),
]


@pytest.mark.parametrize("prior, mean, deviation", MOMENTS)
def test_draws_have_the_moments_of_the_prior(prior, mean, deviation):
    draws = prior.sample(KEY, (5000, 2))
    assert draws.shape == (5000, 2) and draws.dtype == jnp.float32
    # Six standard deviations of a mean of 10,000 draws.
    assert abs(float(draws.mean()) - mean) < 0.06 * deviation
    assert float(draws.std()) == pytest.approx(deviation, rel=0.05)
    assert prior.centre == mean


def test_uniform_draws_fill_the_interval():
    draws = Uniform(1.0, 3.0).sample(KEY, (5000,))
    assert 1 <= draws.min() < 1.01 and 2.99 < draws.max() <= 3


@pytest.mark.parametrize("prior, mean, deviation", MOMENTS)
def test_scaled_draws_keep_the_centre(prior, mean, deviation):
    draws = prior.sample(KEY, (50,))
    halves = prior.scaled_sample(KEY, (50,), 0.5)
    np.testing.assert_allclose(halves, (draws + mean) / 2, atol=1e-6)
    np.testing.assert_array_equal(prior.scaled_sample(KEY, (3,), 0.0), [mean] * 3)
    assert prior.scaled_sample(KEY, (3,), 1.0, jnp.float16).dtype == jnp.float16


def test_equal_priors_hash_alike():
    assert hash(Normal()) == hash(STANDARD_NORMAL) and Normal() == STANDARD_NORMAL
    assert Uniform() != Normal()


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: Normal(math.nan), "Normal.mean is nan"),
        (lambda: Normal(deviation=0.0), "Normal.deviation is 0.0"),
        (lambda: Normal(deviation=math.inf), "Normal.deviation is inf"),
        (lambda: Uniform(-math.inf), "Uniform.low is -inf"),
        (lambda: Uniform(1.0, 1.0), "Uniform.high is 1.0"),
    ],
)
def test_impossible_priors_are_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()


def test_restarts_try_every_class_in_turn():
    prior = ClassesInTurn(Normal(2.0, 0.5), 3)
    key = jax.random.key(0)
    firsts = set()
    for image in range(20):
        image_key = jax.random.fold_in(key, image)
        starts = np.stack(
            [prior.start(image_key, jnp.int32(r), (7,), 0.0) for r in range(6)]
        )
        np.testing.assert_allclose(starts[:, :4], 2.0)
        classes = starts[:, 4:].argmax(axis=-1)
        np.testing.assert_array_equal(np.sort(starts[:, 4:]), [[0, 0, 1]] * 6)
        np.testing.assert_array_equal(classes, (classes[0] + np.arange(6)) % 3)
        firsts.add(int(classes[0]))
    assert firsts == {0, 1, 2}
