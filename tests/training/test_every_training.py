"""What holds for every registered training of a generator."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.training import GeneratorTraining, Setting, generator_trainings

SHAPE = (6, 6, 1)
DISCRIMINATOR = "discriminator=dcgan_discriminator(width=2)"
NORMED = "discriminator=dcgan_discriminator(width=2, spectral_norm=True)"
ENCODER = "encoder=vae_encoder(latent_size=3, hidden=4)"
TEXTS = [
    f"gan({DISCRIMINATOR}, loss='minimax')",
    f"gan({DISCRIMINATOR}, loss='wgan_gp', discriminator_steps=2)",
    f"gan({NORMED}, loss='hinge', r1=0.1)",
    f"vae({ENCODER})",
    f"vae({ENCODER}, likelihood='gaussian', average_decay=0.9)",
]


def _setting(text, steps=5, conditional=False):
    training = generator_trainings.build(text)
    generator = models.build(
        f"dcgan_generator(latent_size=3, width=2, conditional={conditional})",
        image_shape=SHAPE,
    )
    return training, Setting(
        generator, training.build_partner(generator, SHAPE, 10), steps
    )


def _batch(training, n=4):
    n *= training.minibatches
    images = np.random.default_rng(0).random((n, *SHAPE), np.float32)
    return images, (np.arange(n) % 10).astype(np.int32)


def test_the_list_is_whole():
    assert {text.split("(")[0] for text in TEXTS} == set(generator_trainings.names)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_and_specs_are_the_same(text):
    training = generator_trainings.build(text)
    again = generator_trainings.build(generator_trainings.to_string(training))
    assert again == training and hash(again) == hash(training)
    assert training.role in text


def test_a_spec_s_defaults_need_no_words():
    for name in generator_trainings.names:
        assert generator_trainings.to_string(generator_trainings.build(name)) == name


@pytest.mark.parametrize("text", TEXTS)
def test_a_step_trains_both_networks_and_measures(text):
    training, setting = _setting(text, conditional=text in (TEXTS[1], TEXTS[3]))
    key = jax.random.key(0)
    state = training.init(setting, key)
    before = jax.tree.map(np.asarray, state)
    after, metrics = training.step(setting, key, state, *_batch(training))
    assert after.step == 1
    chex.assert_tree_all_finite((after, metrics))
    chex.assert_shape(list(metrics), ())
    for params in (training.generator_params, training.partner_params):
        pairs = zip(
            jax.tree.leaves(params(before)["params"]),
            jax.tree.leaves(params(after)["params"]),
            strict=True,
        )
        # A bias that adds as much to real as to generated images may rest.
        assert all(not np.array_equal(old, new) for old, new in pairs if old.ndim > 1)


def test_equal_trainings_compile_once():
    before = GeneratorTraining.step._cache_size()
    for _ in range(3):
        training, setting = _setting(TEXTS[3], steps=77)
        key = jax.random.key(0)
        state = training.init(setting, key)
        for _ in range(2):
            state, _ = training.step(setting, key, state, *_batch(training))
    assert GeneratorTraining.step._cache_size() - before == 1


@pytest.mark.parametrize("text", [TEXTS[0], TEXTS[3]])
def test_steps_may_stand_in_a_scan(text):
    training, setting = _setting(text)
    key, batch = jax.random.key(0), _batch(training)
    state = training.init(setting, key)

    def body(state, _):
        return training.step(setting, key, state, *map(jnp.asarray, batch))

    scanned, losses = jax.jit(lambda state: jax.lax.scan(body, state, length=3))(state)
    looped = training.init(setting, key)
    for _ in range(3):
        looped, metrics = training.step(setting, key, looped, *batch)
    chex.assert_trees_all_close(scanned, looped, atol=1e-5)
    np.testing.assert_allclose(losses[0][-1], metrics[0], rtol=1e-4)


@pytest.mark.parametrize("text", [TEXTS[0], TEXTS[3]])
def test_zero_steps_are_refused(text):
    training, setting = _setting(text, steps=0)
    with pytest.raises(ValueError, match="steps of .* is 0; allowed: 1 or more"):
        training.init(setting, jax.random.key(0))


@pytest.mark.parametrize("text", [TEXTS[0], TEXTS[3]])
def test_a_partner_for_other_images_is_refused(text):
    training, setting = _setting(text)
    generator = models.build("dcgan_generator(latent_size=3)", image_shape=(8, 8, 1))
    with pytest.raises(ValueError, match=r"takes images of shape .*; allowed: \(8"):
        training.init(setting._replace(generator=generator), jax.random.key(0))
