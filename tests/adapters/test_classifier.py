"""Classifiers of another form become those of one image in [0, 1]."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import adapters, attacks
from robust_manifold.core.errors import UsageError

IMAGE = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 3, 2)), jnp.float32)
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(24, 3)), jnp.float32)


def untyped(function):
    """Returns a function without the checks of types that tests alone have."""
    return function.__wrapped__


def flat(params, image):
    return image.reshape(-1) @ params


def test_the_package_has_them():
    import robust_manifold

    assert robust_manifold.adapters is adapters
    with pytest.raises(AttributeError, match="'robust_manifold' has no"):
        robust_manifold.adaptors  # noqa: B018


def test_no_framework_is_imported_before_its_model():
    program = (
        "import sys, robust_manifold.adapters as adapters\n"
        "adapters.batched(lambda params, images: images[:, 0, 0], ())\n"
        "found = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(found & {'flax', 'equinox', 'haiku', 'torch', 'pandas'}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_batched():
    def batch(params, images):
        return images.reshape(len(images), -1) @ params

    apply, params = adapters.batched(batch, WEIGHTS)
    np.testing.assert_array_equal(apply(params, IMAGE), batch(WEIGHTS, IMAGE[None])[0])


def test_channels_first():
    def first(params, image):
        assert image.shape == (2, 4, 3)
        return params * image[:, 1, 2]

    apply, params = adapters.channels_first((first, 2.0))
    np.testing.assert_array_equal(apply(params, IMAGE), 2 * IMAGE[1, 2])


@pytest.mark.parametrize(
    ("mean", "std"),
    [(0.5, 0.25), ([0.5], [0.25]), ((0.1, 0.2), (0.3, 0.4)), (0.5, (0.3, 0.4))],
)
def test_normalised(mean, std):
    apply, params = adapters.normalised((flat, WEIGHTS), mean, std)
    moments = np.float32(mean), np.float32(std)
    expected = flat(WEIGHTS, (np.asarray(IMAGE) - moments[0]) / moments[1])
    np.testing.assert_allclose(apply(params, IMAGE), expected, rtol=1e-5)


def test_normalised_otherwise_compiles_nothing_new():
    first, _ = adapters.normalised((flat, WEIGHTS), 0.5, 0.25)
    other, _ = adapters.normalised((flat, WEIGHTS), 0.4, 0.2)
    assert first == other and hash(first) == hash(other)


def test_budgets_are_those_of_pixels():
    classifier = adapters.normalised((flat, WEIGHTS), 0.5, 0.1)
    crafted = attacks.craft(
        attacks.PGD(epsilon=0.01, steps=3),
        *classifier,
        IMAGE[None],
        [int(jnp.argmax(classifier.apply(classifier.params, IMAGE)))],
        key=jax.random.key(0),
    )
    np.testing.assert_allclose(crafted.distance, 0.01, rtol=1e-4)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        (0.5, 0.0, "std is 0.0; allowed: finite numbers above 0"),
        (0.5, (0.1, -1), "std is (0.1, -1); allowed: finite numbers above 0"),
        (float("nan"), 1.0, "mean is nan; allowed: finite numbers, one"),
        ([[0.5]], 1.0, "mean is [[0.5]]; allowed"),
        ((), 1.0, "mean is (); allowed"),
        ((0.1, 0.2, 0.3), 1.0, "mean and std have the shapes (3,) and ()"),
    ],
)
def test_moments_that_no_image_has(mean, std, words):
    with pytest.raises(UsageError) as error:
        untyped(adapters.normalised)((flat, WEIGHTS), mean, std, image_shape=(4, 3, 2))
    assert words in str(error.value)


@pytest.mark.parametrize("classifier", [flat, (flat, WEIGHTS, None), None])
def test_a_classifier_is_a_pair(classifier):
    with pytest.raises(UsageError, match="classifier is of type .*apply, params"):
        untyped(adapters.channels_first)(classifier)


def test_what_is_no_vector_of_logits_is_told():
    def means(params, images):
        return params * images.mean(axis=(1, 2), keepdims=True)

    with pytest.raises(UsageError, match=r"gives \(1, 1, 2\) for one image; allowed"):
        adapters.batched(means, 2.0, image_shape=(4, 3, 2))
    with pytest.raises(UsageError, match="params is 'relu'; allowed: a tree of arrays"):
        adapters.batched(means, "relu")
    with pytest.raises(UsageError, match="apply is 3; allowed: a function"):
        untyped(adapters.batched)(3, 2.0)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 0), (4.0, 3, 2), (4, 3, 2, 1)])
def test_the_shape_of_an_image(shape):
    with pytest.raises(UsageError, match="image_shape is .*height, width, channels"):
        untyped(adapters.batched)(flat, WEIGHTS, image_shape=shape)
