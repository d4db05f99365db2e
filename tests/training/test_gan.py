"""The GAN's train step: Algorithm 1 by hand, k steps, the average, determinism."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.core import keys
from robust_manifold.training import GanTraining, Momentum, Setting
from tests.training.networks import (
    DISCRIMINATOR,
    GENERATOR,
    generator_latents,
    images,
    labels,
    latents,
    minibatch_key,
    sigmoid,
    step,
    weights,
)

SIX = (6, 6, 1)
SGD = Momentum(0.05, momentum=0.0)
MINIMAX = GanTraining(
    optimizer=SGD, discriminator_optimizer=SGD, loss="minimax", average_decay=0.0
)


def test_one_iteration_of_algorithm_1():
    before, after, metrics = step(MINIMAX)
    g, d = weights(before.generator), weights(before.discriminator)
    x = images().reshape(5, -1)
    fake = latents(minibatch_key()) @ g

    # The discriminator ascends log D(x) + log(1 - D(G(z))).
    real_d, fake_d = sigmoid(x @ d), sigmoid(fake @ d)
    ascent = np.mean((1 - real_d) * x - fake_d * fake, axis=0)[:, None]
    d = d + 0.05 * ascent
    np.testing.assert_allclose(weights(after.discriminator), d, atol=1e-6)
    value = -np.mean(np.log(real_d) + np.log(1 - fake_d))
    np.testing.assert_allclose(metrics.discriminator_loss, value, rtol=1e-5)
    np.testing.assert_allclose(metrics.real, real_d.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics.fake, fake_d.mean(), rtol=1e-5)

    # Then the generator, on fresh noise, descends log(1 - D(G(z))) of the new D.
    z = generator_latents()
    out = sigmoid(z @ g @ d)
    g = g + 0.05 * np.mean(out[:, :, None] * z[:, :, None] * d.T[None], axis=0)
    np.testing.assert_allclose(weights(after.generator), g, atol=1e-6)
    np.testing.assert_allclose(
        metrics.generator_loss, np.mean(np.log(1 - out)), rtol=1e-5
    )
    assert after.step == 1


def test_k_discriminator_steps_are_k_steps_on_k_minibatches():
    training = dataclasses.replace(MINIMAX, discriminator_steps=3)
    assert training.minibatches == 3
    batch = images(15)
    before, after, _ = step(training, images=batch)
    g, d = weights(before.generator), weights(before.discriminator)
    for number in range(3):
        x = batch[5 * number : 5 * number + 5].reshape(5, -1)
        fake = latents(minibatch_key(0, number, k=3)) @ g
        ascent = (1 - sigmoid(x @ d)) * x - sigmoid(fake @ d) * fake
        d = d + 0.05 * ascent.mean(0)[:, None]
    np.testing.assert_allclose(weights(after.discriminator), d, atol=1e-6)
    # One generator step, on one minibatch of noise.
    z = generator_latents()
    slope = sigmoid(z @ g @ d)[:, :, None] * z[:, :, None] * d.T[None]
    g = g + 0.05 * slope.mean(0)
    np.testing.assert_allclose(weights(after.generator), g, atol=1e-6)


def test_the_discriminator_s_schedule_lasts_for_k_times_the_steps():
    cosine = Momentum(0.05, schedule="cosine", momentum=0.0)
    training = dataclasses.replace(
        MINIMAX,
        discriminator_optimizer=cosine,
        loss="wgan_gp",
        discriminator_steps=2,
        gradient_penalty=0.0,
    )
    setting = Setting(GENERATOR, DISCRIMINATOR, steps=10)
    key, batch = jax.random.key(0), images(10)
    state = training.init(setting, key)
    for _ in range(8):
        state, _ = training.step(setting, key, state, batch, labels(10))
    g, d = weights(state.generator), weights(state.discriminator)
    state, _ = training.step(setting, key, state, batch, labels(10))

    # The discriminator's steps 16 and 17 of 20, each along the mean of x - G(z).
    for number in range(2):
        fake = latents(minibatch_key(8, number, k=2)) @ g
        x = batch[5 * number : 5 * number + 5].reshape(5, -1)
        rate = 0.05 * (1 + np.cos(np.pi * (16 + number) / 20)) / 2
        d = d + rate * (x - fake).mean(0)[:, None]
    np.testing.assert_allclose(weights(state.discriminator), d, atol=1e-6)


def test_the_average_follows_the_generator():
    training = dataclasses.replace(MINIMAX, average_decay=0.999)
    before, after, _ = step(training)
    # At the first step the decay is (1 + 0) / (10 + 0).
    expected = 0.1 * weights(before.generator) + 0.9 * weights(after.generator)
    average = weights(training.generator_params(after))
    np.testing.assert_allclose(average, expected, atol=1e-6)
    assert not np.allclose(average, weights(after.generator), atol=1e-4)
    chex.assert_trees_all_equal(training.partner_params(after), after.discriminator)

    _, after, _ = step(MINIMAX)
    chex.assert_trees_all_close(MINIMAX.generator_params(after), after.generator)


def test_every_step_draws_noise_of_its_own():
    fakes = []
    for number in (0, 3):
        before, _, metrics = step(MINIMAX, step=number)
        fake = latents(minibatch_key(number)) @ weights(before.generator)
        score = sigmoid(fake @ weights(before.discriminator)).mean()
        np.testing.assert_allclose(metrics.fake, score, rtol=1e-5)
        fakes.append(float(metrics.fake))
    assert abs(fakes[0] - fakes[1]) > 1e-3


def test_latents_come_from_the_generator_s_prior():
    generator = models.build("mlp_generator(hidden=4)", image_shape=(1, 1, 1))
    training = GanTraining(discriminator="mlp_discriminator(hidden=4)")
    discriminator = training.build_partner(generator, (1, 1, 1), 10)
    batch = np.zeros((64, 1, 1, 1), np.float32)
    before, _, metrics = step(training, generator, discriminator, images=batch)

    key = keys.stream(minibatch_key(), "latent")
    uniform = models.sample_latents(generator, key, 64)
    assert uniform.min() >= -1 and uniform.max() <= 1
    fake = generator.apply(before.generator, uniform)
    score = jax.nn.sigmoid(discriminator.apply(before.discriminator, fake)).mean()
    np.testing.assert_allclose(metrics.fake, score, rtol=1e-5)


def test_statistics_of_both_networks_follow_the_training():
    generator = models.build(
        "dcgan_generator(latent_size=3, width=2, batch_norm=True)", image_shape=SIX
    )
    training = GanTraining("dcgan_discriminator(width=2, spectral_norm=True)")
    discriminator = training.build_partner(generator, SIX, 10)
    batch = images(4, SIX)
    before, after, _ = step(training, generator, discriminator, images=batch)
    for network in ("generator", "discriminator"):
        old = jax.tree.leaves(getattr(before, network)["batch_stats"])
        new = jax.tree.leaves(getattr(after, network)["batch_stats"])
        pairs = list(zip(old, new, strict=True))
        assert pairs and not any(np.array_equal(*pair) for pair in pairs), network


def test_spectral_normalisation_takes_one_power_iteration_a_pass():
    generator = models.build("dcgan_generator(latent_size=3, width=2)", image_shape=SIX)
    training = GanTraining(
        "dcgan_discriminator(width=2, spectral_norm=True)", loss="wgan_gp"
    )
    discriminator = training.build_partner(generator, SIX, 10)
    batch = images(4, SIX)
    before, after, _ = step(training, generator, discriminator, images=batch)
    # Of real and of generated images; the penalty takes the vectors as they are.
    params = before.discriminator
    for _ in range(2):
        _, params = discriminator.train(params, jnp.asarray(batch), jax.random.key(0))
    chex.assert_trees_all_close(
        after.discriminator["batch_stats"], params["batch_stats"], rtol=1e-5
    )


def test_a_step_is_a_function_of_key_and_state():
    _, first, _ = step(MINIMAX)
    _, again, _ = step(MINIMAX)
    chex.assert_trees_all_equal(first, again)
    _, other, _ = step(MINIMAX, key=jax.random.key(9))
    assert not np.array_equal(weights(first.generator), weights(other.generator))


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("discriminator_steps", 0, "1 or more"),
        ("gradient_penalty", -1.0, "a finite number, 0 or more"),
        ("r1", float("inf"), "a finite number, 0 or more"),
        ("average_decay", 1.0, "0 to below 1"),
        ("discriminator", "madry_cnn", "a discriminator such as 'dcgan_discriminator'"),
    ],
)
def test_impossible_fields_are_refused(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field} is .*; allowed: {allowed}"):
        GanTraining(**{field: value})


@pytest.mark.parametrize("fields", [{"loss": "wgan_gp"}, {"r1": 1.0}])
def test_penalties_refuse_batch_normalisation(fields):
    generator = models.build("dcgan_generator(width=2)")
    training = GanTraining("dcgan_discriminator(width=2, batch_norm=True)", **fields)
    with pytest.raises(ValueError, match="has batch normalisation; allowed with"):
        training.build_partner(generator, (28, 28, 1), 10)
    normed = "dcgan_discriminator(width=2, spectral_norm=True)"
    training = GanTraining(normed, **fields)
    assert training.build_partner(generator, (28, 28, 1), 10).output_shape == ()
