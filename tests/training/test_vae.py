"""The evidence lower bound against formulas, closed forms, and numeric integrals."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.core import keys
from robust_manifold.core.prior import Normal, Uniform
from robust_manifold.training import Momentum, Setting, VaeTraining
from robust_manifold.training.vae import (
    bernoulli_surprise,
    divergence,
    gaussian_surprise,
)
from tests.training.networks import (
    LATENT,
    SHAPE,
    images,
    linear,
    step,
    step_key,
    weights,
)

SGD = Momentum(0.01, momentum=0.0)
ENCODER = linear(SHAPE, (2 * LATENT,))
GAUSSIAN = VaeTraining(optimizer=SGD, likelihood="gaussian", deviation=0.7)


def test_the_divergence_is_its_integral():
    means, log_variances = np.array([0.0, 1.3, -0.4]), np.array([0.0, -1.0, 0.8])
    arrays = jnp.asarray(means), jnp.asarray(log_variances)
    found = divergence(*(array[:, None] for array in arrays))
    z = np.linspace(-15, 15, 200_001)
    for mean, log_variance, value in zip(means, log_variances, found, strict=True):
        log_q = -((z - mean) ** 2) / (2 * np.exp(log_variance)) - log_variance / 2
        integrand = np.exp(log_q) / np.sqrt(2 * np.pi) * (log_q + z**2 / 2)
        np.testing.assert_allclose(value, np.trapezoid(integrand, z), atol=1e-5)
    both = divergence(*(array[None] for array in arrays))
    np.testing.assert_allclose(both, [np.sum(found)], rtol=1e-5)


def test_likelihoods_are_those_of_the_distributions():
    x, g = jnp.asarray(images(2)), jnp.asarray(images(4)[2:])
    bernoulli = -np.sum(x * np.log(g) + (1 - x) * np.log(1 - g), axis=(1, 2, 3))
    np.testing.assert_allclose(bernoulli_surprise(x, g), bernoulli, rtol=1e-5)
    density = np.exp(-((x - g) ** 2) / (2 * 0.3**2)) / (0.3 * np.sqrt(2 * np.pi))
    gaussian = -np.sum(np.log(density), axis=(1, 2, 3))
    np.testing.assert_allclose(gaussian_surprise(x, g, 0.3), gaussian, rtol=1e-5)


def test_a_certain_pixel_that_is_wrong_costs_much_but_not_everything():
    black, white = jnp.zeros((1, *SHAPE)), jnp.ones((1, *SHAPE))
    for x, g in ((black, white), (white, black)):
        cost = bernoulli_surprise(x, g)[0]
        assert 4 * 15 < cost < 4 * 18
    assert bernoulli_surprise(black, black)[0] == 0


def _parts(before):
    """Returns x, the encoder's mean and log variance, the noise, and the latents."""
    x = images().reshape(5, -1)
    mean, log_variance = np.split(x @ weights(before.encoder), 2, axis=1)
    noise = jax.random.normal(keys.stream(step_key(), "latent"), (5, LATENT))
    noise = np.asarray(noise)
    return x, mean, log_variance, noise, mean + np.exp(log_variance / 2) * noise


@pytest.mark.parametrize("beta", [1.0, 0.0, 4.0])
def test_one_step_of_linear_networks(beta):
    training = dataclasses.replace(GAUSSIAN, beta=beta)
    before, after, metrics = step(training, partner=ENCODER)
    g = weights(before.generator)
    x, mean, log_variance, noise, z = _parts(before)

    # -log N(x; g z, 0.49) and KL(N(mean, variance) || N(0, 1)), in nats an image.
    residual = z @ g - x
    constant = 4 * np.log(0.7 * np.sqrt(2 * np.pi))
    reconstruction = np.mean(np.sum(residual**2, axis=1)) / 0.98 + constant
    variance = np.exp(log_variance)
    kl = np.mean(np.sum(mean**2 + variance - 1 - log_variance, axis=1)) / 2
    np.testing.assert_allclose(metrics.reconstruction, reconstruction, rtol=1e-5)
    np.testing.assert_allclose(metrics.kl, kl, rtol=1e-5)
    np.testing.assert_allclose(metrics.loss, reconstruction + beta * kl, rtol=1e-5)

    # The gradient of both networks, the encoder's through the drawn latent.
    by_z = residual @ g.T / 0.49
    by_mean = by_z + beta * mean
    by_log_variance = by_z * noise * np.sqrt(variance) / 2 + beta * (variance - 1) / 2
    by_encoder = x.T @ np.concatenate([by_mean, by_log_variance], axis=1) / 5
    by_generator = z.T @ residual / 0.49 / 5
    np.testing.assert_allclose(
        weights(after.encoder), weights(before.encoder) - 0.01 * by_encoder, atol=1e-6
    )
    np.testing.assert_allclose(
        weights(after.generator), g - 0.01 * by_generator, atol=1e-6
    )
    chex.assert_trees_all_close(training.generator_params(after), after.generator)
    chex.assert_trees_all_equal(training.partner_params(after), after.encoder)


