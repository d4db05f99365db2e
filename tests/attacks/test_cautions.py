"""Budgets out of scale, and what only a black box finds."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import (
    FGSM,
    PGD,
    SPSA,
    AttackWarning,
    AutoAttack,
    DeepFool,
    Square,
    craft,
    craft_grid,
)
from robust_manifold.attacks.cautions import check_black_box, check_budget

KEY = jax.random.key(0)
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(16, 3)), jnp.float32)
IMAGES = np.random.default_rng(0).uniform(size=(12, 4, 4, 1)).astype(np.float32)


def linear(params, image):
    return (image.reshape(-1) - 0.5) @ params


def purified(params, image):
    return linear(params, jnp.round(2 * image) / 2)


LABELS = np.asarray(jax.vmap(lambda x: purified(WEIGHTS, x).argmax())(IMAGES))


def told(call):
    """Returns the sentences of a call's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(
    ("norm", "widest"), [("linf", 1.0), ("l2", 48**0.5), ("l1", 48.0)]
)
def test_a_budget_is_at_most_as_wide_as_the_box(norm, widest):
    shape = (4, 4, 3)
    for epsilon in (None, 0.0, 0.3, widest):
        assert not told(lambda epsilon=epsilon: check_budget(epsilon, norm, shape))
    with pytest.warns(
        AttackWarning, match=f"in {norm}, and no two .* pixels from 0 to"
    ):
        check_budget(widest * 1.01, norm, shape)


def test_eight_is_eight_of_255():
    labels = np.asarray(jax.vmap(lambda x: linear(WEIGHTS, x).argmax())(IMAGES))
    arguments = (linear, WEIGHTS, IMAGES, labels)
    with pytest.warns(AttackWarning, match=r"epsilon is 8 in linf.*8 / 255 here"):
        craft(FGSM(8), *arguments, key=KEY)
    with pytest.warns(AttackWarning, match="epsilon is 16 in linf"):
        craft_grid(FGSM(0), *arguments, [0.0, 8.0, 16.0], key=KEY)
    # It has no budget.
    craft(DeepFool("linf"), *arguments, key=KEY)


WHITE, BLACK, OTHER = PGD(0.1), Square(0.1), SPSA(0.1)


@pytest.mark.parametrize(
    ("members", "broken", "n", "expected"),
    [
        ((WHITE, BLACK), [50, 5], 100, "Square"),
        ((WHITE, BLACK, OTHER), [0, 2, 9], 100, "SPSA"),
        ((WHITE, BLACK), [50, 4], 100, None),
        ((WHITE, BLACK), [0, 5], 499, "Square"),
        ((WHITE, BLACK), [0, 5], 500, None),
        ((BLACK, WHITE), [50, 50], 100, None),
        ((BLACK,), [50], 100, None),
        ((WHITE,), [50], 100, None),
    ],
)
def test_what_a_black_box_breaks_alone(members, broken, n, expected):
    member = np.repeat(np.arange(len(members)), broken)
    member = np.concatenate([member, np.zeros(n - len(member), int)])
    success = np.arange(n) < sum(broken)
    found = told(lambda: check_black_box(members, success, member, n))
    assert len(found) == (expected is not None)
    if expected:
        assert found[0].startswith(f"{expected}, which sees no gradient, broke")


@pytest.mark.parametrize("grid", [False, True])
def test_auto_attack_tells_that_gradients_are_masked(grid):
    attack = AutoAttack(0.3, steps=3, queries=200)
    arguments = (purified, WEIGHTS, IMAGES, LABELS)
    if grid:
        found = told(lambda: craft_grid(attack, *arguments, [0.01, 0.3, 0.4], key=KEY))
    else:
        found = told(lambda: craft(attack, *arguments, key=KEY))
    blind, masked = found
    assert "zero for 12 of 12 clean images" in blind
    assert masked.startswith("Square, which sees no gradient, broke")
    assert "evaluation.audit" in masked
