"""Latents come from the prior, and a class-conditional generator obeys its class."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.core.errors import UsageError
from robust_manifold.core.prior import Normal, Uniform

SHAPE, CLASSES = (4, 3, 1), 3
CONDITIONAL = "vae_decoder(latent_size=2, hidden=5, conditional=True)"


@functools.cache
def conditional():
    model = models.build(CONDITIONAL, image_shape=SHAPE, classes=CLASSES)
    return model, model.init(jax.random.key(0))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in models.registry.names
        if issubclass(models.registry[name], models.GeneratorSpec)  # type: ignore[arg-type]
        and name != "one_per_class"  # It has no other form.
    ],
)
def test_every_generator_has_a_prior_and_a_conditional_form(name):
    shape = (64, 64, 3) if "celeba" in name else (28, 28, 1)
    priors = {
        "inc_celeba_generator": Normal(-1.0, 1.0),
        "mlp_generator": Uniform(-1.0, 1.0),
    }
    plain = models.build(name, image_shape=shape)
    assert plain.prior == priors.get(name, Normal(0.0, 1.0))
    assert plain.latent_classes == 0
    text = f"{name}(conditional=True)"
    assert models.registry.to_string(models.registry.build(text)) == text
    model = models.build(text, image_shape=shape, classes=CLASSES)
    assert model.prior == plain.prior
    assert model.latent_classes == CLASSES
    assert model.input_shape == (plain.input_shape[0] + CLASSES,)
    assert model.output_shape == shape


def test_other_models_know_no_classes_of_latents():
    for name in ("linear", "vae_encoder", "dcgan_discriminator"):
        assert models.build(name).latent_classes == 0


def test_a_conditional_generator_is_the_plain_one_of_a_one_hot_choice():
    model, params = conditional()
    inner = models.build("vae_decoder(latent_size=5, hidden=5)", image_shape=SHAPE)
    z = jax.random.normal(jax.random.key(1), (6, 2))
    scores = jnp.array(
        [[9, 1, 2], [0, 0.1, 0], [-3, -2, -1], [5, 5, 5], [1, 0, 0], [-9, -8, -9]]
    )
    # Of equal scores the first counts.
    choice = jax.nn.one_hot(jnp.array([0, 1, 2, 0, 0, 1]), CLASSES)
    expected = inner.apply(params, jnp.concatenate([z, choice], 1))
    latents = jnp.concatenate([z, scores], 1)
    np.testing.assert_array_equal(model.apply(params, latents), expected)
    trained, _ = model.train(params, latents, jax.random.key(0))
    np.testing.assert_allclose(trained, expected, atol=1e-6)
    assert (jnp.abs(expected[0] - expected[1]) > 1e-4).any()


def test_no_gradient_leads_from_class_to_class():
    model, params = conditional()
    latent = jax.random.normal(jax.random.key(1), model.input_shape)
    gradient = jax.grad(lambda z: model.apply(params, z).sum())(latent)
    assert (gradient[:2] != 0).all() and (gradient[2:] == 0).all()


def test_latents_of_classes_choose_the_class_and_keep_the_rest():
    model, params = conditional()
    latents = models.sample_latents(model, jax.random.key(2), 6)
    labels = jnp.array([0, 1, 2, 2, 1, 0])
    chosen = models.latents_of_classes(model, latents, labels)
    np.testing.assert_array_equal(chosen[:, :2], latents[:, :2])
    np.testing.assert_array_equal(chosen[:, 2:], np.eye(3)[labels])
    one = models.latents_of_classes(model, latents[3], labels[3])
    np.testing.assert_array_equal(one, chosen[3])
    grid = models.latents_of_classes(
        model, latents.reshape(2, 3, -1), labels.reshape(2, 3)
    )
    np.testing.assert_array_equal(grid.reshape(6, -1), chosen)


def test_latents_of_an_unconditional_generator_stay_as_they_are():
    model = models.build("vae_decoder")
    latents = models.sample_latents(model, jax.random.key(2), 2)
    assert models.latents_of_classes(model, latents, jnp.array([1, 0])) is latents


def test_classes_are_put_behind_the_latents():
    model, _ = conditional()
    latents = jax.random.normal(jax.random.key(2), (2, 3, 2))
    labels = jnp.array([[0, 1, 2], [2, 1, 0]])
    found = models.with_classes(model, latents, labels)
    np.testing.assert_array_equal(found[..., :2], latents)
    np.testing.assert_array_equal(found[..., 2:], np.eye(3)[labels])
    plain = models.with_classes(models.build("vae_decoder"), latents, labels)
    np.testing.assert_array_equal(plain, latents)


def test_samples_follow_the_prior_and_choose_all_classes():
    model, _ = conditional()
    latents = models.sample_latents(model, jax.random.key(0), 3000)
    expected = model.prior.sample(jax.random.key(0), (3000, 5))
    np.testing.assert_array_equal(latents, expected)
    counts = np.bincount(jnp.argmax(latents[:, 2:], axis=1), minlength=3)
    # Six standard deviations of a binomial of 3000 draws at 1/3.
    assert (abs(counts - 1000) < 6 * (3000 * 2 / 9) ** 0.5).all()


def test_samples_of_a_uniform_prior():
    model = models.build("mlp_generator(latent_size=2)", image_shape=(1, 1, 1))
    latents = models.sample_latents(model, jax.random.key(0), 1000)
    assert latents.shape == (1000, 2)
    assert -1 <= latents.min() < -0.99 and 0.99 < latents.max() <= 1


def test_misuse():
    with pytest.raises(UsageError, match="classes is 1"):
        models.build(CONDITIONAL, classes=1)
    with pytest.raises(UsageError, match="takes inputs of the shape"):
        models.sample_latents(models.build("linear"), jax.random.key(0), 2)


def test_a_model_made_by_hand_has_no_features():
    model = models.build("linear")
    bare = models.Model(
        model.init, model.apply, model.train, model.input_shape, model.output_shape
    )
    with pytest.raises(UsageError, match="no features"):
        bare.features({}, jnp.zeros((28, 28, 1)))
