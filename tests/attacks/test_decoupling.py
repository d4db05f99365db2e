import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import DDN, registry
from robust_manifold.core import norms
from robust_manifold.core.errors import UsageError
from tests.attacks.single import attempt

WEIGHTS = np.random.default_rng(0).normal(size=(3, 3, 1)).astype(np.float32)
GREY = jnp.full((3, 3, 1), 0.5)


def linear(image):
    score = jnp.sum((image - 0.5) * WEIGHTS) + 0.5
    return 1000 * jnp.stack([-score, score])


@pytest.mark.parametrize("targeted", [True, False])
def test_it_ends_at_the_boundary(targeted):
    made = attempt(
        DDN(steps=100), linear, GREY, jnp.int32(0 if targeted else 1), targeted=targeted
    )
    assert int(jnp.argmax(linear(made.image))) == 0
    distance = 0.5 / np.linalg.norm(WEIGHTS)
    size = norms.norm(made.image - GREY, "l2")
    # The radius moves by shares of gamma.
    assert distance <= float(size) <= 1.05 * distance
    # Besides a step's, "nearest" asks for one gradient of two classes, untargeted.
    asked = 100 if targeted else 101
    assert (int(made.forwards), int(made.backwards)) == (asked, asked)


def test_an_adversarial_image_is_left_alone():
    image = attempt(DDN(steps=5), linear, GREY, jnp.int32(0)).image
    np.testing.assert_array_equal(image, GREY)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_no_gradient_returns_the_image(value):
    def flat(image):
        return jnp.stack([1.0, 0.0]) + value * image.sum()

    image = attempt(DDN(steps=5), flat, GREY, jnp.int32(0)).image
    np.testing.assert_array_equal(image, GREY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ddn(steps=0)", "DDN.steps is 0"),
        ("ddn(init_epsilon=0.0)", "DDN.init_epsilon is 0.0"),
        ("ddn(gamma=1.0)", "DDN.gamma is 1.0"),
        ("ddn(loss='none')", "'none'"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)
