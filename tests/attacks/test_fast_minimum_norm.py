import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import FMN, registry
from robust_manifold.core import norms
from robust_manifold.core.errors import UsageError
from tests.attacks.single import attempt

WEIGHTS = np.linspace(0.5, 1.5, 9, dtype=np.float32).reshape(3, 3, 1)
GREY = jnp.full((3, 3, 1), 0.5)


def linear(image):
    score = jnp.sum((image - 0.5) * WEIGHTS) + 0.9
    return 1000 * jnp.stack([-score, score])


@pytest.mark.parametrize(
    ("norm", "distance"),
    [
        ("linf", 0.9 / WEIGHTS.sum()),
        ("l2", 0.9 / np.linalg.norm(WEIGHTS)),
        # The box lets the steepest pixel bring 0.75, the next one the rest.
        ("l1", 0.5 + 0.15 / 1.375),
        ("l0", 2),
    ],
)
def test_it_ends_at_the_boundary(norm, distance):
    made = attempt(FMN(norm, steps=100), linear, GREY, jnp.int32(1))
    assert int(jnp.argmax(linear(made.image))) == 0
    size = norms.norm(made.image - GREY, norm)
    assert distance * (1 - 1e-5) <= float(size) <= 1.02 * distance
    # Besides the steps', "nearest" asks for one gradient of two classes.
    assert (int(made.forwards), int(made.backwards)) == (101, 101)


def test_a_target_is_reached():
    image = attempt(FMN(steps=30), linear, GREY, jnp.int32(0), targeted=True).image
    assert int(jnp.argmax(linear(image))) == 0


@pytest.mark.parametrize("norm", ["linf", "l0"])
def test_an_adversarial_image_is_left_alone(norm):
    image = attempt(FMN(norm, steps=5), linear, GREY, jnp.int32(0)).image
    np.testing.assert_array_equal(image, GREY)


@pytest.mark.parametrize("norm", ["linf", "l0"])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_no_gradient_returns_the_image(norm, value):
    def flat(image):
        return jnp.stack([1.0, 0.0]) + value * image.sum()

    image = attempt(FMN(norm, steps=5), flat, GREY, jnp.int32(0)).image
    np.testing.assert_array_equal(image, GREY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fmn('l7')", "'l7'"),
        ("fmn(steps=0)", "FMN.steps is 0"),
        ("fmn(max_stepsize=0.0)", "FMN.max_stepsize is 0.0"),
        ("fmn(min_stepsize=2.0)", "FMN.min_stepsize is 2.0"),
        ("fmn(gamma=0.0)", "FMN.gamma is 0.0"),
        ("fmn(loss='ce')", "FMN.loss is 'ce'; allowed: nearest or difference."),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)
