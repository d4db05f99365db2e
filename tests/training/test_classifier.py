"""The classifier's train step: cross-entropy, its gradient, and its determinism."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.training import (
    ClassifierTraining,
    CrossEntropy,
    Momentum,
    classifier_trainings,
)

MODEL = models.build("linear", image_shape=(4, 4, 1), classes=3)
SGD = CrossEntropy(Momentum(0.1, momentum=0.0))


def _batch(n=6):
    rng = np.random.default_rng(0)
    images = rng.random((n, 4, 4, 1), np.float32)
    return images, (np.arange(n) % 3).astype(np.int32)


def test_one_step_is_the_gradient_of_the_mean_cross_entropy():
    images, labels = _batch()
    key = jax.random.key(0)
    state = SGD.init(MODEL, key, 5)
    weights = np.asarray(state.params["params"]["Dense_0"]["kernel"])
    bias = np.asarray(state.params["params"]["Dense_0"]["bias"])
    flat = images.reshape(len(images), -1)
    logits = flat @ weights + bias
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = flat.T @ (shares - np.eye(3)[labels]) / len(images)
    loss = -np.mean(np.log(shares[np.arange(len(labels)), labels]))

    state, metrics = SGD.step(MODEL, 5, key, state, images, labels)
    after = state.params["params"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(after, weights - 0.1 * gradient, atol=1e-6)
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-5)
    assert metrics.accuracy == np.mean(logits.argmax(1) == labels)
    assert state.step == 1


def test_equal_trainings_compile_once():
    images, labels = _batch()
    before = ClassifierTraining.step._cache_size()
    for _ in range(3):
        model = models.build("linear", image_shape=(4, 4, 1), classes=3)
        spec = classifier_trainings.build("cross_entropy(adam(0.01))")
        state = spec.init(model, jax.random.key(0), 7)
        spec.step(model, 7, jax.random.key(1), state, images, labels)
    assert ClassifierTraining.step._cache_size() - before == 1


def test_dropout_depends_on_the_step_and_the_key_alone():
    model = models.build("defense_gan_e", image_shape=(4, 4, 1), classes=3)
    dropout = models.build("defense_gan_d", image_shape=(4, 4, 1), classes=3)
    images, labels = _batch()

    def loss(model, key):
        state = SGD.init(model, jax.random.key(0), 5)
        return float(SGD.step(model, 5, key, state, images, labels)[1].loss)

    assert loss(dropout, jax.random.key(1)) == loss(dropout, jax.random.key(1))
    assert loss(dropout, jax.random.key(1)) != loss(dropout, jax.random.key(2))
    assert loss(model, jax.random.key(1)) == loss(model, jax.random.key(2))


def test_every_step_draws_a_dropout_mask_of_its_own():
    model = models.build("defense_gan_d", image_shape=(4, 4, 1), classes=3)
    images, labels = _batch()
    losses = []
    for step in (0, 1, 0):
        state = SGD.init(model, jax.random.key(0), 5)._replace(step=jnp.int32(step))
        _, metrics = SGD.step(model, 5, jax.random.key(1), state, images, labels)
        losses.append(float(metrics.loss))
    assert losses[0] == losses[2]
    assert abs(losses[0] - losses[1]) > 1e-3


def test_batch_statistics_are_kept_and_not_optimised():
    generator = models.build("dcgan_generator(latent_size=3, width=2, batch_norm=True)")
    params = generator.init(jax.random.key(0))
    _, updated = generator.train(params, jnp.ones((4, 3)), jax.random.key(0))
    chex.assert_trees_all_equal(params["params"], updated["params"])
    leaves = zip(
        jax.tree.leaves(params["batch_stats"]),
        jax.tree.leaves(updated["batch_stats"]),
        strict=True,
    )
    assert any(not np.array_equal(a, b) for a, b in leaves)


def test_smoothed_labels_give_every_class_its_share():
    images, labels = _batch()
    state = SGD.init(MODEL, jax.random.key(0), 5)
    logits = np.asarray(MODEL.apply(state.params, jnp.asarray(images)))
    log_shares = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = 0.7 * np.eye(3)[labels] + 0.1
    smooth = CrossEntropy("momentum(0.1)", label_smoothing=0.3)
    state = smooth.init(MODEL, jax.random.key(0), 5)
    _, metrics = smooth.step(MODEL, 5, jax.random.key(0), state, images, labels)
    expected = -np.mean(np.sum(targets * log_shares, axis=1))
    np.testing.assert_allclose(metrics.loss, expected, rtol=1e-5)


def test_the_average_is_what_later_stages_use():
    images, labels = _batch()
    key = jax.random.key(0)
    average = CrossEntropy("momentum(0.1)", average_decay=0.99)
    state = average.init(MODEL, key, 5)
    before = jax.tree.map(np.asarray, state.params)
    state, _ = average.step(MODEL, 5, key, state, images, labels)
    expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, before, state.params)
    chex.assert_trees_all_close(average.train_params(state), expected, atol=1e-6)

    state = SGD.init(MODEL, key, 5)
    state, _ = SGD.step(MODEL, 5, key, state, images, labels)
    chex.assert_trees_all_close(SGD.train_params(state), state.params)


def test_texts_and_specs_are_the_same():
    text = "cross_entropy(optimizer=momentum(learning_rate=0.1), label_smoothing=0.1)"
    spec = classifier_trainings.build(text)
    assert classifier_trainings.to_string(spec) == text
    assert spec == CrossEntropy("momentum(0.1)", label_smoothing=0.1)


def test_zero_steps_are_refused():
    with pytest.raises(ValueError, match="steps of CrossEntropy is 0; allowed: 1 or"):
        SGD.init(MODEL, jax.random.key(0), 0)


@pytest.mark.parametrize("field", ["label_smoothing", "average_decay"])
def test_impossible_fields_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} is 1.0; allowed: 0 to below 1"):
        CrossEntropy(**{field: 1.0})
