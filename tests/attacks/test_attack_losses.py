import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks.losses import (
    Objective,
    ObjectiveValue,
    cross_entropy,
    margin,
)


def test_margin_by_hand():
    logits = jnp.array([1.0, 3.0, 2.0])
    expected = np.log(np.exp(1.0) + np.exp(2.0)) - 3.0
    assert margin(logits, jnp.int32(1)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_cross_entropy_is_softplus_of_the_margin(label):
    logits = jnp.array([0.3, -1.2, 2.0])
    np.testing.assert_allclose(
        cross_entropy(logits, jnp.int32(label)),
        jax.nn.softplus(margin(logits, jnp.int32(label))),
        rtol=1e-5,
    )


def test_two_classes_give_the_difference():
    assert margin(jnp.array([5.0, 2.0]), jnp.int32(0)) == -3.0


def test_the_margin_has_a_gradient_where_cross_entropy_has_none():
    logits, label = jnp.array([1e4, 0.0, 1.0]), jnp.int32(0)
    gradient = jax.grad(margin)(logits, label)
    assert gradient[0] == -1.0
    assert jnp.isfinite(gradient).all()
    np.testing.assert_array_equal(jax.grad(cross_entropy)(logits, label), np.zeros(3))


def _evaluation(loss, adversarial):
    return ObjectiveValue(jnp.float32(loss), jnp.bool_(adversarial))


@pytest.mark.parametrize(
    ("new", "old", "better"),
    [
        ((0.0, True), (9.0, False), True),
        ((9.0, False), (0.0, True), False),
        ((2.0, False), (1.0, False), True),
        ((1.0, True), (1.0, True), False),
        ((np.nan, False), (-np.inf, False), False),
        ((1.0, False), (-np.inf, False), True),
    ],
)
def test_adversarial_first_then_the_loss(new, old, better):
    assert bool(_evaluation(*new).beats(_evaluation(*old))) is better


def _nan_where_dark(image):
    logits = jnp.array([1.0, 0.0]) + image.sum()
    return jnp.where(image.sum() > 0, logits, jnp.nan)


def test_nan_logits_are_not_adversarial():
    objective = Objective(_nan_where_dark, jnp.int32(1))
    assert not objective.evaluate(jnp.zeros((1, 1, 1))).adversarial
    assert objective.evaluate(jnp.ones((1, 1, 1))).adversarial


def test_non_finite_gradient_entries_become_zero():
    def classify(image):
        # The derivative of a square root at 0 is infinite.
        return jnp.array([1.0, 0.0]) + jnp.stack(
            [-image[0, 0, 0], image[1, 0, 0] ** 0.5]
        )

    objective = Objective(classify, jnp.int32(0))
    gradient = objective.evaluate_with_gradient(jnp.zeros((2, 1, 1))).gradient
    np.testing.assert_array_equal(gradient.reshape(-1), [1.0, 0.0])
