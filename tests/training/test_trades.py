"""TRADES: where images are moved to, the loss in closed form, and what is trained."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.core import keys
from robust_manifold.training import TRADES, CrossEntropy, classifier_trainings
from tests.training.networks import labels, linear, step_key, weights

SHAPE = (3, 2, 1)
MODEL = linear(SHAPE, (2,), scale=1.0)
# In the middle of [0, 1], so that the box holds nothing back.
BATCH = (
    0.5 + 0.1 * np.random.default_rng(0).normal(size=(5, *SHAPE)).astype(np.float32),
    labels(5, 2),
)
SGD = "momentum(0.1, momentum=0.0)"
KEY = jax.random.key(0)


def _step(training, model=MODEL):
    state = training.init(model, KEY, 5)
    before = jax.tree.map(np.asarray, state.params)
    state, metrics = training.step(model, 5, KEY, state, *BATCH)
    return before, jax.tree.map(np.asarray, state.params), metrics


def _moved(training, params, model=MODEL):
    key = keys.stream(step_key(), "attack")
    return training.most_divergent(model, params, jnp.asarray(BATCH[0]), key)


def _difference(w, pixels):
    """Returns by how much the second logit of each image is larger."""
    return np.asarray(pixels).reshape(len(pixels), -1) @ (w[:, 1] - w[:, 0])


@pytest.mark.parametrize("norm, dual", [("linf", 1), ("l2", 2)])
def test_the_loss_of_a_linear_classifier(norm, dual):
    """Moved as far as the ball goes, the logits' difference changes by eps |w|."""
    training = TRADES(SGD, epsilon=0.1, norm=norm, beta=3.0, steps=5)
    before, _, metrics = _step(training)
    w, moved = weights(before), _moved(training, before)
    clean = _difference(w, BATCH[0])
    change = _difference(w, moved) - clean
    furthest = 0.1 * np.linalg.norm(w[:, 1] - w[:, 0], dual)
    # The divergence has a maximum at either end.
    np.testing.assert_allclose(np.abs(change), furthest, rtol=1e-4)

    def share(difference):
        return 1 / (1 + np.exp(-difference))

    p, q = share(clean), share(clean + np.sign(change) * furthest)
    apart = np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    right = np.where(BATCH[1] == 1, p, 1 - p)
    np.testing.assert_allclose(metrics.divergence, apart, rtol=1e-3)
    expected = -np.log(right).mean() + 3 * apart
    np.testing.assert_allclose(metrics.loss, expected, rtol=1e-4)
    assert metrics.accuracy == np.mean(right > 0.5)


def test_the_gradient_is_that_with_the_moved_images_as_constants():
    training = TRADES(SGD, epsilon=0.2, norm="l2", beta=2.0, steps=3)
    before, after, _ = _step(training)
    moved = _moved(training, before)

    def objective(w):
        flat = (pixels.reshape(5, -1) for pixels in (BATCH[0], moved))
        clean, changed = (jax.nn.log_softmax(pixels @ w) for pixels in flat)
        apart = jnp.sum(jnp.exp(clean) * (clean - changed), axis=1)
        return jnp.mean(2 * apart - clean[jnp.arange(5), BATCH[1]])

    expected = weights(before) - 0.1 * jax.grad(objective)(weights(before))
    np.testing.assert_allclose(weights(after), expected, atol=1e-6)
    _, slopes = jax.jvp(lambda w: _moved(training, w), (before,), (before,))
    assert not np.any(slopes)


def test_images_stay_in_the_ball_and_in_the_box():
    pixels = jnp.asarray(np.random.default_rng(1).random((4, *SHAPE), np.float32))
    params = MODEL.init(KEY)
    for norm, order in (("linf", np.inf), ("l2", 2)):
        training = TRADES(epsilon=0.4, norm=norm, steps=4)
        moved = np.asarray(training.most_divergent(MODEL, params, pixels, KEY))
        delta = (moved - np.asarray(pixels)).reshape(4, -1)
        assert np.linalg.norm(delta, order, axis=1).max() <= 0.4 * (1 + 1e-6)
        assert moved.min() >= 0 and moved.max() <= 1 and np.abs(delta).max() > 0.1


def test_without_beta_it_is_plain_training():
    model = models.build("defense_gan_d", image_shape=SHAPE, classes=2)
    plain = _step(CrossEntropy(SGD, label_smoothing=0.1), model)
    none = _step(TRADES(SGD, label_smoothing=0.1, beta=0.0, steps=2), model)
    chex.assert_trees_all_close(plain[:2], none[:2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(plain[2].loss, none[2].loss, rtol=1e-5)
    assert none[2].divergence > 0


def test_texts_and_specs_are_the_same():
    text = "trades(epsilon=1.5, norm='l2', beta=1.0)"
    spec = classifier_trainings.build(text)
    assert classifier_trainings.to_string(spec) == text
    assert spec == TRADES(epsilon=1.5, norm="l2", beta=1.0)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"epsilon": -0.1}, "TRADES.epsilon is -0.1; allowed: a finite number, 0 or"),
        ({"beta": np.inf}, "TRADES.beta is inf; allowed: a finite number, 0 or more"),
        ({"norm": "l1"}, "TRADES.norm is 'l1'; allowed: linf or l2"),
        ({"steps": 0}, "TRADES.steps is 0; allowed: 1 or more"),
        ({"step_size": 0.0}, "TRADES.step_size is 0.0; allowed: a finite number above"),
        ({"start_deviation": 0.0}, "TRADES.start_deviation is 0.0; allowed: a finite"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TRADES(**fields)
