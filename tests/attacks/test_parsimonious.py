"""Parsimonious attack: closed forms, what it asks about, and what it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import Parsimonious, craft
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(0)
SHAPE = (5, 6, 2)
WEIGHTS = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def _linear(params, image):
    """Returns logits of which the second leads where w.x is above `params`."""
    return jnp.stack([0.0, jnp.sum(WEIGHTS * image) - params])


def _made(attack, apply, params, images, starts=None):
    labels = np.zeros(len(images), int)
    made = craft(attack, apply, params, images, labels, key=KEY, starts=starts)
    return jax.tree.map(np.asarray, made)


def test_a_linear_classifier_is_taken_to_its_best_corner():
    images = np.random.default_rng(1).uniform(size=(3, *SHAPE)).astype(np.float32)
    # Out of reach: nothing ends the search before nothing gains.
    made = _made(Parsimonious(0.2), _linear, 100.0, images)
    best = np.clip(images + 0.2 * np.sign(WEIGHTS)[None], 0, 1)
    np.testing.assert_allclose(made.images, best, atol=1e-6)
    # Each value alone, too, and from a corner as far off as there is.
    worst = np.clip(images - 0.2 * np.sign(WEIGHTS)[None], 0, 1)
    made = _made(Parsimonious(0.2, block=1), _linear, 100.0, images, worst)
    np.testing.assert_allclose(made.images, best, atol=1e-6)


def test_what_changes_nothing_is_asked_about_once():
    """Of 8 by 8 values one counts: 4 blocks, then 4 parts, then 4 values."""

    def rounded(params, image):
        # The value has to rise from 0.3 beyond 0.5: 0 becomes 1, and is not enough.
        return jnp.stack([1.5, params + jnp.round(image[2, 5, 0])])

    image = np.full((1, 8, 8, 1), 0.3, np.float32)
    made = _made(Parsimonious(0.25, queries=500), rounded, 0.0, image, image)
    assert float(made.images[0, 2, 5, 0]) == pytest.approx(0.55)
    # Two to begin; the block that gains is asked again as it moves; and at the end the
    # pairs of sixteen values.
    assert made.queries.forwards.tolist() == [2 + (4 + 1) + 4 + 4 + 120]


def test_two_values_move_together_where_none_gains_alone():
    def together(params, image):
        one, other = jnp.round(image[0, 0, 0]), jnp.round(image[3, 3, 0])
        return jnp.stack([1.0, params - 2 * jnp.abs(one - other) + 1.5 * one * other])

    image = np.full((1, 4, 4, 1), 0.4, np.float32)
    attack = Parsimonious(0.2, block=1)
    made = _made(attack, together, 0.0, image, image)
    assert made.success.all()
    changed = np.argwhere(np.round(made.images[0, :, :, 0]))
    np.testing.assert_array_equal(changed, [[0, 0], [3, 3]])
    # All values, then the pairs of those that lose least and of others.
    assert 2 + 16 < made.queries.forwards[0] <= 2 + 16 + 120


def test_the_search_begins_at_the_start_and_is_never_worse():
    images = np.random.default_rng(2).uniform(size=(4, *SHAPE)).astype(np.float32)
    starts = np.clip(images - 0.2 * np.sign(WEIGHTS)[None], 0, 1)
    for queries in (3, 20):
        made = _made(Parsimonious(0.2, queries), _linear, 100.0, images, starts)
        reached = (WEIGHTS[None] * made.images).sum((1, 2, 3))
        assert np.all(reached >= (WEIGHTS[None] * starts).sum((1, 2, 3)) - 1e-4)
    one = np.sum(made.images != starts, axis=(1, 2, 3))
    assert np.all(one > 0)


def test_a_success_ends_the_search():
    images = np.full((2, *SHAPE), 0.5, np.float32)
    value = float((WEIGHTS * images[0]).sum())
    made = _made(Parsimonious(0.2), _linear, value + 0.01, images, images)
    assert made.success.all()
    assert np.all(made.queries.forwards <= 2 + 8)


@pytest.mark.parametrize("field", [{"queries": 2}, {"block": 3}, {"block": 0}])
def test_a_search_that_cannot_be_is_told(field):
    with pytest.raises(UsageError, match=f"{next(iter(field))} is"):
        Parsimonious(0.1, **field)
