"""Classes that can never win: masked by -inf, or by a very low number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import (
    APGD,
    FAB,
    FMN,
    JSMA,
    PGD,
    DeepFool,
    Problem,
    Square,
    craft,
    hyperplane,
)
from robust_manifold.attacks.losses import Objective, dlr, targeted_dlr
from robust_manifold.attacks.overpowered_losses import PAIR_LOSSES
from robust_manifold.core.criterion import Misclassified, Targeted

pytestmark = pytest.mark.filterwarnings("ignore::robust_manifold.attacks.AttackWarning")
KEY = jax.random.key(0)
GREY = np.full((1, 4, 4, 1), 0.5, np.float32)
INFINITE, LOWEST = -np.inf, -1e38


def masked(bias, image):
    """Four classes; the boundary of the first two is where the mean is 0.6."""
    bright = 10 * (image.mean() - 0.6)
    return jnp.stack([-bright, bright, 0.0, 0.0]) + bias


def mask(value, places=(2, 3)):
    bias = np.zeros(4, np.float32)
    bias[list(places)] = value
    return bias


def _crafted(attack, value):
    return craft(attack, masked, mask(value), GREY, [0], key=KEY)


@pytest.mark.parametrize("value", [INFINITE, LOWEST, -1e20, -1e9])
@pytest.mark.parametrize(
    ("attack", "exact"),
    [
        (DeepFool("linf"), 0.1),
        (DeepFool("l2"), 0.4),
        (FAB("linf", steps=20), 0.1),
        (FAB("l2", steps=20, targets=3), 0.4),
        (FMN("linf"), 0.1),
    ],
    ids=str,
)
def test_the_nearest_boundary_is_that_of_a_class_that_can_win(attack, exact, value):
    crafted = _crafted(attack, value)
    assert crafted.success[0]
    assert exact <= float(crafted.distance[0]) * (1 + 1e-5)
    assert float(crafted.distance[0]) <= 1.03 * exact


@pytest.mark.parametrize("value", [INFINITE, LOWEST, -1e20, -1e9])
@pytest.mark.parametrize(
    "attack",
    [
        APGD(0.105, loss="dlr", steps=10),
        APGD(0.105, loss="targeted_dlr", steps=10),
        PGD(0.105, loss="dlr", steps=10),
        Square(0.105, loss="dlr", queries=300),
    ],
    ids=str,
)
def test_the_ratio_sees_the_classes_that_can_win(attack, value):
    assert _crafted(attack, value).success[0]


LOGITS = jnp.array([2.0, 1.25, -3.0, -1.5])


@pytest.mark.parametrize("value", [INFINITE, LOWEST, -1e20])
def test_with_two_classes_left_the_ratio_is_the_difference(value):
    logits = LOGITS.at[2:].set(value)
    loss, slope = jax.value_and_grad(dlr)(logits, jnp.int32(0))
    assert float(loss) == -0.75
    np.testing.assert_array_equal(slope, [-1, 1, 0, 0])
    targeted = Objective(lambda image: logits, jnp.int32(1), "dlr", Targeted())
    assert float(targeted.of(logits).loss) == -0.75


def test_with_enough_classes_left_the_ratio_is_the_papers():
    logits = LOGITS.at[2].set(-jnp.inf)
    assert float(dlr(logits, jnp.int32(0))) == pytest.approx(-0.75 / 3.5)
    whole = targeted_dlr(LOGITS, jnp.int32(0), jnp.int32(1))
    assert float(whole) == pytest.approx(-0.75 / 4.25)
    three = targeted_dlr(logits, jnp.int32(0), jnp.int32(1))
    assert float(three) == -0.75


def _problem(bias, label=0, targeted=False):
    return Problem(
        lambda image: masked(bias, image),
        jnp.asarray(GREY[0]),
        jnp.int32(label),
        jnp.float32(0.1),
        Targeted() if targeted else Misclassified(),
    )


def test_the_label_comes_after_the_masked_classes():
    logits = jnp.array([-jnp.inf, 1.0, -jnp.inf, 2.0])
    order = hyperplane.rivals(_problem(0.0, label=1), logits)
    np.testing.assert_array_equal(order, [3, 0, 2, 1])


def test_a_masked_class_has_no_boundary():
    near = hyperplane.boundaries(
        _problem(mask(-np.inf)), jnp.asarray(GREY[0]), jnp.array([1, 2])
    )
    distances = [
        float(hyperplane.distance(value, gradient, "linf"))
        for value, gradient in zip(near.values, near.gradients, strict=True)
    ]
    np.testing.assert_allclose(distances, [0.1, np.inf], rtol=1e-5)


def test_no_run_is_spent_on_masked_classes():
    problem = _problem(mask(-np.inf, [1, 3]))
    search = FAB(targets=3, restarts=2).begin(problem, KEY)
    assert int(search.runs) == 2 * 1
    ascent = APGD(0.1, loss="targeted_dlr", targets=3).begin(problem, KEY)
    np.testing.assert_array_equal(ascent.targets, [2, 2, 2])


def test_masked_classes_have_no_part_in_saliency():
    """They are shifted copies here, whose slopes would hide the others'."""
    weights = np.linspace(-1, 1, 16, dtype=np.float32)

    def copies(bias, image):
        score = weights @ (image.reshape(-1) - 0.5)
        return jnp.stack([0.0, score, score, score]) + bias

    bias = mask(-np.inf) - np.array([0, 0.9, 0, 0], np.float32)
    crafted = craft(JSMA(gamma=1.0), copies, bias, GREY, [0], key=KEY)
    # Two pixels gain 14 / 15 at most.
    assert crafted.success[0] and float(crafted.distance[0]) == 2


@pytest.mark.parametrize("name", sorted(PAIR_LOSSES))
def test_pair_losses_are_those_of_the_classes_that_can_win(name):
    first, second = jnp.array([1.0, 0.25, -2.0]), jnp.array([0.5, 1.5, -1.0])
    low = jnp.array([-jnp.inf, -jnp.inf])
    expected, slope = jax.value_and_grad(PAIR_LOSSES[name])(first, second)

    def loss(first):
        return PAIR_LOSSES[name](jnp.append(first, low), jnp.append(second, low))

    found, found_slope = jax.value_and_grad(loss)(first)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(found_slope, slope, rtol=1e-5, atol=1e-6)
