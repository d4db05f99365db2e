import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.attacks import FAB, registry
from robust_manifold.core import norms
from robust_manifold.core.errors import UsageError
from tests.attacks.single import attempt

WEIGHTS = np.random.default_rng(0).normal(size=(3, 3, 1)).astype(np.float32)
GREY = jnp.full((3, 3, 1), 0.5)
DISTANCE = float(0.5 / np.abs(WEIGHTS).sum())
KEY = jax.random.key(0)


def linear(image):
    score = jnp.sum((image - 0.5) * WEIGHTS) + 0.5
    return jnp.stack([-score, score])


@pytest.mark.parametrize(
    "attack",
    [
        FAB(steps=5),
        FAB(steps=5, targets=9),
        FAB(steps=5, targets=1, restarts=3),
    ],
    ids=str,
)
@pytest.mark.parametrize("targeted", [True, False])
def test_it_ends_at_the_boundary(attack, targeted):
    """Two classes have one target, however many are asked for."""
    label = jnp.int32(0 if targeted else 1)
    made = attempt(attack, linear, GREY, label, targeted=targeted)
    assert int(jnp.argmax(linear(made.image))) == 0
    size = float(norms.norm(made.image - GREY, "linf"))
    assert DISTANCE <= size <= 1.01 * DISTANCE
    steps = 5 * attack.restarts
    assert (int(made.forwards), int(made.backwards)) == (1 + 2 * steps + 5, steps)
    assert attack.cost(2) == (made.forwards, made.backwards)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_tie_that_the_label_wins_is_left(norm):
    """The grey image is on the boundary, and is not adversarial."""

    def level(image):
        score = jnp.sum((image - 0.5) * WEIGHTS)
        return jnp.stack([-score, score])

    made = attempt(FAB(norm, steps=5), level, GREY, jnp.int32(0))
    assert int(jnp.argmax(level(made.image))) == 1
    assert 0 < float(norms.norm(made.image - GREY, norm)) < 1e-3


def test_a_budget_ends_the_search_or_bounds_the_image():
    def made(epsilon):
        attack = FAB(steps=5, restarts=2, epsilon=epsilon)
        return attempt(attack, linear, GREY, jnp.int32(1))

    enough, short, nothing = made(1.2 * DISTANCE), made(0.9 * DISTANCE), made(0.0)
    # The very first step crosses the boundary by the factor eta.
    assert int(enough.forwards) == 1 + 2 + 5
    assert int(jnp.argmax(linear(enough.image))) == 0
    assert float(jnp.abs(enough.image - GREY).max()) <= 1.2 * DISTANCE
    np.testing.assert_array_equal(short.image, GREY)
    np.testing.assert_array_equal(nothing.image, GREY)


def _apply(params, image):
    return params * linear(image)


def test_one_grid_serves_all_budgets():
    budgets = [0.0, 0.9 * DISTANCE, 1.2 * DISTANCE]
    made = attacks.craft_grid(
        FAB(steps=5, epsilon=0.1),
        _apply,
        jnp.float32(1.0),
        np.asarray(GREY)[None],
        np.array([1]),
        budgets,
        key=KEY,
    )
    np.testing.assert_array_equal(made.success[:, 0], [False, False, True])


def test_an_adversarial_image_is_left_alone():
    made = attempt(FAB(steps=5), linear, GREY, jnp.int32(0))
    np.testing.assert_array_equal(made.image, GREY)
    assert int(made.backwards) == 0


def test_no_gradient_returns_the_image():
    @jax.jit
    @jax.vmap
    def made(value):
        def flat(image):
            return jnp.stack([1.0, 0.0]) + value * image.sum()

        return FAB(steps=3, restarts=2)(KEY, flat, GREY, jnp.int32(0))

    for image in made(jnp.array([0.0, np.nan])):
        np.testing.assert_array_equal(image, GREY)


def test_targets_find_the_class_that_is_nearest_but_unlikely():
    """The likeliest other class is far, and the nearest is found by its own run."""

    def classify(image):
        change = jnp.sum(image - 0.5)
        return jnp.stack([1.0, 0.5 - 0.2 * change, change])

    def size(targets):
        made = attempt(
            FAB(steps=5, targets=targets), classify, GREY, jnp.int32(0)
        ).image
        return float(norms.norm(made - GREY, "linf"))

    assert size(2) == pytest.approx(1 / 9, rel=0.02)
    assert size(1) == pytest.approx(2.5 / 9, rel=0.02)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fab('l0')", "FAB.norm is 'l0'; allowed: linf or l2 or l1."),
        ("fab(steps=0)", "FAB.steps is 0"),
        ("fab(restarts=0)", "FAB.restarts is 0"),
        ("fab(alpha_max=2.0)", "FAB.alpha_max is 2.0"),
        ("fab(eta=0.9)", "FAB.eta is 0.9"),
        ("fab(beta=0.0)", "FAB.beta is 0.0"),
        ("fab(targets=0)", "FAB.targets is 0"),
        ("fab(epsilon=-1)", "FAB.epsilon is -1.0"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)
