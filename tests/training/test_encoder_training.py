"""Encoders of linear generators: their loss in closed form, and what they learn."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.core import keys
from robust_manifold.core.prior import Uniform
from robust_manifold.training import (
    EncoderTraining,
    Inverting,
    Momentum,
    Setting,
    encoder_trainings,
)
from tests.training.networks import (
    GENERATOR,
    LATENT,
    SHAPE,
    images,
    labels,
    linear,
    step_key,
    weights,
)

CLASSES = 3
ENCODER = linear(SHAPE, (2 * LATENT,))
SGD = Momentum(0.05, momentum=0.0)
UNIFORM = linear((LATENT,), SHAPE, prior=Uniform(2.0, 4.0))
CONDITIONAL = linear((LATENT + CLASSES,), SHAPE, latent_classes=CLASSES)


def fit(
    training, generator, encoder=ENCODER, steps=1, told=None, batch=None, params=None
):
    """Returns the first state, the last one, its metrics, and the generator."""
    setting, key = Setting(generator, encoder, steps), jax.random.key(0)
    params = generator.init(jax.random.key(7))
    state = training.init(setting, key)
    before = jax.tree.map(np.asarray, state)
    metrics: Any = None
    batch = images() if batch is None else batch
    told = labels(len(batch)) if told is None else told
    for _ in range(steps):
        state, metrics = training.step(setting, key, params, state, batch, told)
    return before, state, metrics, params


def drawn(generator, n=5):
    """Returns the latents of the first step."""
    return np.asarray(
        models.sample_latents(generator, keys.stream(step_key(), "latent"), n)
    )


def split(x, encoder):
    return np.split(x.reshape(len(x), -1) @ weights(encoder), 2, axis=1)


@pytest.mark.parametrize("generator", [GENERATOR, UNIFORM, CONDITIONAL])
def test_the_loss_has_a_closed_form(generator):
    training = Inverting(optimizer=SGD, latent_weight=0.25)
    told = labels()[::-1].copy()
    before, _, metrics, params = fit(training, generator, told=told)
    g, z = weights(params), drawn(generator)
    mean, _ = split(images(), before.encoder)
    if generator.latent_classes:
        mean = np.concatenate([mean, np.eye(CLASSES)[told]], axis=1)
    image_error = np.mean((mean @ g - images().reshape(5, -1)) ** 2)
    mean, log_variance = split(z @ g, before.encoder)
    off = z[:, :LATENT] - mean
    variance = np.exp(log_variance) + 1e-4
    surprise = np.mean(np.log(2 * np.pi * variance) + off**2 / variance) / 2
    np.testing.assert_allclose(metrics.image_error, image_error, rtol=1e-5)
    np.testing.assert_allclose(metrics.latent_surprise, surprise, rtol=1e-5)
    np.testing.assert_allclose(metrics.loss, image_error + surprise / 4, rtol=1e-5)


def test_real_images_alone_teach_the_mean_by_the_error_s_gradient():
    training = Inverting(optimizer=SGD, latent_weight=0.0)
    before, after, _, params = fit(training, GENERATOR)
    g, x = weights(params), images().reshape(5, -1)
    mean, _ = split(x, before.encoder)
    residual = mean @ g - x
    gradient = x.T @ (2 * residual @ g.T) / residual.size
    step = weights(before.encoder) - weights(after.encoder)
    np.testing.assert_allclose(step[:, :LATENT], 0.05 * gradient, atol=1e-6)
    np.testing.assert_array_equal(step[:, LATENT:], 0)


def orthonormal():
    """Returns a generator with orthonormal rows, and its matrix."""
    g = np.linalg.qr(np.random.default_rng(2).normal(size=(4, LATENT)))[0].T
    params = {"params": {"w": jnp.asarray(g, jnp.float32)}}
    return GENERATOR._replace(init=lambda key: params), g


def test_images_alone_teach_a_linear_generator_s_inverse():
    generator, g = orthonormal()
    training = Inverting("adam(learning_rate=0.05, schedule='cosine')", 0.0)
    x = np.random.default_rng(3).random((32, *SHAPE), np.float32)
    _, after, _, _ = fit(training, generator, steps=600, batch=x)
    np.testing.assert_allclose(weights(after.encoder)[:, :LATENT], g.T, atol=0.01)


def test_known_latents_alone_teach_a_linear_generator_s_inverse():
    generator, g = orthonormal()
    training = Inverting("adam(learning_rate=0.05, schedule='cosine')", 1.0)
    # Of which the encoder's guess is zero, whatever it has learned.
    black = np.zeros((32, *SHAPE), np.float32)
    _, after, _, _ = fit(training, generator, steps=300, batch=black)
    product = g @ weights(after.encoder)
    np.testing.assert_allclose(product[:, :LATENT], np.eye(LATENT), atol=0.02)


def blind():
    """Returns an encoder that guesses the same of every image."""

    def init(key):
        return {"params": {"guess": jnp.zeros(2 * LATENT)}}

    def apply(params, x):
        batch = x.shape[: x.ndim - len(SHAPE)]
        return jnp.broadcast_to(params["params"]["guess"], (*batch, 2 * LATENT))

    def train(params, x, key):
        return apply(params, x), params

    return models.Model(init, apply, train, SHAPE, (2 * LATENT,))


@pytest.mark.parametrize("prior", [GENERATOR.prior, Uniform(-3.0, 3.0)])
def test_the_variance_becomes_that_of_the_latents_about_the_mean(prior):
    # All that an encoder can say of latents that it cannot tell apart.
    generator = linear((LATENT,), SHAPE, scale=0.0, prior=prior)
    training = Inverting("adam(learning_rate=0.03, schedule='cosine')", 1.0)
    x = np.tile(images(), (40, 1, 1, 1))
    _, after, _, _ = fit(training, generator, blind(), 300, batch=x)
    mean, log_variance = np.split(np.asarray(after.encoder["params"]["guess"]), 2)
    variance = 3.0 if isinstance(prior, Uniform) else 1.0
    np.testing.assert_allclose(np.exp(log_variance), variance, rtol=0.1)
    np.testing.assert_allclose(mean, 0, atol=0.15)


def test_the_generator_is_left_alone_and_may_be_used_again():
    setting, key = Setting(GENERATOR, ENCODER, 3), jax.random.key(0)
    params = GENERATOR.init(key)
    before = weights(params).copy()
    training = Inverting()
    state = training.init(setting, key)
    for _ in range(2):
        state, _ = training.step(setting, key, params, state, images(), labels())
    np.testing.assert_array_equal(weights(params), before)
    assert state.step == 2


def test_a_training_may_go_on_from_an_encoder_which_stays_as_it_was():
    setting, key = Setting(GENERATOR, ENCODER, 3), jax.random.key(0)
    given = ENCODER.init(jax.random.key(5))
    before = weights(given).copy()
    state = Inverting().init(setting, key, given)
    np.testing.assert_array_equal(weights(state.encoder), before)
    params = GENERATOR.init(key)
    after, _ = Inverting().step(setting, key, params, state, images(), labels())
    np.testing.assert_array_equal(weights(given), before)
    assert not np.array_equal(weights(after.encoder), before)


def test_what_the_encoder_counts_is_kept():
    # As batch normalisation counts: here, the images of a step, of both kinds.
    def train(params, x, key):
        return ENCODER.apply(params, x), {**params, "batch_stats": {"n": 1.0 * len(x)}}

    def init(key):
        return {**ENCODER.init(key), "batch_stats": {"n": jnp.zeros(())}}

    counting = ENCODER._replace(init=init, train=train)
    before, after, _, _ = fit(Inverting(), GENERATOR, counting)
    assert before.encoder["batch_stats"]["n"] == 0
    assert after.encoder["batch_stats"]["n"] == 10


def test_equal_trainings_compile_once():
    before = EncoderTraining.step._cache_size()
    for _ in range(3):
        training = encoder_trainings.build("inverting(adam(0.01), latent_weight=0.5)")
        fit(training, GENERATOR, steps=2)
    assert EncoderTraining.step._cache_size() - before == 1


def test_texts_and_specs_are_the_same():
    text = "inverting(optimizer=adam(learning_rate=0.01), latent_weight=0.5)"
    training = encoder_trainings.build(text)
    assert encoder_trainings.to_string(training) == text
    for name in encoder_trainings.names:
        assert encoder_trainings.to_string(encoder_trainings.build(name)) == name


@pytest.mark.parametrize("weight", [-0.1, float("inf"), float("nan")])
def test_an_impossible_weight_is_refused(weight):
    with pytest.raises(ValueError, match="latent_weight is .*; allowed: a finite"):
        Inverting(latent_weight=weight)


@pytest.mark.parametrize(
    ("encoder", "steps", "words"),
    [
        (ENCODER, 0, "steps of Inverting is 0; allowed: 1 or more"),
        (linear(SHAPE, (8,)), 1, "latents of size 4; allowed: 3, the generator's"),
        (linear((3, 2, 1), (6,)), 1, r"shape \(3, 2, 1\); allowed: \(2, 2, 1\)"),
    ],
)
def test_networks_that_do_not_fit_are_refused(encoder, steps, words):
    with pytest.raises(ValueError, match=words):
        Inverting().init(Setting(GENERATOR, encoder, steps), jax.random.key(0))


def test_the_classes_of_a_generator_are_not_guessed():
    setting = Setting(CONDITIONAL, linear(SHAPE, (2 * (LATENT + CLASSES),)), 1)
    with pytest.raises(ValueError, match="latents of size 6; allowed: 3"):
        Inverting().init(setting, jax.random.key(0))
