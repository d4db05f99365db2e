import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import SPSA, Problem, craft, registry
from robust_manifold.core.errors import UsageError

WEIGHTS = np.random.default_rng(0).normal(size=(3, 3, 1)).astype(np.float32)
GREY = np.full((3, 3, 1), 0.5, np.float32)
KEY = jax.random.key(0)


def linear(params, image):
    score = params * jnp.sum((image - 0.5) * WEIGHTS)
    return jnp.stack([1.0 - score, score - 1.0])


def test_the_estimate_is_a_linear_losss_gradient_on_average():
    attack = SPSA(0.1, samples=4000)
    classify = lambda image: linear(1.0, image)  # noqa: E731
    problem = Problem(classify, jnp.asarray(GREY), jnp.int32(0), jnp.float32(0.1))
    estimate = attack._estimate(problem, KEY, jnp.asarray(GREY))
    # The variance of one entry is the sum of the others' squares over the samples.
    error = np.linalg.norm(2 * WEIGHTS) / np.sqrt(4000)
    np.testing.assert_allclose(estimate, 2 * WEIGHTS, atol=5 * error)
    assert np.abs(estimate - 2 * WEIGHTS).max() > 0


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_linear_score_rises_to_the_dual_norm(norm):
    """The unbroken image is the best met: the corner of the ball, nearly."""
    order = {"linf": 1, "l2": 2, "l1": np.inf}[norm]
    dual = np.linalg.norm(WEIGHTS.ravel(), order)
    # A success needs a score of 1.
    out_of_reach = SPSA(0.02, norm, steps=60, samples=64, learning_rate=0.002)
    crafted = craft(
        out_of_reach, linear, jnp.float32(1), GREY[None], np.array([0]), key=KEY
    )
    gained = float(jnp.sum((crafted.images[0] - 0.5) * WEIGHTS)) / (0.02 * dual)
    assert 0.95 <= gained <= 1 + 1e-5
    assert not crafted.success.any()
    assert int(crafted.queries.forwards[0]) == 1 + 60 * 129
    assert int(crafted.queries.backwards[0]) == 0


def test_the_scale_of_the_logits_changes_nothing():
    """Powers of two, for which no rounding differs."""
    found = [
        craft(
            SPSA(0.02, steps=10, samples=8),
            lambda params, image: params * linear(1.0, image),
            jnp.float32(scale),
            GREY[None],
            np.array([0]),
            key=KEY,
        ).images
        for scale in (2.0**-10, 1.0, 2.0**10)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_classifier_sees_pixels_in_the_box_only():
    def classify(params, image):
        outside = (image < 0).any() | (image > 1).any()
        return jnp.where(outside, jnp.nan, linear(params, image))

    corner = np.round(np.random.default_rng(2).uniform(size=(1, 3, 3, 1)))
    label = np.argmax(linear(1.0, corner[0])[None], -1)
    crafted = craft(
        SPSA(0.7, steps=60, samples=32, learning_rate=0.05),
        classify,
        jnp.float32(1),
        corner.astype(np.float32),
        label,
        key=KEY,
    )
    assert crafted.success.all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("spsa(-1)", "SPSA.epsilon is -1"),
        ("spsa(0.1, norm='l0')", "SPSA.norm is 'l0'; allowed: linf, l2 or l1."),
        ("spsa(0.1, steps=0)", "SPSA.steps is 0"),
        ("spsa(0.1, samples=0)", "SPSA.samples is 0"),
        ("spsa(0.1, delta=0.0)", "SPSA.delta is 0.0"),
        ("spsa(0.1, learning_rate=-0.1)", "SPSA.learning_rate is -0.1"),
        ("spsa(0.1, loss='ce2')", "'ce2'"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)
