"""Randomised smoothing: a linear classifier's closed form, and the interval's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from robust_manifold.certification import (
    ABSTAINED,
    Counts,
    Smoothing,
    WithoutKey,
    count,
    lower_share,
    smoothed,
)
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import Networks
from robust_manifold.defenses import BitDepth, DefenseParams
from robust_manifold.defenses.views import DefendedApply

KEY = jax.random.key(3)
NORMAL = np.array([[0.6], [-0.8]], np.float32)[None]
"""Of length 1, as an image of two pixels."""


def linear(params, image):
    """Returns logits whose difference is a distance to a plane."""
    value = jnp.sum(params * image)
    return jnp.stack([value, jnp.zeros_like(value)])


def outside(params, image, key):
    """Returns class 1 where a pixel has left [0, 1]."""
    del params, key
    left = jnp.any((image < 0) | (image > 1)).astype(jnp.float32)
    return jnp.stack([0.5, left])


def no_number(params, image):
    """Returns logits that are no numbers where the first pixel is above its value."""
    first = image[0, 0, 0]
    return jnp.where(first > params, jnp.nan, jnp.arange(2.0))


def draws_of(key):
    """Returns the class that a defence draws from its key."""
    return jnp.eye(2)[jax.random.bernoulli(key).astype(int)]


def drawing(params, image, key):
    del params, image
    return draws_of(key)


PLAIN = WithoutKey(linear)
counted = functools.partial(count, PLAIN, NORMAL, classes=2, key=KEY, batch_size=500)


@pytest.mark.parametrize(
    ("times", "n", "alpha"), [(9, 10, 0.05), (990, 1000, 0.001), (1, 5, 0.5)]
)
def test_the_interval_is_that_of_clopper_and_pearson(times, n, alpha):
    low = lower_share(times, n, alpha)
    # Its definition: as many successes, or more, have just this probability.
    above = scipy.stats.binom(n, low).sf(times - 1)
    np.testing.assert_allclose(above, alpha, rtol=1e-9)
    two_sided = scipy.stats.binomtest(times, n).proportion_ci(1 - 2 * alpha)
    np.testing.assert_allclose(low, two_sided.low, rtol=1e-9)


def test_all_and_none_have_closed_forms():
    np.testing.assert_allclose(lower_share(100, 100, 0.001), 0.001**0.01, rtol=1e-12)
    assert lower_share(0, 100, 0.001) == 0


def test_the_largest_radius_at_the_published_draws_is_known():
    spec = Smoothing(sigma=0.25)
    counts = Counts(np.array([[0, 100]]), np.array([[0, 100_000]]))
    found = smoothed(counts, spec)
    assert found.prediction[0] == 1
    largest = 0.25 * scipy.special.ndtri(0.001 ** (1 / 100_000))
    np.testing.assert_allclose(found.radius, largest, rtol=1e-9)
    assert round(found.radius[0], 2) == 0.95


def test_a_linear_classifier_is_smoothed_as_its_closed_form_says():
    # The smoothed class 0 has the probability Φ(distance / σ), so the true radius is
    # the distance itself, and the bound lies a little below.
    places = np.array([0.15, 0.3, 0.6, -0.2])
    images = np.array([[0.5, 0.375], [0.5, 0.375], [1, 0], [0.5, 0.375]], np.float32)
    images[:2] += places[:2, None] * NORMAL.reshape(1, 2)
    images[3] += places[3] * NORMAL.reshape(2)
    spec = Smoothing(sigma=0.5, n0=100, n=4_000)
    counts = counted(images.reshape(4, 1, 2, 1), smoothing=spec)
    np.testing.assert_array_equal(counts.choosing.sum(1), 100)
    np.testing.assert_array_equal(counts.bounding.sum(1), 4_000)
    wanted = scipy.special.ndtr(np.abs(places) / 0.5)
    found = smoothed(counts, spec)
    np.testing.assert_array_equal(found.prediction, [0, 0, 0, 1])
    share = counts.bounding[np.arange(4), found.prediction] / 4_000
    deviation = np.sqrt(wanted * (1 - wanted) / 4_000)
    assert (np.abs(share - wanted) < 4 * deviation).all()
    assert (found.probability < share).all()
    assert (found.radius < np.abs(places) + 0.01).all()
    assert (found.radius > np.abs(places) - 0.08).all()


def test_parts_add_up_to_the_whole_and_know_no_batch_mates():
    images = np.random.default_rng(0).random((3, 1, 2, 1)).astype(np.float32)
    spec = Smoothing(sigma=1.0, n0=30, n=200)
    whole = counted(images, smoothing=spec)
    parts = [
        counted(images, smoothing=spec, start=a, stop=b, batch_size=37)
        for a, b in [(0, 20), (20, 111), (111, 230)]
    ]
    for field in range(2):
        summed = sum(part[field] for part in parts)
        np.testing.assert_array_equal(summed, whole[field])
    alone = counted(images[2:], smoothing=spec, ids=np.array([2]))
    np.testing.assert_array_equal(alone.bounding[0], whole.bounding[2])
    other = counted(images[2:], smoothing=spec)
    assert not np.array_equal(other.bounding[0], whole.bounding[2])


def test_it_abstains_where_no_class_is_sure():
    spec = Smoothing(sigma=0.5, n0=10, n=100)
    counts = Counts(np.array([[4, 6], [10, 0]]), np.array([[45, 55], [0, 100]]))
    found = smoothed(counts, spec)
    np.testing.assert_array_equal(found.prediction, [ABSTAINED, ABSTAINED])
    np.testing.assert_array_equal(found.radius, [0, 0])


def test_the_class_is_chosen_by_draws_that_do_not_bound_it():
    spec = Smoothing(sigma=0.5, n0=10, n=100)
    counts = Counts(np.array([[6, 4]]), np.array([[0, 100]]))
    assert smoothed(counts, spec).probability[0] == 0


def test_noisy_pixels_are_neither_clipped_nor_refused():
    image = np.full((1, 4, 4, 1), 0.5, np.float32)
    spec = Smoothing(sigma=2.0, n0=1, n=100)
    found = count(outside, (), image, smoothing=spec, classes=2, key=KEY)
    np.testing.assert_array_equal(found.bounding, [[0, 100]])
    defended = DefendedApply(BitDepth(1), Networks(), linear)
    params = DefenseParams({}, NORMAL)
    found = count(
        defended, params, image[:, :1, :2], smoothing=spec, classes=2, key=KEY
    )
    assert found.bounding.sum() == 100


def test_draws_without_numbers_stand_for_no_class():
    image = np.full((1, 1, 2, 1), 0.5, np.float32)
    spec = Smoothing(sigma=0.5, n0=100, n=1000)
    found = count(
        WithoutKey(no_number),
        np.float32(0.5),
        image,
        smoothing=spec,
        classes=2,
        key=KEY,
    )
    assert found.bounding[0, 0] == 0 and 400 < found.bounding[0, 1] < 600
    share = found.bounding[0, 1] / 1000
    assert smoothed(found, spec).probability[0] < share


def test_a_random_defence_has_a_key_of_its_own_in_every_draw():
    image = np.full((1, 1, 2, 1), 0.5, np.float32)
    spec = Smoothing(sigma=0.5, n0=1, n=1000)
    found = count(drawing, (), image, smoothing=spec, classes=2, key=KEY)
    assert 400 < found.bounding[0, 0] < 600


def test_what_makes_no_sense_is_refused():
    image = np.full((1, 1, 2, 1), 0.5, np.float32)
    spec = Smoothing(sigma=0.5, n0=10, n=100)
    for field, value in [("sigma", 0.0), ("n", 0), ("n0", 0), ("alpha", 1.0)]:
        with pytest.raises(UsageError, match=f"{field} is .*; allowed"):
            Smoothing(**{"sigma": 0.5, field: value})
    with pytest.raises(UsageError, match="start and stop are 5 and 5; allowed"):
        counted(image, smoothing=spec, start=5, stop=5)
    with pytest.raises(UsageError, match="counts of an image add up to 101; allowed"):
        smoothed(Counts(np.array([[0, 10]]), np.array([[1, 100]])), spec)
