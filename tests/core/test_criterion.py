"""What criteria call a success, and that their losses cross 0 there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.criterion import (
    AnyLabelWrong,
    Deviates,
    Farthest,
    Misclassified,
    MisclassifiedAndAccepted,
    SignFlips,
    Targeted,
    criteria,
)
from robust_manifold.core.errors import UsageError

CASES = {
    Misclassified(): [([2.0, 1.0, 0.0], 0, False), ([0.0, 1.0, 0.5], 0, True)],
    MisclassifiedAndAccepted(): [
        ([2.0, 1.0, 0.0], 0, False),
        ([1.0, 2.0, 0.0], 0, True),
        ([1.0, 2.0, 3.0], 0, False),
        ([1.0, 2.0, 1.5], 0, True),
    ],
    Targeted(): [([2.0, 1.0, 0.0], 1, False), ([0.0, 1.0, 0.5], 1, True)],
    Deviates(0.5): [([1.0, 2.0], [1.2, 2.3], False), ([1.0, 2.0], [1.4, 2.4], True)],
    Deviates(10.0, period=360.0): [([355.0], [2.0], False), ([355.0], [6.0], True)],
    Farthest(): [([1.0, 2.0], [1.0, 2.0], False), ([3e38], [0.0], False)],
    AnyLabelWrong(): [
        ([1.0, -2.0], [True, False], False),
        ([1.0, 0.5], [True, False], True),
    ],
    SignFlips(): [(0.5, True, False), (-0.5, True, True), ([0.5], False, True)],
}


def test_every_criterion_is_tested():
    assert {criteria.name_of(spec) for spec in CASES} == set(criteria.names)


@pytest.mark.parametrize("criterion", CASES, ids=str)
def test_a_success_is_where_the_loss_is_above_0(criterion):
    for output, target, wanted in CASES[criterion]:
        output, target = jnp.asarray(output), jnp.asarray(target)
        assert bool(criterion.succeeds(output, target)) == wanted
        assert (float(criterion.loss(output, target)) > 0) == wanted
        shape = jax.ShapeDtypeStruct(output.shape, output.dtype)
        checked = criterion.check(shape, np.asarray(target)[None], 1)
        np.testing.assert_array_equal(checked[0], target)


@pytest.mark.parametrize("criterion", CASES, ids=str)
def test_nan_is_no_success(criterion):
    for output, target, _ in CASES[criterion]:
        broken = jnp.full_like(jnp.asarray(output), jnp.nan)
        assert not bool(criterion.succeeds(broken, jnp.asarray(target)))


def test_a_rejection_stands_in_the_place_of_the_label():
    criterion, outputs = MisclassifiedAndAccepted(), jnp.array([[1.0, 2.0, 5.0]] * 2)
    np.testing.assert_array_equal(criterion.seen(outputs, [0, 1]), [[5, 2], [1, 5]])
    assert criterion.classes_among(3) == 2
    classify, wanted = criterion.reduced(lambda image: outputs[0], 1)
    assert wanted == Misclassified()
    np.testing.assert_array_equal(classify(None), [1, 5])


def test_a_regression_has_a_slope_even_at_its_target():
    slope = jax.grad(Deviates(1.0).loss)
    np.testing.assert_allclose(slope(jnp.array([3.0, 4.0]), 0.0), [0.6, 0.8])
    np.testing.assert_allclose(slope(jnp.zeros(2), jnp.zeros(2)), 0.5**0.5)
    assert float(Deviates(1.0).loss(jnp.zeros(2), jnp.zeros(2))) == -1


LENGTHS = [float(x) for x in range(99)]


def test_nothing_is_far_enough_and_farther_is_always_more():
    losses = [float(Farthest().loss(jnp.array([x]), jnp.zeros(1))) for x in LENGTHS]
    assert all(a < b < 0 for a, b in zip(losses, losses[1:], strict=False))
    slope = jax.grad(Farthest().loss)
    np.testing.assert_allclose(slope(jnp.array([-3.0]), jnp.zeros(1)), [-0.25])
    assert np.isfinite(slope(jnp.zeros(2), jnp.zeros(2))).all()
    of_angles = Farthest(period=360.0)
    near, far = (of_angles.loss(jnp.array([a]), jnp.zeros(1)) for a in (350.0, 90.0))
    assert near < far


@pytest.mark.parametrize(
    "criterion, shape, targets, sentence",
    [
        (Misclassified(), (), [0, 0], "vector of logits for 2 classes"),
        (Misclassified(), (3,), [0, 3], "labels lie in"),
        (MisclassifiedAndAccepted(), (2,), [0, 0], "and that of the rejection"),
        (MisclassifiedAndAccepted(), (3,), [0, 2], "labels lie in"),
        (Deviates(1.0), (2,), [0.0, 0.0], r"numbers of the shape \(2, 2\)"),
        (Deviates(1.0), (), [0.0, np.nan], "finite numbers"),
        (AnyLabelWrong(), (3,), np.full((2, 3), 2), "booleans"),
        (AnyLabelWrong(), (), [0, 1], "one logit for each label"),
        (SignFlips(), (2,), [0, 1], "one logit"),
        (SignFlips(), (), [0, 2], "booleans, or 0 and 1"),
    ],
)
def test_targets_that_do_not_fit_are_refused(criterion, shape, targets, sentence):
    output = jax.ShapeDtypeStruct(shape, np.float32)
    with pytest.raises(UsageError, match=sentence):
        criterion.check(output, targets, 2)


@pytest.mark.parametrize("fields", [(-1.0,), (np.inf,), (180.0, 360.0)])
def test_impossible_tolerances_are_refused(fields):
    with pytest.raises(UsageError, match="tolerance"):
        Deviates(*fields)
