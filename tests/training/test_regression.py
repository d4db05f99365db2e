"""Training by squared error: closed forms of linear networks, plain and attacked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.training import ClassifierTraining, SquaredError
from tests.training.networks import linear, weights

SHAPE = (2, 2, 1)
MODEL = linear(SHAPE, (1,))
KEY = jax.random.key(0)
START = {"params": {"w": np.array([[0.5], [-1.0], [2.0], [0.25]], np.float32)}}
IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (8, *SHAPE)).astype(np.float32)
TARGETS = np.random.default_rng(1).normal(size=(8, 1)).astype(np.float32)
RATE = 0.125


def stepped(**fields):
    training = SquaredError(optimizer=f"momentum({RATE}, momentum=0.0)", **fields)
    state = training.init(MODEL, KEY, 5, start=START)
    state, metrics = training.step(MODEL, 5, KEY, state, IMAGES, TARGETS)
    return weights(training.train_params(state)), metrics


def least_squares(images):
    """Returns weights, loss and mean error one step down the mean squared error."""
    pixels, w = images.reshape(8, 4), START["params"]["w"]
    away = pixels @ w - TARGETS
    gradient = 2 * pixels.T @ away / 8
    return w - RATE * gradient, (away**2).mean(), np.abs(away).mean()


def test_a_step_goes_down_the_mean_squared_error():
    found, metrics = stepped()
    expected, loss, error = least_squares(IMAGES)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose((metrics.loss, metrics.error), (loss, error), rtol=1e-5)


@pytest.mark.parametrize("clean_share", [0.0, 0.5])
def test_attacked_images_are_where_a_linear_network_is_farthest_off(clean_share):
    epsilon = 0.1
    found, metrics = stepped(
        attack=f"pgd(epsilon={epsilon}, steps=3, random_start=False)",
        clean_share=clean_share,
    )
    pixels, w = IMAGES.reshape(8, 4), START["params"]["w"]
    away = pixels @ w - TARGETS
    # Each pixel goes to the end of the ball to which the error grows.
    moved = pixels + epsilon * np.sign(away) * np.sign(w).T
    moved[: int(8 * clean_share)] = pixels[: int(8 * clean_share)]
    expected, loss, error = least_squares(moved)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose((metrics.loss, metrics.error), (loss, error), rtol=1e-4)


def test_steps_compile_once():
    programs = ClassifierTraining.step._cache_size()
    for _ in range(2):
        stepped(average_decay=0.5)
    assert ClassifierTraining.step._cache_size() - programs == 1


def test_least_squares_are_found():
    truth = np.array([[1.0], [-2.0], [0.5], [3.0]], np.float32)
    images = np.random.default_rng(2).random((64, *SHAPE)).astype(np.float32)
    targets = images.reshape(64, 4) @ truth
    training = SquaredError(optimizer="adam(0.1)")
    state = training.init(MODEL, KEY, 400)
    for _ in range(400):
        state, metrics = training.step(MODEL, 400, KEY, state, images, targets)
    np.testing.assert_allclose(weights(state.params), truth, atol=0.01)
    assert float(metrics.error) < 0.01


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"average_decay": 1.0}, "average_decay is 1.0; allowed: 0 to below 1"),
        ({"attack": "deepfool"}, "attack is DeepFool, which needs logits of classes"),
        ({"attack": "pgd(epsilon=0.1, loss='ce')"}, "PGD.loss is 'ce'; allowed: none"),
        ({"attack": "auto_attack(epsilon=0.1)"}, "attack is .*; allowed: a stepped"),
        ({"attack": "pgd(epsilon=0.1)", "clean_share": 1.0}, "clean_share is 1.0"),
    ],
)
def test_impossible_trainings_are_refused_in_a_sentence(fields, sentence):
    with pytest.raises(UsageError, match=sentence):
        SquaredError(**fields)


def test_targets_may_be_vectors():
    model = linear(SHAPE, (2,))
    training = SquaredError()
    state = training.init(model, KEY, 1)
    targets = np.concatenate([TARGETS, -TARGETS], axis=1)
    before = np.array(weights(state.params))
    _, metrics = training.step(model, 1, KEY, state, IMAGES, targets)
    away = IMAGES.reshape(8, 4) @ before - targets
    np.testing.assert_allclose(metrics.loss, (away**2).sum(1).mean(), rtol=1e-5)
    expected = np.linalg.norm(away, axis=1).mean()
    np.testing.assert_allclose(metrics.error, jnp.float32(expected), rtol=1e-5)
