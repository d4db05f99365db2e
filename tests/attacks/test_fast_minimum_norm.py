import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import FMN, craft, registry
from robust_manifold.core import norms
from robust_manifold.core.errors import UsageError
from tests.attacks import boxed
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


def affine(weights, image):
    return weights @ image.reshape(-1)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_what_the_box_takes_from_a_step_is_made_up_for(norm):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, 16)).astype(np.float32)
    images = rng.uniform(0.05, 0.95, size=(200, 4, 4, 1)).astype(np.float32)
    logits = images.reshape(200, 16) @ weights.T
    labels = logits.argmax(-1)
    crafted = craft(FMN(norm), affine, weights, images, labels, key=jax.random.key(0))
    assert crafted.success.all()
    optimum = np.full(200, np.inf)
    for place, (image, own, label) in enumerate(
        zip(images, logits, labels, strict=True)
    ):
        for other in {0, 1, 2} - {int(label)}:
            slopes, gap = weights[other] - weights[label], own[label] - own[other]
            way = boxed.distance(norm, image, slopes, gap)
            optimum[place] = min(optimum[place], way)
    ratio = np.asarray(crafted.distance) / optimum
    assert ratio.min() >= 1 - 1e-4
    assert np.median(ratio) <= 1.005 and ratio.max() <= 1.2


@pytest.mark.parametrize(
    ("norm", "distance"), [("linf", 0.5), ("l2", 1.25**0.5), ("l1", 2.5), ("l0", 3)]
)
@pytest.mark.parametrize("steepness", [1.0, 10.0])
def test_pixels_at_the_box_count_nowhere(norm, distance, steepness):
    """Five black pixels can move; the 95 white ones would have to leave the box."""
    free = jnp.arange(100) < 5
    white = jnp.where(free, 0.0, 1.0).reshape(10, 10, 1)

    def classify(image):
        slopes = jnp.where(free, 1.0, steepness)
        score = (image - white).reshape(-1) @ slopes - 2.5
        return jnp.stack([-score, score])

    made = attempt(FMN(norm), classify, white, jnp.int32(0))
    assert int(jnp.argmax(classify(made.image))) == 1
    size = float(norms.norm(made.image - white, norm))
    assert distance * (1 - 1e-5) <= size <= 1.01 * distance


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_level_logits_are_no_end(norm):
    """The two logits are equal around the image, as coarse ones are."""

    def coarse(image):
        score = jnp.sum((image - 0.5) * WEIGHTS)
        return jnp.stack([0 * score, score]) / 8 + 1e6

    image = attempt(FMN(norm), coarse, GREY, jnp.int32(0)).image
    assert int(jnp.argmax(coarse(image))) == 1


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