def test_the_bernoulli_likelihood_is_the_default():
    # A generator of pixels in (0, 1), as all generators of images are.
    generator = models.build("vae_decoder(latent_size=3, hidden=4)", image_shape=SHAPE)
    before, _, metrics = step(VaeTraining(), generator, ENCODER)
    x, _, _, _, z = _parts(before)
    g = generator.apply(before.generator, jnp.asarray(z)).reshape(5, -1)
    expected = -np.mean(np.sum(x * np.log(g) + (1 - x) * np.log(1 - g), axis=1))
    np.testing.assert_allclose(metrics.reconstruction, expected, rtol=1e-5)


def test_probabilistic_pca_reaches_the_best_linear_reconstruction():
    # Data on a line through the origin, a latent of size 1, little noise: the decoder
    # has to find the line.
    rng = np.random.default_rng(0)
    line = np.array([0.5, -0.5, 0.5, 0.5], np.float32)
    batch = (rng.normal(size=(256, 1)) * line).astype(np.float32).reshape(-1, *SHAPE)
    generator, encoder = linear((1,), SHAPE), linear(SHAPE, (2,), 0.1)
    training = VaeTraining(optimizer="adam(0.02)", likelihood="gaussian")
    setting, key = Setting(generator, encoder, 400), jax.random.key(0)
    state, zeros = training.init(setting, key), np.zeros(256, np.int32)
    for _ in range(400):
        state, _ = training.step(setting, key, state, batch, zeros)
    found = weights(training.generator_params(state))[0]
    cosine = abs(found @ line) / np.linalg.norm(found)
    assert cosine > 0.99


def test_the_average_follows_the_generator():
    training = dataclasses.replace(GAUSSIAN, average_decay=0.9)
    before, after, _ = step(training, partner=ENCODER, step=1000)
    expected = 0.9 * weights(before.generator) + 0.1 * weights(after.generator)
    average = weights(training.generator_params(after))
    np.testing.assert_allclose(average, expected, atol=1e-7)


def test_every_step_draws_noise_of_its_own():
    _, _, first = step(GAUSSIAN, partner=ENCODER, step=0)
    _, _, again = step(GAUSSIAN, partner=ENCODER, step=0)
    _, _, later = step(GAUSSIAN, partner=ENCODER, step=1)
    assert first.reconstruction == again.reconstruction
    assert abs(first.reconstruction - later.reconstruction) > 1e-3
    assert first.kl == later.kl


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("encoder", "madry_cnn", "an encoder such as 'vae_encoder'"),
        ("deviation", 0.0, "a finite number above 0"),
        ("beta", -1.0, "a finite number, 0 or more"),
        ("average_decay", 1.0, "0 to below 1"),
    ],
)
def test_impossible_fields_are_refused(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field} is .*; allowed: {allowed}"):
        VaeTraining(**{field: value})


@pytest.mark.parametrize("prior", [Uniform(-1.0, 1.0), Normal(-1.0, 1.0)])
def test_other_priors_are_refused(prior):
    generator = linear((LATENT,), SHAPE, prior=prior)
    with pytest.raises(ValueError, match="has the prior .*; allowed: Normal"):
        step(GAUSSIAN, generator, ENCODER)


def test_an_encoder_of_another_latent_is_refused():
    generator = models.build("vae_decoder(latent_size=7)")
    training = VaeTraining("vae_encoder(latent_size=5)")
    with pytest.raises(ValueError, match="latents of size 5; allowed: 7, the gener"):
        training.build_partner(generator, (28, 28, 1), 10)
