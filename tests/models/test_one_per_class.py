"""A decoder for each class, as one class-conditional generator."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.core.errors import UsageError
from robust_manifold.models.one_per_class import OnePerClass

TEXT = "one_per_class(latent_size=3, decoder=vae_decoder(hidden=5))"
SHAPE, CLASSES = (2, 2, 1), 4
MODEL = models.build(TEXT, image_shape=SHAPE, classes=CLASSES)
PARAMS = MODEL.init(jax.random.key(0))


def test_parameters_of_as_many_decoders():
    # 3 -> 5 -> 5 -> 4 numbers, with biases, for each class.
    each = 3 * 5 + 5 + 5 * 5 + 5 + 5 * 4 + 4
    assert models.count_parameters(PARAMS) == CLASSES * each
    assert (MODEL.input_shape, MODEL.latent_classes) == ((3 + CLASSES,), CLASSES)


def test_each_latent_is_decoded_by_its_class_alone():
    decoder = models.build("vae_decoder(latent_size=3, hidden=5)", image_shape=SHAPE)
    free = jax.random.normal(jax.random.key(1), (CLASSES, 3))
    choice = jnp.eye(CLASSES) * 0.3
    images = MODEL.apply(PARAMS, jnp.concatenate([free, choice], axis=1))
    for number in range(CLASSES):
        own = {
            "params": jax.tree.map(
                lambda leaf, n=number: leaf[n], PARAMS["params"]["decoder"]
            )
        }
        want = decoder.apply(own, free[number])
        np.testing.assert_allclose(images[number], want, rtol=1e-6)
        assert MODEL.class_generator is not None
        alone = MODEL.class_generator(PARAMS, free[number], number)
        np.testing.assert_allclose(alone, want, rtol=1e-6)
        latent = jnp.concatenate([free[number], choice[number]])
        seen = MODEL.features(PARAMS, latent)
        np.testing.assert_allclose(seen, decoder.features(own, free[number]), rtol=1e-6)
    # They began as different decoders.
    assert np.abs(np.diff(MODEL.apply(PARAMS, _same(free[0])), axis=0)).max() > 1e-3


def _same(latent):
    return jnp.concatenate([jnp.tile(latent, (CLASSES, 1)), jnp.eye(CLASSES)], axis=1)


def test_a_latent_moves_the_parameters_of_its_class_alone():
    latent = jnp.concatenate([jnp.ones(3), jnp.eye(CLASSES)[2]])
    slopes = jax.grad(lambda params: MODEL.apply(params, latent).sum())(PARAMS)
    for leaf in jax.tree.leaves(slopes):
        moved = np.abs(np.asarray(leaf)).reshape(CLASSES, -1).max(axis=1)
        np.testing.assert_array_equal(moved > 0, np.arange(CLASSES) == 2)


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_many_rows_of_any_classes_are_decoded_together(rows):
    """A class may have none of them, or fill more than one block."""
    numbers = np.random.default_rng(rows).choice([0, 2, 3], rows, p=[0.1, 0.1, 0.8])
    latents = jnp.concatenate(
        [jax.random.normal(jax.random.key(rows), (rows, 3)), jnp.eye(CLASSES)[numbers]],
        axis=1,
    )

    def alone(params):
        assert MODEL.class_generator is not None
        generate = MODEL.class_generator
        return jax.vmap(lambda z, c: generate(params, z, c))(latents[:, :3], numbers)

    def together(params):
        return MODEL.train(params, latents, jax.random.key(0))[0]

    np.testing.assert_allclose(together(PARAMS), alone(PARAMS), rtol=1e-5)
    slopes, want = (
        jax.grad(lambda params, of=of: jnp.sum(of(params) ** 2))(PARAMS)
        for of in (together, alone)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        slopes,
        want,
    )


def test_a_decoder_that_normalises_batches_sees_whole_ones():
    decoder = "dcgan_generator(width=2, batch_norm=True)"
    text = f"one_per_class(latent_size=3, decoder={decoder})"
    model = models.build(text, image_shape=(8, 8, 1), classes=CLASSES)
    params = model.init(jax.random.key(0))
    images, updated = model.train(params, _same(jnp.ones(3)), jax.random.key(1))
    assert images.shape == (CLASSES, 8, 8, 1)
    before, after = (jax.tree.leaves(of["batch_stats"]) for of in (params, updated))
    for old, new in zip(before, after, strict=True):
        moved = np.abs(np.asarray(new - old)).reshape(CLASSES, -1).max(axis=1)
        assert (moved > 0).all()


@dataclasses.dataclass(frozen=True)
class Linear(models.GeneratorSpec):
    """A user's generator, with a field that other specs have a method for."""

    latent_size: int = 3
    features: int = 4

    def module(self, image_shape, classes):
        del image_shape, classes
        return _Linear(self.features)


class _Linear(nn.Module):
    size: int

    @nn.compact
    def __call__(self, latent, train):
        return nn.Dense(self.size)(latent).reshape(-1, *SHAPE)


def test_the_decoder_may_be_a_users_own():
    spec = OnePerClass(latent_size=2, decoder=Linear())
    model = models.build(spec, image_shape=SHAPE, classes=CLASSES)
    params = model.init(jax.random.key(0))
    assert models.count_parameters(params) == CLASSES * (2 * 4 + 4)
    latent = jnp.concatenate([jnp.ones(2), jnp.eye(CLASSES)[1]])
    assert model.class_generator is not None
    alone = model.class_generator(params, latent[:2], 1)
    np.testing.assert_allclose(model.apply(params, latent), alone, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("one_per_class(decoder=vae_decoder(conditional=True))", "not class-cond"),
        ("one_per_class(decoder=small_cnn)", "allowed: a generator"),
        ("one_per_class(conditional=False)", "conditional is False; allowed: True"),
    ],
)
def test_what_is_refused(text, sentence):
    with pytest.raises(UsageError, match=sentence):
        models.build(text)
