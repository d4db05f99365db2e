"""The classifier's train step: cross-entropy, its gradient, and its determinism."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.training import ClassifierTraining, optimizers

MODEL = models.build("linear", image_shape=(4, 4, 1), classes=3)
SGD = ClassifierTraining(optimizers.build("momentum(0.1, momentum=0.0)"), steps=5)


def _batch(n=6):
    rng = np.random.default_rng(0)
    images = rng.random((n, 4, 4, 1), np.float32)
    return images, (np.arange(n) % 3).astype(np.int32)


def test_one_step_is_the_gradient_of_the_mean_cross_entropy():
    images, labels = _batch()
    key = jax.random.key(0)
    state = SGD.init(MODEL, key)
    weights = np.asarray(state.params["params"]["Dense_0"]["kernel"])
    bias = np.asarray(state.params["params"]["Dense_0"]["bias"])
    flat = images.reshape(len(images), -1)
    logits = flat @ weights + bias
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = flat.T @ (shares - np.eye(3)[labels]) / len(images)
    loss = -np.mean(np.log(shares[np.arange(len(labels)), labels]))

    state, metrics = SGD.step(MODEL, key, state, images, labels)
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
        spec = ClassifierTraining(optimizers.build("adam(0.01)"), steps=7)
        state = spec.init(model, jax.random.key(0))
        spec.step(model, jax.random.key(1), state, images, labels)
    assert ClassifierTraining.step._cache_size() - before == 1


def test_dropout_depends_on_the_step_and_the_key_alone():
    model = models.build("defense_gan_e", image_shape=(4, 4, 1), classes=3)
    dropout = models.build("defense_gan_d", image_shape=(4, 4, 1), classes=3)
    images, labels = _batch()

    def loss(model, key):
        state = SGD.init(model, jax.random.key(0))
        return float(SGD.step(model, key, state, images, labels)[1].loss)

    assert loss(dropout, jax.random.key(1)) == loss(dropout, jax.random.key(1))
    assert loss(dropout, jax.random.key(1)) != loss(dropout, jax.random.key(2))
    assert loss(model, jax.random.key(1)) == loss(model, jax.random.key(2))


def test_every_step_draws_a_dropout_mask_of_its_own():
    model = models.build("defense_gan_d", image_shape=(4, 4, 1), classes=3)
    images, labels = _batch()
    losses = []
    for step in (0, 1, 0):
        state = SGD.init(model, jax.random.key(0))._replace(step=jnp.int32(step))
        _, metrics = SGD.step(model, jax.random.key(1), state, images, labels)
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


def test_zero_steps_are_refused():
    with pytest.raises(ValueError, match="steps is 0; allowed: 1 or more"):
        ClassifierTraining(optimizers.build("adam(0.01)"), steps=0)
