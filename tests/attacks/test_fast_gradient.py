import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import FGSM, RandFGSM, registry
from robust_manifold.core.errors import UsageError

WEIGHTS = np.random.default_rng(0).normal(size=(3, 3, 1)).astype(np.float32)
GREY = jnp.full((3, 3, 1), 0.5)


def classify(image):
    score = jnp.sum(image * WEIGHTS)
    return jnp.stack([-score, score]) / 2


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("loss", ["margin", "ce"])
def test_fgsm_raises_a_linear_margin_by_the_dual_norm(label, loss):
    image = FGSM(0.1, loss=loss)(jax.random.key(0), classify, GREY, jnp.int32(label))
    change = classify(image) - classify(GREY)
    gain = change[1 - label] - change[label]
    assert gain == pytest.approx(0.1 * np.abs(WEIGHTS).sum(), rel=1e-5)


def test_fgsm_at_the_edge_of_the_box_takes_what_room_there_is():
    image = jnp.full((3, 3, 1), 0.95)
    moved = FGSM(0.1)(jax.random.key(0), classify, image, jnp.int32(0))
    expected = np.where(WEIGHTS > 0, 1.0, 0.85)
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


def _noise(key):
    """Returns the random signs of an attack whose key this is."""
    return np.sign(jax.random.normal(jax.random.fold_in(key, 0), GREY.shape))


def test_rand_fgsm_by_hand():
    """A random step, then a gradient step with what is left."""
    epsilon, alpha, key = 0.1, 0.03, jax.random.key(5)
    image = RandFGSM(epsilon, alpha)(key, classify, GREY, jnp.int32(0))
    noise = _noise(key)
    expected = 0.5 + alpha * noise + (epsilon - alpha) * np.sign(WEIGHTS)
    np.testing.assert_allclose(image, expected, rtol=1e-6)


@pytest.mark.parametrize("label", [0, 1])
def test_rand_fgsm_at_the_edge_of_the_box_starts_inside_it(label):
    """A start outside would have further to come back in the gradient step."""
    epsilon, alpha, key = 0.1, 0.03, jax.random.key(5)
    image = jnp.where(jnp.arange(9).reshape(3, 3, 1) % 2 == 0, 1.0, 0.0)
    moved = RandFGSM(epsilon, alpha)(key, classify, image, jnp.int32(label))
    start = np.clip(image + alpha * _noise(key), 0, 1)
    gradient = np.sign(WEIGHTS) if label == 0 else -np.sign(WEIGHTS)
    expected = np.clip(start + (epsilon - alpha) * gradient, 0, 1)
    np.testing.assert_allclose(moved, expected, rtol=1e-6, atol=1e-7)


def test_rand_fgsm_differs_by_key():
    attack = RandFGSM(0.1)
    one, two = (attack(jax.random.key(k), classify, GREY, jnp.int32(0)) for k in (0, 1))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fgsm(-0.1)", "FGSM.epsilon is -0.1"),
        ("fgsm(1e999)", "FGSM.epsilon is inf"),
        ("fgsm()", "lacks the argument 'epsilon'"),
        ("fgsm(0.1, loss='hinge')", "known: ce, difference, dlr, margin"),
        ("fgsm(0.1, norm='l2')", "'norm'"),
        ("rand_fgsm(0.01)", "RandFGSM.alpha is 0.05; allowed: 0 to epsilon"),
        ("rand_fgsm(0.1, alpha=-0.1)", "RandFGSM.alpha is -0.1"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)
