"""Class-conditional trainings: the labels reach the generator and its partner."""

import jax
import numpy as np
import pytest

from robust_manifold.core import keys
from robust_manifold.training import GanTraining, Momentum, VaeTraining
from tests.training.networks import (
    LATENT,
    SHAPE,
    images,
    labels,
    latents,
    linear,
    minibatch_key,
    step,
    step_key,
    weights,
)

CLASSES = 3
PLANES = (2, 2, 1 + CLASSES)
SGD = Momentum(0.05, momentum=0.0)
GENERATOR = linear((LATENT + CLASSES,), SHAPE, latent_classes=CLASSES)
CRITIC = linear(PLANES, ())
CRITIC_TRAINING = GanTraining(
    optimizer=SGD, discriminator_optimizer=SGD, loss="wgan_gp", gradient_penalty=0.0
)


def _with_planes(x, told):
    planes = np.zeros((len(x), 2, 2, CLASSES), np.float32)
    for row, label in enumerate(told):
        planes[row, :, :, label] = 1
    return np.concatenate([x.reshape(-1, *SHAPE), planes], axis=-1)


def test_the_discriminator_is_built_for_images_with_one_plane_a_class():
    training = GanTraining("dcgan_discriminator(width=2)")
    generator = linear((4 + 10,), (28, 28, 1), latent_classes=10)
    partner = training.build_partner(generator, (28, 28, 1), 10)
    assert partner.input_shape == (28, 28, 11)


def test_the_discriminator_sees_labels_and_the_classes_that_were_generated():
    told = labels()
    before, after, metrics = step(CRITIC_TRAINING, GENERATOR, CRITIC, labels=told)
    z = latents(minibatch_key(), size=LATENT + CLASSES)
    drawn = z[:, -CLASSES:].argmax(1)
    assert not np.array_equal(drawn, told)
    real = _with_planes(images(), told).reshape(5, -1)
    fake = _with_planes(z @ weights(before.generator), drawn).reshape(5, -1)
    d = weights(before.discriminator)
    np.testing.assert_allclose(metrics.real, (real @ d).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics.fake, (fake @ d).mean(), rtol=1e-5)
    np.testing.assert_allclose(
        weights(after.discriminator),
        d + 0.05 * (real - fake).mean(0)[:, None],
        atol=1e-6,
    )


def test_the_generator_is_judged_with_the_class_it_was_asked_for():
    before, after, metrics = step(CRITIC_TRAINING, GENERATOR, CRITIC)
    key = keys.stream(step_key(), "generator")
    z = latents(key, size=LATENT + CLASSES)
    fake = _with_planes(z @ weights(before.generator), z[:, -CLASSES:].argmax(1))
    outputs = fake.reshape(5, -1) @ weights(after.discriminator)
    np.testing.assert_allclose(metrics.generator_loss, -outputs.mean(), rtol=1e-5)


def test_labels_of_every_minibatch_stay_with_their_images():
    training = GanTraining(
        optimizer=SGD,
        discriminator_optimizer=SGD,
        loss="wgan_gp",
        gradient_penalty=0.0,
        discriminator_steps=2,
    )
    batch, told = images(10), np.array([0] * 5 + [2] * 5, np.int32)
    before, after, _ = step(training, GENERATOR, CRITIC, images=batch, labels=told)
    d, g = weights(before.discriminator), weights(before.generator)
    for number in range(2):
        z = latents(minibatch_key(0, number, k=2), size=LATENT + CLASSES)
        rows = slice(5 * number, 5 * number + 5)
        real = _with_planes(batch[rows], told[rows]).reshape(5, -1)
        fake = _with_planes(z @ g, z[:, -CLASSES:].argmax(1)).reshape(5, -1)
        d = d + 0.05 * (real - fake).mean(0)[:, None]
    np.testing.assert_allclose(weights(after.discriminator), d, atol=1e-6)


def test_r1_counts_pixels_and_not_planes():
    fields = {"loss": "hinge", "optimizer": SGD, "discriminator_optimizer": SGD}
    _, _, plain = step(GanTraining(**fields), GENERATOR, CRITIC)
    before, _, metrics = step(GanTraining(**fields, r1=2.0), GENERATOR, CRITIC)
    pixels = weights(before.discriminator).reshape(PLANES)[..., :1]
    penalty = metrics.discriminator_loss - plain.discriminator_loss
    np.testing.assert_allclose(penalty, np.sum(pixels**2), rtol=1e-4)


def test_the_gradient_penalty_counts_pixels_and_planes():
    fields = {"loss": "wgan_gp", "optimizer": SGD, "discriminator_optimizer": SGD}
    _, _, plain = step(GanTraining(**fields, gradient_penalty=0.0), GENERATOR, CRITIC)
    training = GanTraining(**fields, gradient_penalty=2.0)
    before, _, metrics = step(training, GENERATOR, CRITIC)
    length = np.linalg.norm(weights(before.discriminator))
    penalty = metrics.discriminator_loss - plain.discriminator_loss
    np.testing.assert_allclose(penalty, 2 * (length - 1) ** 2, rtol=1e-4)


def test_a_vae_s_decoder_is_told_the_labels_and_its_encoder_is_not():
    encoder = linear(SHAPE, (2 * LATENT,))
    training = VaeTraining(optimizer=SGD, likelihood="gaussian", deviation=1.0)
    told = labels()
    before, _, metrics = step(training, GENERATOR, encoder, labels=told)
    x = images().reshape(5, -1)
    mean, log_variance = np.split(x @ weights(before.encoder), 2, axis=1)
    noise = jax.random.normal(keys.stream(step_key(), "latent"), (5, LATENT))
    z = np.concatenate(
        [mean + np.exp(log_variance / 2) * noise, np.eye(CLASSES)[told]], axis=1
    )
    squares = np.sum((x - z @ weights(before.generator)) ** 2, axis=1)
    expected = np.mean(squares / 2) + 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(metrics.reconstruction, expected, rtol=1e-5)


def test_a_partner_that_does_not_see_the_planes_is_refused():
    blind = linear(SHAPE, ())
    with pytest.raises(ValueError, match=r"takes images of shape \(2, 2, 1\); allow"):
        step(CRITIC_TRAINING, GENERATOR, blind)
