"""A key for each image that a random classifier keeps through a whole attack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import (
    PGD,
    Expectation,
    craft,
    craft_grid,
    transfer,
)
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (5, 2, 2, 1)).astype(np.float32)
LABELS = np.array([0, 1, 1, 0, 1])
KEYS = jax.random.split(jax.random.key(7), 5)
PARAMS = jnp.float32(1.0)


def noisy(params, image, key):
    """Two logits; the key says by how much the threshold is off."""
    score = params * (image.sum() - 2.0) + jax.random.normal(key)
    return jnp.stack([-score, score])


def _expected_logits(images):
    return np.stack(
        [noisy(PARAMS, image, key) for image, key in zip(images, KEYS, strict=True)]
    )


@pytest.mark.parametrize("samples", [1, 3])
def test_a_fixed_key_is_met_in_every_call(samples):
    seen = []

    def recorded(params, image, key):
        data = jax.random.key_data(key)
        jax.debug.callback(lambda k: seen.append(tuple(k.tolist())), data)
        return noisy(params, image, key)

    craft(
        PGD(0.1, steps=3, random_start=False, restarts=1),
        Expectation(recorded),
        PARAMS,
        IMAGES[:1],
        LABELS[:1],
        key=KEY,
        view=Expectation(recorded, samples),
        fixed_keys=KEYS[:1],
        tile=1,
    )
    jax.effects_barrier()
    fixed = tuple(jax.random.key_data(KEYS[0]).tolist())
    # A look at the clean image, the view's and the classifier's where they are not one;
    # three steps, the last image and its evaluation.
    one = samples == 1
    assert len(seen) == samples * (1 + 3 + 1) + 1 + (not one)
    assert seen.count(fixed) == 1 + 3 + 1 + 1 + (not one)
    assert len(set(seen)) == samples


def test_logits_are_those_of_the_fixed_key():
    crafted = craft(
        PGD(0.1, steps=2),
        Expectation(noisy),
        PARAMS,
        IMAGES,
        LABELS,
        key=KEY,
        fixed_keys=KEYS,
    )
    np.testing.assert_allclose(
        crafted.logits, _expected_logits(crafted.images), rtol=1e-6
    )


def test_it_does_not_depend_on_the_batch():
    settings = {"key": KEY, "tile": 2}
    attack, random = PGD(0.1, steps=3), Expectation(noisy, samples=2)
    whole = craft(attack, random, PARAMS, IMAGES, LABELS, fixed_keys=KEYS, **settings)
    part = np.array([3, 1])
    some = craft(
        attack,
        random,
        PARAMS,
        IMAGES[part],
        LABELS[part],
        fixed_keys=KEYS[part],
        ids=part,
        **settings,
    )
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(some), strict=True):
        np.testing.assert_array_equal(one[part], other)


def test_grids_and_transfers_keep_them():
    random, options = Expectation(noisy), {"key": KEY, "fixed_keys": KEYS}
    attack, epsilons = PGD(0.1, steps=2), [0.0, 0.2, 0.4]
    grid = craft_grid(attack, random, PARAMS, IMAGES, LABELS, epsilons, **options)
    for row in range(3):
        np.testing.assert_allclose(
            grid.logits[row], _expected_logits(grid.images[row]), rtol=1e-5
        )
    assert 0 < int(grid.success[0].sum()) < int(grid.success[2].sum())
    carried = transfer(
        attack, random, PARAMS, random, PARAMS, IMAGES, LABELS, **options
    )
    direct = craft(attack, random, PARAMS, IMAGES, LABELS, **options)
    np.testing.assert_allclose(carried.logits, direct.logits, rtol=1e-6)


def test_a_known_draw_is_no_random_classifier():
    """A first success is one for good."""
    crafted = craft(
        PGD(0.01, steps=20, stop=True),
        Expectation(noisy),
        PARAMS,
        IMAGES,
        LABELS,
        key=KEY,
        fixed_keys=KEYS,
    )
    lost = np.argmax(_expected_logits(IMAGES), -1) != LABELS
    assert lost.any() and crafted.success[lost].all()
    assert crafted.queries.forwards[lost].max() < crafted.queries.forwards.max()


@pytest.mark.parametrize(
    "wrong",
    [KEYS[:4], KEY, jax.random.key_data(KEYS), np.zeros(5), 3],
    ids=["four", "one", "data", "numbers", "whole"],
)
def test_what_are_no_keys_is_refused(wrong):
    with pytest.raises(UsageError, match="fixed_keys are .*; allowed: 5 keys"):
        craft(
            PGD(0.1, steps=1),
            Expectation(noisy),
            PARAMS,
            IMAGES,
            LABELS,
            key=KEY,
            fixed_keys=wrong,
        )
