"""A network of each framework, adapted: its own logits and gradients, and attacked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.core.errors import UsageError
from tests.adapters.networks import FRAMEWORKS, IMAGES, KEY, SHAPE, WEIGHTS

pytestmark = pytest.mark.parametrize("framework", FRAMEWORKS)


@functools.cache
def case(framework):
    return FRAMEWORKS[framework]()


@pytest.fixture
def classifier(framework):
    return case(framework).adapted()


def test_one_image_has_the_logits_of_its_batch(framework, classifier):
    (apply, params), logits = classifier, case(framework).logits
    assert np.ptp(logits) > 0.1
    one = jax.jit(apply)
    for image, own in zip(IMAGES, logits, strict=True):
        np.testing.assert_allclose(one(params, image), own, atol=1e-6)


def test_under_jit_and_vmap(framework, classifier):
    (apply, params), logits = classifier, case(framework).logits
    many = jax.jit(jax.vmap(apply, in_axes=(None, 0)))(params, IMAGES)
    np.testing.assert_allclose(many, logits, atol=1e-6)
    twice = jax.vmap(jax.vmap(apply, (None, 0)), (None, 0))
    halves = twice(params, IMAGES.reshape(2, 2, *SHAPE))
    np.testing.assert_allclose(halves.reshape(4, -1), logits, atol=1e-6)


def test_gradients_are_the_framework_s(framework, classifier):
    (apply, params), gradients = classifier, case(framework).gradients
    assert np.ptp(gradients) > 0.01

    def weighted(image, weights):
        return apply(params, image) @ weights

    found = jax.jit(jax.vmap(jax.grad(weighted)))(IMAGES, WEIGHTS)
    np.testing.assert_allclose(found, gradients, atol=1e-6)
    # Many cotangents of one image.
    jacobian = jax.jacrev(lambda image: apply(params, image))(IMAGES[1])
    product = jnp.einsum("k,khwc->hwc", WEIGHTS[1], jacobian)
    np.testing.assert_allclose(product, gradients[1], atol=1e-6)


def test_an_attack_climbs_through_it(framework, classifier):
    (apply, params), logits = classifier, case(framework).logits
    labels = np.argmax(logits, axis=-1)
    attack = attacks.PGD(epsilon=0.05, steps=5)
    crafted = attacks.craft(attack, apply, params, IMAGES, labels, key=KEY)
    assert crafted.distance.max() <= 0.05 + 1e-6

    def margin(logits):
        rows = np.arange(len(labels))
        others = np.array(logits)
        others[rows, labels] = -np.inf
        return others.max(axis=-1) - np.asarray(logits)[rows, labels]

    assert (margin(crafted.logits) > margin(logits) + 1e-3).all()


def test_adapted_twice_it_compiles_once(framework):
    adapted = case(framework).adapted
    first, again = adapted().apply, adapted().apply
    assert first == again and hash(first) == hash(again)


def test_the_shape_of_an_image_is_looked_at(framework):
    adapted = case(framework).adapted
    assert adapted(image_shape=SHAPE).apply == adapted().apply
    with pytest.raises(UsageError, match=r" fails on .* of shape .*9.*allowed: "):
        adapted(image_shape=(9, 9, 3))
    with pytest.raises(UsageError, match=r"\(3, 6, 5\)|\(5, 3, 6\)"):
        adapted(image_shape=(3, 6, 5))
    with pytest.raises(UsageError, match=r"allowed: \(height, width, channels\)"):
        adapted(image_shape=(6, 5))


@pytest.mark.parametrize("part", ["batch norm", "dropout"])
def test_training_mode_is_told(framework, part):
    with pytest.raises(UsageError) as error:
        apply, params = FRAMEWORKS[framework](training=part)
        jax.eval_shape(apply, params, IMAGES[0])
    text = str(error.value)
    assert text.startswith("apply changes or draws something outside its arguments (")
    assert "Put the model into evaluation mode" in text and "\n" not in text
