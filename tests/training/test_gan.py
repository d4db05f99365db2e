"""The GAN's train step: Algorithm 1 by hand, each loss, and its determinism."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core import keys
from robust_manifold.models import Model
from robust_manifold.training import GanTraining, optimizers

SHAPE = (2, 2, 1)
SGD = optimizers.build("momentum(0.05, momentum=0.0)")


def _linear(shape_in, shape_out, scale):
    """Returns a model y = scale * W x without a bias, for closed forms."""
    n, m = int(np.prod(shape_in)), int(np.prod(shape_out))

    def init(key):
        return {"params": {"w": scale * jax.random.normal(key, (n, m))}}

    def apply(params, x):
        batch = x.shape[: x.ndim - len(shape_in)]
        return (x.reshape(*batch, n) @ params["params"]["w"]).reshape(
            *batch, *shape_out
        )

    return Model(init, apply, lambda p, x, key: (apply(p, x), p), shape_in, shape_out)


def _quadratic(weights):
    """Returns a critic w . x^2 / 2: its gradient, w x, is another at each image."""

    def init(key):
        return {"params": {"w": jnp.asarray(weights)}}

    def apply(params, x):
        squares = x.reshape(*x.shape[: x.ndim - len(SHAPE)], -1) ** 2
        return squares @ params["params"]["w"] / 2

    return Model(init, apply, lambda p, x, key: (apply(p, x), p), SHAPE, ())


GENERATOR = _linear((3,), SHAPE, 0.3)
DISCRIMINATOR = _linear(SHAPE, (), 0.3)


def _images(k=1, batch=5):
    rng = np.random.default_rng(1)
    return rng.random((k * batch, *SHAPE), np.float32)


def _step(training, images=None, key=None, step=0, discriminator=DISCRIMINATOR):
    key = jax.random.key(0) if key is None else key
    state = training.init(GENERATOR, discriminator, key)
    state = state._replace(step=jnp.int32(step))
    before = jax.tree.map(np.asarray, state)
    images = _images(training.discriminator_steps) if images is None else images
    after, metrics = training.step(GENERATOR, discriminator, key, state, images)
    return before, after, metrics


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _minibatch_key(key, step, number, k=1):
    key = jax.random.fold_in(keys.stream(key, "step"), step)
    return jax.random.split(keys.stream(key, "discriminator"), k)[number]


def _latents(key, step, name, number=None, count=5, k=1):
    if number is None:
        key = keys.stream(jax.random.fold_in(keys.stream(key, "step"), step), name)
    else:
        key = _minibatch_key(key, step, number, k)
    return np.asarray(jax.random.normal(keys.stream(key, "latent"), (count, 3)))


@pytest.mark.parametrize("loss", ["minimax", "non_saturating"])
def test_one_iteration_of_algorithm_1(loss):
    training = GanTraining(SGD, SGD, steps=10, loss=loss)
    before, after, metrics = _step(training)
    g, d = before.generator["params"]["w"], before.discriminator["params"]["w"]
    x = _images().reshape(5, -1)
    fake = _latents(jax.random.key(0), 0, "discriminator", 0) @ g

    # The discriminator ascends log D(x) + log(1 - D(G(z))).
    real_d, fake_d = _sigmoid(x @ d), _sigmoid(fake @ d)
    ascent = np.mean((1 - real_d) * x - fake_d * fake, axis=0)[:, None]
    d_after = d + 0.05 * ascent
    np.testing.assert_allclose(after.discriminator["params"]["w"], d_after, atol=1e-6)
    np.testing.assert_allclose(
        metrics.discriminator_loss,
        -np.mean(np.log(real_d) + np.log(1 - fake_d)),
        rtol=1e-5,
    )

    # Then the generator, on fresh noise, sees the discriminator just updated.
    z = _latents(jax.random.key(0), 0, "generator")
    out = _sigmoid(z @ g @ d_after)
    if loss == "minimax":  # descends log(1 - D(G(z)))
        slope, value = -out, np.mean(np.log(1 - out))
    else:  # ascends log D(G(z))
        slope, value = -(1 - out), -np.mean(np.log(out))
    g_after = g - 0.05 * np.mean(
        slope[:, :, None] * z[:, :, None] * d_after.T[None], axis=0
    )
    np.testing.assert_allclose(after.generator["params"]["w"], g_after, atol=1e-6)
    np.testing.assert_allclose(metrics.generator_loss, value, rtol=1e-5)


def test_wasserstein_loss_and_penalty_of_a_linear_critic():
    training = GanTraining(SGD, SGD, steps=10, loss="wgan_gp", gradient_penalty=7.0)
    before, after, metrics = _step(training)
    g, d = before.generator["params"]["w"], before.discriminator["params"]["w"]
    x = _images().reshape(5, -1)
    fake = _latents(jax.random.key(0), 0, "discriminator", 0) @ g
    # A linear critic has the same gradient everywhere, so the penalty is known.
    length = np.linalg.norm(d)
    loss = np.mean(fake @ d) - np.mean(x @ d) + 7 * (length - 1) ** 2
    np.testing.assert_allclose(metrics.discriminator_loss, loss, rtol=1e-5)
    gradient = (fake - x).mean(0)[:, None] + 14 * (length - 1) * d / length
    np.testing.assert_allclose(
        after.discriminator["params"]["w"], d - 0.05 * gradient, atol=1e-5
    )


def test_the_penalty_is_taken_at_a_random_point_between_each_pair():
    weights = np.array([1.0, -2.0, 3.0, 0.5], np.float32)
    training = GanTraining(SGD, SGD, steps=10, loss="wgan_gp", gradient_penalty=7.0)
    before, after, metrics = _step(training, discriminator=_quadratic(weights))
    x = _images().reshape(5, -1)
    key = _minibatch_key(jax.random.key(0), 0, 0)
    fake = _latents(jax.random.key(0), 0, "discriminator", 0)
    fake = fake @ before.generator["params"]["w"]

    # One share for each pair, the same for all of its pixels.
    shares = np.asarray(jax.random.uniform(keys.stream(key, "mix"), (5, 1, 1, 1)))
    mixed = shares.reshape(5, 1) * x + (1 - shares.reshape(5, 1)) * fake
    length = np.linalg.norm(weights * mixed, axis=1)
    loss = (fake**2 - x**2).mean(0) @ weights / 2 + 7 * np.mean((length - 1) ** 2)
    np.testing.assert_allclose(metrics.discriminator_loss, loss, rtol=1e-5)
    slope = 14 * (1 - 1 / length[:, None]) * weights * mixed**2
    gradient = (fake**2 - x**2).mean(0) / 2 + slope.mean(0)
    np.testing.assert_allclose(
        after.discriminator["params"]["w"], weights - 0.05 * gradient, atol=1e-5
    )


def test_a_critic_without_gradient_gives_finite_numbers():
    training = GanTraining(SGD, SGD, steps=10, loss="wgan_gp")
    state = training.init(GENERATOR, DISCRIMINATOR, jax.random.key(0))
    state = state._replace(
        discriminator=jax.tree.map(jnp.zeros_like, state.discriminator)
    )
    after, metrics = training.step(
        GENERATOR, DISCRIMINATOR, jax.random.key(0), state, _images()
    )
    chex.assert_tree_all_finite((after, metrics))


def test_k_discriminator_steps_are_k_steps_on_k_minibatches():
    training = GanTraining(SGD, SGD, steps=10, discriminator_steps=3)
    images = _images(3)
    _, three, _ = _step(training, images)
    changed = images.copy()
    changed[-1] += 0.5  # in the last minibatch only
    _, other, _ = _step(training, changed)
    assert not np.array_equal(
        three.discriminator["params"]["w"], other.discriminator["params"]["w"]
    )
    # By hand: three steps with the generator held still.
    before, *_ = _step(training, images)
    g, d = before.generator["params"]["w"], before.discriminator["params"]["w"]
    for number in range(3):
        x = images[5 * number : 5 * number + 5].reshape(5, -1)
        fake = _latents(jax.random.key(0), 0, "discriminator", number, k=3) @ g
        ascent = (1 - _sigmoid(x @ d)) * x - _sigmoid(fake @ d) * fake
        d = d + 0.05 * ascent.mean(0)[:, None]
    np.testing.assert_allclose(three.discriminator["params"]["w"], d, atol=1e-6)


def test_the_discriminator_s_schedule_lasts_for_k_times_the_steps():
    cosine = optimizers.build("momentum(0.05, momentum=0.0, schedule='cosine')")
    training = GanTraining(
        SGD,
        cosine,
        steps=10,
        loss="wgan_gp",
        discriminator_steps=2,
        gradient_penalty=0.0,
    )
    key, images = jax.random.key(0), _images(2)
    state = training.init(GENERATOR, DISCRIMINATOR, key)
    for _ in range(8):
        state, _ = training.step(GENERATOR, DISCRIMINATOR, key, state, images)
    before = jax.tree.map(np.asarray, state)
    after, _ = training.step(GENERATOR, DISCRIMINATOR, key, state, images)

    # The discriminator's steps 16 and 17 of 20, each along the mean of x - G(z).
    expected = before.discriminator["params"]["w"]
    for number in range(2):
        latents = _latents(key, 8, "discriminator", number, k=2)
        x = images[5 * number : 5 * number + 5].reshape(5, -1)
        ascent = (x - latents @ before.generator["params"]["w"]).mean(0)[:, None]
        rate = 0.05 * (1 + np.cos(np.pi * (16 + number) / 20)) / 2
        expected = expected + rate * ascent
    np.testing.assert_allclose(after.discriminator["params"]["w"], expected, atol=1e-6)


def test_the_average_follows_the_generator():
    training = GanTraining(SGD, SGD, steps=10, average_decay=0.999)
    before, after, _ = _step(training)
    # At the first step the decay is (1 + 0) / (10 + 0).
    expected = 0.1 * before.generator["params"]["w"]
    expected = expected + 0.9 * np.asarray(after.generator["params"]["w"])
    np.testing.assert_allclose(
        after.generator_average["params"]["w"], expected, atol=1e-6
    )
    last = dataclasses.replace(training, average_decay=0.0)
    _, after, _ = _step(last)
    chex.assert_trees_all_close(after.generator_average, after.generator)


def test_late_in_training_the_average_decays_as_told():
    training = GanTraining(SGD, SGD, steps=2000, average_decay=0.9)
    before, after, _ = _step(training, step=1000)
    expected = 0.9 * before.generator["params"]["w"]
    expected = expected + 0.1 * np.asarray(after.generator["params"]["w"])
    np.testing.assert_allclose(
        after.generator_average["params"]["w"], expected, atol=1e-7
    )


def test_every_step_draws_noise_of_its_own():
    training = GanTraining(SGD, SGD, steps=10)
    fakes = []
    for step in (0, 3):
        before, _, metrics = _step(training, step=step)
        fake = _latents(jax.random.key(0), step, "discriminator", 0)
        fake = fake @ before.generator["params"]["w"]
        score = _sigmoid(fake @ before.discriminator["params"]["w"]).mean()
        np.testing.assert_allclose(metrics.fake, score, rtol=1e-5)
        fakes.append(float(metrics.fake))
    assert abs(fakes[0] - fakes[1]) > 1e-3


def test_a_step_is_a_function_of_key_and_state():
    training = GanTraining(SGD, SGD, steps=10)
    _, first, _ = _step(training)
    _, again, _ = _step(training)
    chex.assert_trees_all_equal(first, again)
    _, other, _ = _step(training, key=jax.random.key(9))
    assert not np.array_equal(
        first.generator["params"]["w"], other.generator["params"]["w"]
    )


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("steps", 0, "1 or more"),
        ("discriminator_steps", 0, "1 or more"),
        ("gradient_penalty", -1.0, "a finite number, 0 or more"),
        ("average_decay", 1.0, "0 to below 1"),
    ],
)
def test_impossible_fields_are_refused(field, value, allowed):
    fields = {"steps": 5, field: value}
    with pytest.raises(ValueError, match=f"{field} is {value}; allowed: {allowed}"):
        GanTraining(SGD, SGD, **fields)
