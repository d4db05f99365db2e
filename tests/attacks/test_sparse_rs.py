"""Sparse-RS: closed forms, the pixels that it may change, and where it begins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import SparseRS, craft
from robust_manifold.core.criterion import Deviates
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(0)
SHAPE = (4, 5, 2)
WEIGHTS = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(size=(3, *SHAPE)).astype(np.float32)
OUT_OF_REACH = 100.0
"""A threshold below which nothing ends the search before its last query."""


def _linear(params, image):
    """Returns logits of which the second leads where w.x is above `params`."""
    return jnp.stack([0.0, jnp.sum(WEIGHTS * image) - params])


def _made(attack, apply=_linear, params=OUT_OF_REACH, images=IMAGES, **more):
    labels = np.zeros(len(images), int)
    made = craft(attack, apply, params, images, labels, key=KEY, **more)
    return jax.tree.map(np.asarray, made)


def _values(images):
    return (WEIGHTS * images).sum((1, 2, 3))


def _changed(images, clean=IMAGES, norm="pixels"):
    changed = images != clean
    return (changed.any(-1) if norm == "pixels" else changed).reshape(len(clean), -1)


def _most(images, count, norm):
    """Returns how much `count` pixels can add to w.x, the best of them."""
    gains = np.where(WEIGHTS > 0, 1 - images, images) * np.abs(WEIGHTS)
    if norm == "pixels":
        gains = gains.sum(-1)
    gains = gains.reshape(len(images), -1)
    return np.sort(gains)[:, ::-1][:, :count].sum(1)


@pytest.mark.parametrize("norm", ["pixels", "l0"])
@pytest.mark.parametrize("count", [1, 3])
def test_the_best_pixels_of_a_linear_classifier_are_found(norm, count):
    made = _made(SparseRS(count, norm, queries=6000))
    gained = _values(made.images) - _values(IMAGES)
    np.testing.assert_allclose(gained, _most(IMAGES, count, norm), rtol=1e-4)
    assert np.all(_changed(made.images, norm=norm).sum(1) == count)


@pytest.mark.parametrize("norm", ["pixels", "l0"])
@pytest.mark.parametrize("epsilon", [0, 0.9, 2.5, 19, 100])
def test_no_more_than_so_many_change(norm, epsilon):
    made = _made(SparseRS(epsilon, norm, queries=60, restarts=2))
    assert _changed(made.images, norm=norm).sum(1).max() <= np.floor(epsilon)
    assert made.images.min() >= 0 and made.images.max() <= 1
    np.testing.assert_array_equal(
        made.distance, _changed(made.images, norm=norm).sum(1)
    )


def test_where_every_pixel_may_change_values_alone_are_searched():
    """None is left to come in: those that leave come back with other values."""
    made = _made(SparseRS(20, queries=4000))
    best = (WEIGHTS > 0).astype(np.float32)
    np.testing.assert_array_equal(made.images, np.broadcast_to(best, IMAGES.shape))


def test_all_channels_of_a_pixel_are_at_an_end_of_the_box():
    made = _made(SparseRS(5, queries=30))
    changed = made.images[(made.images != IMAGES).any(-1)]
    assert set(np.unique(changed)) == {0.0, 1.0}


def test_before_a_black_ground_every_draw_changes_its_pixel():
    dark = np.zeros((2, 6, 6, 1), np.float32)

    def bright(params, image):
        return jnp.stack([params, jnp.sum(image)])

    made = _made(SparseRS(4, queries=1), bright, OUT_OF_REACH, dark)
    np.testing.assert_array_equal(made.images.sum((1, 2, 3)), [4, 4])


def test_the_search_begins_at_the_start_and_is_never_worse():
    starts = np.where(_best_pixels(3), WEIGHTS > 0, IMAGES).astype(np.float32)
    # Two more than fit are left out: those that are changed least.
    more = starts.copy()
    spare = np.argwhere(~_best_pixels(3)[0].any(-1))[:2]
    for row, column in spare:
        more[:, row, column] = np.clip(more[:, row, column] + 1e-4, 0, 1)
    for queries in (1, 50):
        made = _made(SparseRS(3, queries=queries), starts=more)
        np.testing.assert_allclose(_values(made.images), _values(starts), rtol=1e-6)
        np.testing.assert_array_equal(made.images, starts)


def _best_pixels(count):
    gains = (np.where(WEIGHTS > 0, 1 - IMAGES, IMAGES) * np.abs(WEIGHTS)).sum(-1)
    least = np.sort(gains.reshape(len(IMAGES), -1))[:, -count]
    return np.broadcast_to((gains >= least[:, None, None])[..., None], IMAGES.shape)


def test_a_success_ends_the_search():
    reach = _values(IMAGES) + _most(IMAGES, 3, "pixels")
    made = _made(SparseRS(3, queries=5000), params=float(reach.min()) - 0.5)
    assert made.success.all()
    assert made.queries.forwards.max() < 3000


def test_another_criterion_is_searched_for_too():
    """A number is moved by more than the tolerance, either way."""

    def number(params, image):
        return jnp.sum(WEIGHTS * image) * params

    reach = max(_most(IMAGES, 2, "pixels"))
    for tolerance, expected in ((0.5 * reach, True), (3 * reach, False)):
        made = craft(
            SparseRS(2, queries=500),
            number,
            1.0,
            IMAGES,
            _values(IMAGES),
            key=KEY,
            criterion=Deviates(float(tolerance)),
        )
        assert bool(np.all(made.success)) == expected
        assert _changed(np.asarray(made.images)).sum(1).max() <= 2


def test_restarts_draw_for_themselves_and_more_are_never_worse():
    one = _values(_made(SparseRS(3, queries=20)).images)
    four = _values(_made(SparseRS(3, queries=20, restarts=4)).images)
    assert np.all(four >= one - 1e-5) and np.any(four > one + 1e-3)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"epsilon": -1}, "SparseRS.epsilon is -1; allowed: a finite number"),
        ({"norm": "l1"}, "SparseRS.norm is 'l1'; allowed: pixels or l0"),
        ({"queries": 0}, "SparseRS.queries is 0; allowed: a whole number, 1 or more"),
        ({"share": 0.0}, "SparseRS.share is 0.0; allowed: above 0 and at most 1"),
        ({"restarts": 0}, "SparseRS.restarts is 0; allowed: a whole number, 1 or"),
    ],
)
def test_a_search_that_cannot_be_is_told(fields, sentence):
    with pytest.raises(UsageError, match=sentence):
        SparseRS(**{"epsilon": 3, **fields})


def test_ever_fewer_pixels_are_exchanged_as_the_authors_have_it():
    # alpha / 2 of 200 pixels up to query 50 of 10,000, then alpha / 4, and so on.
    authors = {1: 80, 50: 80, 51: 40, 201: 32, 501: 26, 1001: 20, 2001: 16, 4001: 13}
    authors |= {6001: 10, 8000: 10, 8001: 8, 9999: 8}
    whole = SparseRS(200.0, queries=10_000, share=0.8)
    half = SparseRS(200.0, queries=5_000, share=0.8)
    fixed = SparseRS(200.0, queries=5_000, share=0.8, rescale=False)
    for query, count in authors.items():
        asked, budget = jnp.int32(query), jnp.int32(200)
        assert int(whole._exchanged(asked, budget)) == count
        assert int(fixed._exchanged(asked, budget)) == count
        # Each of its queries counts for two.
        if query % 2 == 0:
            assert int(half._exchanged(jnp.int32(query // 2), budget)) == count
    few = SparseRS(12.0, share=0.3)
    assert int(few._exchanged(jnp.int32(1), jnp.int32(12))) == 1
    assert int(few._exchanged(jnp.int32(1), jnp.int32(0))) == 0
