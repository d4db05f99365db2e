import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import SigmaZero, craft, registry
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(0)
RNG = np.random.default_rng(1)
WEIGHTS = RNG.uniform(-1, 1, size=64).astype(np.float32)
IMAGES = RNG.uniform(size=(8, 8, 8, 1)).astype(np.float32)
SCORES = IMAGES.reshape(8, -1) @ WEIGHTS - 0.5 * WEIGHTS.sum()
LABELS = (SCORES < 0).astype(np.int32)


def linear(scale, image):
    score = scale * ((image.reshape(-1) - 0.5) @ WEIGHTS)
    return jnp.stack([score, 0 * score])


def fewest(image, score):
    """Returns how many pixels must change at least: those that move the score most."""
    slope = -np.sign(score) * WEIGHTS
    gain = np.where(slope > 0, 1 - image.ravel(), image.ravel()) * np.abs(slope)
    return int(np.argmax(np.cumsum(np.sort(gain)[::-1]) > abs(score))) + 1


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_linear_classifier_is_beaten_with_the_fewest_pixels(scale):
    crafted = craft(SigmaZero(steps=300), linear, scale, IMAGES, LABELS, key=KEY)
    assert crafted.success.all()
    optimum = [fewest(*pair) for pair in zip(IMAGES, SCORES, strict=True)]
    changed = (np.asarray(crafted.images) != IMAGES).reshape(8, -1).sum(-1)
    np.testing.assert_array_equal(changed, crafted.distance)
    assert (changed >= optimum).all()
    assert (changed <= np.add(optimum, 1)).all()


def test_a_tie_that_the_label_wins_is_broken_by_one_pixel():
    """Both logits are 0 on the grey image: there is no shortfall, but no success."""
    grey = np.full((1, 8, 8, 1), 0.5, np.float32)
    crafted = craft(SigmaZero(steps=300), linear, 1.0, grey, np.array([0]), key=KEY)
    assert crafted.success.all()
    np.testing.assert_array_equal(crafted.distance, [1])


def test_a_target_is_reached():
    crafted = craft(
        SigmaZero(steps=100),
        linear,
        1.0,
        IMAGES,
        LABELS,
        targets=1 - LABELS,
        key=KEY,
    )
    assert crafted.success.all()


def test_an_adversarial_image_stays_as_it_is():
    crafted = craft(SigmaZero(steps=5), linear, 1.0, IMAGES, 1 - LABELS, key=KEY)
    np.testing.assert_array_equal(crafted.images, IMAGES)


def test_it_is_built_by_name():
    assert registry.build("sigma_zero(steps=30)") == SigmaZero(steps=30)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("norm", "l2"),
        ("steps", 0),
        ("learning_rate", 0.0),
        ("sigma", -1.0),
        ("threshold", 1.5),
        ("threshold_rate", float("inf")),
    ],
)
def test_bad_fields_are_refused(field, value):
    with pytest.raises(UsageError, match=f"SigmaZero.{field} is {value!r}"):
        SigmaZero(**{field: value})
