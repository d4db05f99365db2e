"""Optimisers against their formulas, and durations against arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.training import Adam, as_optimizer, optimizers, steps_of


def _walk(text, gradients, total=10):
    """Returns the parameter after each gradient, from 0."""
    transform = optimizers.build(text).build(total)
    param, state, path = jnp.zeros(()), transform.init(jnp.zeros(())), []
    for gradient in gradients:
        update, state = transform.update(jnp.asarray(gradient), state, param)
        param = param + update
        path.append(float(param))
    return path


def test_momentum_adds_up_gradients():
    path = _walk("momentum(0.1, momentum=0.5)", [1.0, 1.0, 0.0])
    np.testing.assert_allclose(path, [-0.1, -0.25, -0.325], rtol=1e-6)


def test_the_first_step_of_adam_is_the_learning_rate():
    for gradient in (1e-4, 3.0):
        np.testing.assert_allclose(_walk("adam(0.1)", [gradient]), -0.1, rtol=1e-3)


def test_a_cosine_schedule_ends_at_zero():
    path = _walk("momentum(0.1, momentum=0.0, schedule='cosine')", [1.0] * 11)
    steps = -np.diff([0.0, *path])
    np.testing.assert_allclose(steps[0], 0.1, rtol=1e-6)
    np.testing.assert_allclose(steps[5], 0.05, rtol=1e-5)
    np.testing.assert_allclose(steps[10], 0, atol=1e-6)


def test_weight_decay_shrinks_kernels_and_leaves_vectors_alone():
    transform = optimizers.build("adam(0.1, weight_decay=0.5)").build(10)
    params = {"kernel": jnp.full((2, 2), 4.0), "bias": jnp.full(2, 4.0)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    update, _ = transform.update(zeros, transform.init(params), params)
    np.testing.assert_allclose(update["kernel"], -0.1 * 0.5 * 4, rtol=1e-6)
    np.testing.assert_allclose(update["bias"], 0)


def test_a_text_stands_for_its_optimizer():
    adam = Adam(0.1)
    assert as_optimizer("adam(0.1)") == adam
    assert as_optimizer(adam) is adam


@pytest.mark.parametrize(
    "text",
    [
        "adam(0.1, weight_decay=-1.0)",
        "adam(0.0)",
        "adam(0.1, b1=1.0)",
        "adam(0.1, b2=-0.1)",
        "momentum(0.1, 'x')",
    ],
)
def test_impossible_fields_are_refused(text):
    with pytest.raises(ValueError, match="allowed|known"):
        optimizers.build(text)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [("7 steps", 7), ("1 step", 1), ("2 epochs", 20), ("0.5 epochs", 5)],
)
def test_durations(duration, steps):
    assert steps_of(duration, examples=1009, batch_size=100) == steps


@pytest.mark.parametrize("duration", ["", "5", "-3 steps", "3 days", "0 steps"])
def test_impossible_durations(duration):
    with pytest.raises(ValueError, match="allowed"):
        steps_of(duration, examples=100, batch_size=10)
