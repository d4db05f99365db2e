"""Fast adversarial training: one step from a uniform start, by its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core import keys, norms
from robust_manifold.training import FastFGSM, classifier_trainings
from tests.training.networks import images, labels, linear, step_key, weights

SHAPE = (4, 4, 1)
MODEL = linear(SHAPE, (3,))
BATCH = images(6, SHAPE), labels(6)
SGD = "momentum(0.1, momentum=0.0)"
KEY = jax.random.key(0)


def _shares(w, pixels):
    shares = np.exp(pixels.reshape(len(pixels), -1) @ w)
    return shares / shares.sum(1, keepdims=True)


def _by_definition(w, epsilon, size):
    """Returns x + delta: delta uniform, a signed step, then clipped to ball and box."""
    pixels, classes = BATCH
    own_keys = keys.per_example(keys.stream(step_key(), "attack"), jnp.arange(6))
    draws = np.stack(
        [norms.uniform_in_ball(key, jnp.zeros(SHAPE), "linf") for key in own_keys]
    )
    begun = np.clip(pixels + epsilon * draws, 0, 1)
    slope = (_shares(w, begun) - np.eye(3)[classes]) @ w.T
    delta = begun - pixels + size * np.sign(slope).reshape(pixels.shape)
    return np.clip(pixels + np.clip(delta, -epsilon, epsilon), 0, 1)


@pytest.mark.parametrize("step_size, size", [(None, 0.125), (0.03, 0.03)])
def test_one_step_by_definition(step_size, size):
    training = FastFGSM(SGD, epsilon=0.1, step_size=step_size)
    state = training.init(MODEL, KEY, 5)
    before = weights(state.params)
    state, metrics = training.step(MODEL, 5, KEY, state, *BATCH)
    moved, classes = _by_definition(before, 0.1, size), BATCH[1]
    shares = _shares(before, moved)
    gradient = moved.reshape(6, -1).T @ (shares - np.eye(3)[classes]) / 6
    np.testing.assert_allclose(
        weights(state.params), before - 0.1 * gradient, atol=1e-6
    )
    loss = -np.log(shares[range(6), classes]).mean()
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-5)
    assert metrics.accuracy == np.mean(shares.argmax(1) == classes)


def test_images_in_l2_and_no_gradient_through_them():
    training = FastFGSM(epsilon=0.7, norm="l2")
    pixels, classes = map(jnp.asarray, BATCH)
    params = MODEL.init(KEY)

    def moved(params):
        return training.attacked(MODEL, params, pixels, classes, KEY)

    made, slopes = jax.jvp(moved, (params,), (params,))
    lengths = np.linalg.norm(np.asarray(made - pixels).reshape(6, -1), axis=1)
    assert 0.3 < lengths.min() and lengths.max() <= 0.7 * (1 + 1e-6)
    assert made.min() >= 0 and made.max() <= 1
    assert not np.any(slopes)


def test_texts_and_specs_are_the_same():
    spec = classifier_trainings.build("fast_fgsm(epsilon=0.2)")
    assert classifier_trainings.to_string(spec) == "fast_fgsm(epsilon=0.2)"
    assert spec == FastFGSM(epsilon=0.2)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"epsilon": -0.1}, "FastFGSM.epsilon is -0.1; allowed: a finite number, 0 or"),
        ({"norm": "l1"}, "FastFGSM.norm is 'l1'; allowed: linf or l2"),
        ({"step_size": 0.0}, "FastFGSM.step_size is 0.0; allowed: a finite number ab"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        FastFGSM(**fields)
