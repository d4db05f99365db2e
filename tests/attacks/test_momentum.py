import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import BIM, PGD, MomentumPGD, Problem, registry
from robust_manifold.core.errors import UsageError

WEIGHTS = np.random.default_rng(0).normal(size=(3, 3, 1)).astype(np.float32)
KEY = jax.random.key(0)


def curved(image):
    score = jnp.sum(image * WEIGHTS) - jnp.sum((image - 0.4) ** 2)
    return jnp.stack([-score, score])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_memory_it_is_plain_ascent(norm):
    start = jnp.asarray(np.random.default_rng(1).uniform(size=(3, 3, 1)), jnp.float32)
    plain = PGD(0.3, norm, steps=6, step_size=0.07, random_start=False)
    forgetful = MomentumPGD(0.3, norm, steps=6, step_size=0.07, decay=0.0)
    expected = plain(KEY, curved, start, jnp.int32(0))
    image = forgetful(KEY, curved, start, jnp.int32(0))
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_pixels_at_the_box_take_no_share_of_an_l2_step():
    """Half the pixels are held: the others reach the ball's edge all the same."""
    signs = jnp.where(jnp.arange(8) % 2, 1.0, -1.0).reshape(4, 2, 1)

    def classify(image):
        return jnp.stack([jnp.float32(1.99), jnp.sum(image * signs)])

    image = jnp.zeros((4, 2, 1))
    # Four pixels by 0.5 each are at l2 distance 1.
    moved = MomentumPGD(1.0, "l2")(KEY, classify, image, jnp.int32(0))
    np.testing.assert_allclose(moved, jnp.where(signs > 0, 0.5, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("scaling", "second"),
    [
        # 0.5 * [1, 0] + [-0.4, 0.6], and the signs' sum.
        ("l1", [0.1, 0.6]),
        ("steepest", [-0.5, 1.0]),
    ],
)
def test_gradients_are_accumulated_at_one_length(scaling, second):
    attack = MomentumPGD(0.1, decay=0.5, scaling=scaling)
    image = jnp.full((2, 1, 1), 0.5)
    problem = Problem(lambda x: x.ravel(), image, jnp.int32(0), jnp.float32(0.1))
    memory = attack.remember(image)
    for gradient in ([1000.0, 0.0], [-0.02, 0.03]):
        gradient = jnp.array(gradient).reshape(2, 1, 1)
        direction, memory = attack.direction(problem, KEY, image, gradient, memory)
    np.testing.assert_allclose(memory.ravel(), second, rtol=1e-6)
    np.testing.assert_array_equal(direction.ravel(), np.sign(second))


def test_momentum_carries_across_a_plain():
    """From 0.6 to 0.75 nothing changes; adversarial is what lies above."""

    def classify(image):
        pixel = image[0, 0, 0]
        score = jnp.minimum(pixel, 0.6) + jnp.maximum(pixel, 0.75)
        return jnp.stack([jnp.float32(1.4), score])

    pixel = jnp.full((1, 1, 1), 0.5)
    settings = {"steps": 10, "step_size": 0.05}
    still = BIM(0.4, **settings)(KEY, classify, pixel, jnp.int32(0))
    carried = MomentumPGD(0.4, **settings)(KEY, classify, pixel, jnp.int32(0))
    assert float(still[0, 0, 0]) < 0.75 and jnp.argmax(classify(still)) == 0
    assert float(carried[0, 0, 0]) > 0.8 and jnp.argmax(classify(carried)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("momentum_pgd(0.1, norm='l1')", "norm is 'l1'; allowed: linf or l2."),
        ("momentum_pgd(0.1, decay=-1)", "MomentumPGD.decay is -1"),
        ("momentum_pgd(0.1, scaling='l2')", "known: l1, steepest"),
        ("momentum_pgd(0.1, restarts=2)", "restarts is 2; allowed: 1 where"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)
