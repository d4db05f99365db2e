"""Training of denoisers: its loss by hand, what it learns, and what it refuses."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import with_level
from robust_manifold.models import Model
from robust_manifold.training import NetworkTraining, network_trainings

TEXTS = ["denoising", "denoising(adam(0.01), least=0.2, most=0.3, average_decay=0.0)"]
KEY = jax.random.key(0)
SHAPE, CLEAN = (4, 4, 1), 0.7
SMALL = models.build("denoiser(width=2, bottleneck=2)", image_shape=SHAPE)
IMAGES = np.random.default_rng(0).random((6, *SHAPE), np.float32)


def constant(params, inputs):
    """A denoiser of one number: the best is the mean of the clean pixels."""
    return jnp.broadcast_to(params["params"], inputs[..., :-1].shape)


CONSTANT = Model(
    init=lambda key: {"params": jnp.zeros(())},
    apply=constant,
    train=lambda params, inputs, key: (constant(params, inputs), params),
    input_shape=(4, 4, 2),
    output_shape=SHAPE,
)


def test_the_list_is_whole():
    assert {text.split("(")[0] for text in TEXTS} == set(network_trainings.names)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_and_specs_are_the_same(text):
    training = network_trainings.build(text)
    again = network_trainings.build(network_trainings.to_string(training))
    assert again == training and hash(again) == hash(training)


@pytest.mark.parametrize("text", TEXTS)
def test_steps_train_measure_and_compile_once(text):
    programs = NetworkTraining.step._cache_size()
    training = network_trainings.build(text)
    training.check_network(SMALL, SHAPE)
    for _ in range(2):
        state = training.init(SMALL, KEY, 5)
        before = jax.tree.map(np.array, training.network_params(state))
        for _ in range(3):
            state, metrics = training.step(SMALL, 5, KEY, state, IMAGES)
    assert NetworkTraining.step._cache_size() - programs == 1
    assert state.step == 3
    chex.assert_tree_all_finite((state, metrics))
    chex.assert_shape(list(metrics), ())
    after = training.network_params(state)
    changed = jax.tree.map(lambda a, b: (a != b).any(), before, after)
    assert all(jax.tree.leaves(changed))


def test_the_constant_that_it_learns_is_the_mean():
    training = network_trainings.build("denoising(adam(0.05), average_decay=0.0)")
    state = training.init(CONSTANT, KEY, 300)
    images = np.full((6, *SHAPE), CLEAN, np.float32)
    for _ in range(300):
        state, _ = training.step(CONSTANT, 300, KEY, state, images)
    found = training.network_params(state)["params"]
    np.testing.assert_allclose(found, CLEAN, atol=1e-3)


def test_the_loss_is_the_weighted_error_at_a_level_of_the_range():
    """An error of 0.1 in every pixel, by its weight: 1 / level^2 + 1 / deviation^2."""
    training = network_trainings.build("denoising(least=0.1, most=0.4, deviation=0.5)")
    image = jnp.full(SHAPE, CLEAN)
    params = {"params": jnp.float32(CLEAN - 0.1)}
    keys = jax.random.split(KEY, 4000)
    found = jax.vmap(lambda k: training.loss(CONSTANT, params, k, image))(keys)
    levels = 1 / np.sqrt(np.asarray(found) / 0.01 - 1 / 0.5**2)
    assert levels.min() > 0.0999 and levels.max() < 0.4001
    # Uniform in the logarithm: mean and deviation by hand, within four of their errors.
    logs, width = np.log(levels), np.log(4.0)
    error = width / np.sqrt(12 * len(keys))
    np.testing.assert_allclose(logs.mean(), np.log(0.2), atol=4 * error)
    np.testing.assert_allclose(logs.std(), width / np.sqrt(12), rtol=0.05)


def test_the_network_is_shown_the_image_under_noise_of_the_level_that_it_is_told():
    training = network_trainings.build("denoising(least=0.1, most=2.0)")
    shape, image = (64, 64, 1), jnp.full((64, 64, 1), CLEAN)
    told = []

    def look(params, inputs):
        level = inputs[0, 0, 1]
        told.append((level, jnp.std(inputs[..., 0]), jnp.mean(inputs[..., 0])))
        return inputs[..., :1]

    seeing = CONSTANT._replace(apply=look, input_shape=(64, 64, 2), output_shape=shape)
    for number in range(5):
        training.loss(seeing, {}, jax.random.key(number), image)
    for level, spread, mean in told:
        np.testing.assert_allclose(spread, level, rtol=0.06)
        np.testing.assert_allclose(mean, CLEAN, atol=0.08 * float(level))
    assert with_level(image, 0.5).shape == seeing.input_shape


def test_networks_of_other_shapes_are_refused():
    training = network_trainings.build("denoising")
    other = models.build("linear", image_shape=SHAPE)
    with pytest.raises(
        UsageError, match=r"Denoising has a network from \(4, 4, 1\) to"
    ):
        training.check_network(other, SHAPE)
    with pytest.raises(UsageError, match=r"allowed: one from \(8, 8, 2\)"):
        training.check_network(SMALL, (8, 8, 1))


@pytest.mark.parametrize(
    "text",
    [
        "least=0.0",
        "most=1e999",
        "deviation=0.0",
        "average_decay=1.0",
        "least=3.0",
    ],
)
def test_fields_are_checked(text):
    field = text.split("=")[0]
    with pytest.raises(UsageError, match=rf"Denoising\.{field} is"):
        network_trainings.build(f"denoising({text})")


def test_a_training_takes_a_step():
    with pytest.raises(UsageError, match="steps of Denoising is 0; allowed: 1"):
        network_trainings.build("denoising").init(SMALL, KEY, 0)
