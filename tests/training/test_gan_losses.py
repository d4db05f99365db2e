"""Each loss of a GAN, and its penalties, on networks with a closed form."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core import keys
from robust_manifold.training import GanTraining, Momentum, Setting, generator_trainings
from robust_manifold.training.gan_losses import LOSSES
from tests.training.networks import (
    DISCRIMINATOR,
    GENERATOR,
    images,
    labels,
    latents,
    minibatch_key,
    quadratic,
    sigmoid,
    step,
    weights,
)

SGD = Momentum(0.05, momentum=0.0)
REAL, FAKE = jnp.array([-2.0, -0.3, 0.4, 1.7]), jnp.array([1.4, -0.2, 0.6, -3.0])
D_REAL, D_FAKE = sigmoid(np.asarray(REAL)), sigmoid(np.asarray(FAKE))


def _training(**fields):
    return GanTraining(optimizer=SGD, discriminator_optimizer=SGD, **fields)


VALUES = {
    "minimax": (-np.log(D_REAL) - np.log(1 - D_FAKE), np.log(1 - D_FAKE)),
    "non_saturating": (-np.log(D_REAL) - np.log(1 - D_FAKE), -np.log(D_FAKE)),
    "wgan_gp": (FAKE - REAL, -FAKE),
    "hinge": (np.maximum(0, 1 - REAL) + np.maximum(0, 1 + FAKE), -FAKE),
}
"""What each network minimises, for each pair of outputs."""

SLOPES = {
    "minimax": (D_REAL - 1, D_FAKE, -D_FAKE),
    "non_saturating": (D_REAL - 1, D_FAKE, D_FAKE - 1),
    "wgan_gp": (-np.ones(4), np.ones(4), -np.ones(4)),
    # Outputs beyond the margin pull no more.
    "hinge": (-np.array([1, 1, 1, 0]), np.array([1, 1, 1, 0]), -np.ones(4)),
}
"""Derivatives: the discriminator's by real and by fake, the generator's by fake."""


@pytest.mark.parametrize("name", LOSSES)
def test_values_are_the_formulas(name):
    discriminator, generator = VALUES[name]
    loss = LOSSES[name]
    np.testing.assert_allclose(
        loss.discriminator(REAL, FAKE), discriminator.mean(), rtol=1e-5
    )
    np.testing.assert_allclose(loss.generator(FAKE), generator.mean(), rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_the_formulas(name):
    by_real, by_fake = jax.grad(LOSSES[name].discriminator, (0, 1))(REAL, FAKE)
    of_generator = jax.grad(LOSSES[name].generator)(FAKE)
    for gradient, slope in zip(
        (by_real, by_fake, of_generator), SLOPES[name], strict=True
    ):
        np.testing.assert_allclose(4 * gradient, slope, rtol=1e-5)


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_certain_outputs_give_finite_losses_and_the_right_gradients(name):
    real, fake = jnp.array([-300.0]), jnp.array([300.0])
    value, slopes = jax.value_and_grad(LOSSES[name].discriminator, (0, 1))(real, fake)
    assert value == 600
    assert slopes[0] == -1 and slopes[1] == 1


def test_the_non_saturating_generator_learns_where_the_minimax_one_does_not():
    sure = jnp.array([-30.0])  # D(G(z)) = 0
    assert abs(jax.grad(LOSSES["minimax"].generator)(sure)[0]) < 1e-12
    assert jax.grad(LOSSES["non_saturating"].generator)(sure)[0] == -1


@pytest.mark.parametrize("name", LOSSES)
def test_the_step_uses_the_loss_it_is_told(name):
    before, _, metrics = step(_training(loss=name, gradient_penalty=0.0))
    d = weights(before.discriminator)
    real = jnp.asarray(images().reshape(5, -1) @ d)[:, 0]
    z = latents(minibatch_key())
    fake = jnp.asarray(z @ weights(before.generator) @ d)[:, 0]
    loss = LOSSES[name]
    np.testing.assert_allclose(
        metrics.discriminator_loss, loss.discriminator(real, fake), rtol=1e-5
    )
    np.testing.assert_allclose(metrics.real, loss.reading(real).mean(), rtol=1e-5)


def test_wasserstein_loss_and_penalty_of_a_linear_critic():
    before, after, metrics = step(_training(loss="wgan_gp", gradient_penalty=7.0))
    g, d = weights(before.generator), weights(before.discriminator)
    x = images().reshape(5, -1)
    fake = latents(minibatch_key()) @ g
    # A linear critic has the same gradient everywhere, so the penalty is known.
    length = np.linalg.norm(d)
    loss = np.mean(fake @ d) - np.mean(x @ d) + 7 * (length - 1) ** 2
    np.testing.assert_allclose(metrics.discriminator_loss, loss, rtol=1e-5)
    gradient = (fake - x).mean(0)[:, None] + 14 * (length - 1) * d / length
    np.testing.assert_allclose(
        weights(after.discriminator), d - 0.05 * gradient, atol=1e-5
    )


def test_the_penalty_is_taken_at_a_random_point_between_each_pair():
    w = np.array([1.0, -2.0, 3.0, 0.5], np.float32)
    training = _training(loss="wgan_gp", gradient_penalty=7.0)
    before, after, metrics = step(training, partner=quadratic(w))
    x = images().reshape(5, -1)
    fake = latents(minibatch_key()) @ weights(before.generator)

    # One share for each pair, the same for all of its pixels.
    key = keys.stream(minibatch_key(), "mix")
    shares = np.asarray(jax.random.uniform(key, (5, 1, 1, 1))).reshape(5, 1)
    mixed = shares * x + (1 - shares) * fake
    length = np.linalg.norm(w * mixed, axis=1)
    loss = (fake**2 - x**2).mean(0) @ w / 2 + 7 * np.mean((length - 1) ** 2)
    np.testing.assert_allclose(metrics.discriminator_loss, loss, rtol=1e-5)
    slope = 14 * (1 - 1 / length[:, None]) * w * mixed**2
    gradient = (fake**2 - x**2).mean(0) / 2 + slope.mean(0)
    np.testing.assert_allclose(
        weights(after.discriminator), w - 0.05 * gradient, atol=1e-5
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_r1_of_a_linear_discriminator_shrinks_its_weights(loss):
    fields = {"loss": loss, "gradient_penalty": 0.0}
    _, without, plain = step(_training(**fields))
    before, after, metrics = step(_training(**fields, r1=3.0))
    # (gamma / 2) |w|^2, whose gradient is gamma w.
    d = weights(before.discriminator)
    penalty = metrics.discriminator_loss - plain.discriminator_loss
    np.testing.assert_allclose(penalty, 1.5 * np.sum(d**2), rtol=1e-4)
    np.testing.assert_allclose(
        weights(after.discriminator),
        weights(without.discriminator) - 0.05 * 3 * d,
        atol=1e-6,
    )


def test_r1_is_taken_at_the_real_images_alone():
    w = np.array([1.0, -2.0, 3.0, 0.5], np.float32)
    fields = {"loss": "wgan_gp", "gradient_penalty": 0.0}
    _, without, plain = step(_training(**fields), partner=quadratic(w))
    _, after, metrics = step(_training(**fields, r1=3.0), partner=quadratic(w))
    slopes = w * images().reshape(5, -1)
    penalty = metrics.discriminator_loss - plain.discriminator_loss
    expected = 1.5 * np.mean(np.sum(slopes**2, axis=1))
    np.testing.assert_allclose(penalty, expected, rtol=1e-4)
    gradient = 3 * np.mean(slopes * images().reshape(5, -1), axis=0)
    np.testing.assert_allclose(
        weights(after.discriminator),
        weights(without.discriminator) - 0.05 * gradient,
        atol=1e-5,
    )


@pytest.mark.parametrize("fields", [{"loss": "wgan_gp"}, {"r1": 1.0}])
def test_a_critic_without_gradient_gives_finite_numbers(fields):
    training, key = _training(**fields), jax.random.key(0)
    setting = Setting(GENERATOR, DISCRIMINATOR, 10)
    state = training.init(setting, key)
    zeros = jax.tree.map(jnp.zeros_like, state.discriminator)
    state = state._replace(discriminator=zeros)
    after, metrics = training.step(setting, key, state, images(), labels())
    chex.assert_tree_all_finite((after, metrics))


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="value of gan.loss: 'x'; known: hinge"):
        generator_trainings.build("gan(loss='x')")
