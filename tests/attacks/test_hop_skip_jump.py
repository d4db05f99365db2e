"""HopSkipJump on linear classifiers, whose nearest adversarial images are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import HopSkipJump, Problem, craft, registry
from robust_manifold.attacks.hop_skip_jump import BISECT, ESTIMATE, JUMP
from robust_manifold.core import norms
from robust_manifold.core.errors import UsageError

WEIGHTS = np.random.default_rng(0).normal(size=(3, 3, 1)).astype(np.float32)
OFFSET = np.float32(-0.5 * WEIGHTS.sum() - 0.2)
KEY = jax.random.key(0)
IMAGES = np.random.default_rng(1).uniform(0.4, 0.6, (4, 3, 3, 1)).astype(np.float32)


def linear(params, image):
    """Labels alone: logits whose size and slope say nothing."""
    positive = params * (jnp.sum(image * WEIGHTS) + OFFSET) > 0
    return jnp.where(positive, jnp.array([-1.0, 1.0]), jnp.array([1.0, -1.0]))


LABELS = (np.einsum("nhwc,hwc->n", IMAGES, WEIGHTS) + OFFSET > 0).astype(int)


@pytest.mark.parametrize(
    ("norm", "dual"),
    [("l2", np.linalg.norm(WEIGHTS)), ("linf", np.abs(WEIGHTS).sum())],
)
def test_a_linear_boundary_is_reached_by_labels_alone(norm, dual):
    attack = HopSkipJump(norm, queries=4000)
    crafted = craft(attack, linear, jnp.float32(1), IMAGES, LABELS, key=KEY)
    optimum = np.abs(np.einsum("nhwc,hwc->n", IMAGES, WEIGHTS) + OFFSET) / dual
    assert crafted.success.all()
    assert (np.asarray(crafted.distance) <= 1.05 * optimum).all()
    np.testing.assert_array_equal(crafted.queries.forwards, [4000] * 4)
    np.testing.assert_array_equal(crafted.queries.backwards, [0] * 4)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_few_pixels_are_bisected_as_finely(norm):
    """The distance is 0.2 for one pixel, to a hundredth of the way."""
    grey = np.full((4, 1, 1, 1), 0.5, np.float32)

    def above(threshold, image):
        sign = jnp.where(image.sum() > threshold, 1.0, -1.0)
        return sign * jnp.array([-1.0, 1.0])

    attack = HopSkipJump(norm, queries=2000)
    crafted = craft(attack, above, jnp.float32(0.7), grey, [0] * 4, key=KEY)
    assert crafted.success.all()
    assert (np.asarray(crafted.distance) <= 1.02 * 0.2).all()


def test_more_queries_only_come_nearer():
    distances = [
        craft(
            HopSkipJump(queries=queries),
            linear,
            jnp.float32(1),
            IMAGES,
            LABELS,
            key=KEY,
        ).distance
        for queries in (30, 400)
    ]
    assert (distances[1] <= distances[0]).all()
    assert distances[1].mean() < 0.5 * distances[0].mean()


def test_without_a_start_the_image_comes_back():
    def constant(params, image):
        return params * jnp.array([1.0, -1.0]) + 0 * image.sum()

    zeros = np.zeros(4, int)
    attack = HopSkipJump(queries=300, starts=7)
    crafted = craft(attack, constant, jnp.float32(1), IMAGES, zeros, key=KEY)
    assert not crafted.success.any()
    np.testing.assert_array_equal(crafted.images, IMAGES)
    np.testing.assert_array_equal(crafted.queries.forwards, [8] * 4)


def test_an_adversarial_image_costs_one_query():
    attack = HopSkipJump(queries=300)
    crafted = craft(attack, linear, jnp.float32(1), IMAGES, 1 - LABELS, key=KEY)
    np.testing.assert_array_equal(crafted.images, IMAGES)
    np.testing.assert_array_equal(crafted.queries.forwards, [1] * 4)


def test_starts_are_pixels_first_and_blocks_later():
    attack = HopSkipJump(starts=10)
    image = jnp.zeros((8, 8, 1))
    problem = Problem(
        lambda x: jnp.array([1.0, -1.0]), image, jnp.int32(0), jnp.float32(0)
    )
    state = attack.begin(problem, KEY)
    for asked, blocks in [(1, False), (5, False), (6, True), (10, True)]:
        state = state._replace(asked=jnp.int32(asked))
        start = attack._start(problem, KEY, state)
        assert bool((start[:2, :2] == start[0, 0, 0]).all()) is blocks
        assert len(np.unique(start)) > 1


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_steps_and_probes_shrink_from_round_to_round(norm):
    attack = HopSkipJump(norm, probes=4, gamma=0.5)
    image = jnp.asarray(IMAGES[0])
    problem = Problem(
        lambda x: linear(1.0, x), image, jnp.int32(LABELS[0]), jnp.float32(0)
    )

    def step(state, place):
        key = jax.random.fold_in(KEY, place)
        after = attack.step(problem, key, state)
        probe = attack._probe(problem, key, after) - after.point
        return after, (after, norms.norm(probe, "l2"))

    def run():
        return jax.lax.scan(step, attack.begin(problem, KEY), jnp.arange(120))[1]

    states, radii = jax.tree.map(np.asarray, jax.jit(run)())
    phases = states.phase
    begun = np.append(True, phases[1:] != phases[:-1])
    far = np.abs(states.point - IMAGES[0])
    if norm == "l2":
        distances = np.sqrt((far**2).sum((1, 2, 3)))
    else:
        distances = far.max((1, 2, 3))
    jumps = begun & (phases == JUMP)
    rounds = states.rounds[jumps]
    np.testing.assert_array_equal(rounds, 1 + np.arange(len(rounds)))
    assert len(rounds) >= 3
    # The distance over the root of the round's number (paper, theorem 3).
    sizes = distances[jumps] / np.sqrt(rounds)
    np.testing.assert_allclose(states.size[jumps], sizes, rtol=1e-5)
    # Probes are as far as the last bisection's start was, times gamma, over 9 pixels.
    reaches = distances[begun & (phases == BISECT)][1 : len(rounds)]
    wanted = np.append(0.1, 0.5 * reaches / 9)
    probing = radii[begun & (phases == ESTIMATE)][: len(rounds)]
    np.testing.assert_allclose(probing, wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hop_skip_jump('l1')", "HopSkipJump.norm is 'l1'; allowed: l2 or linf."),
        ("hop_skip_jump(queries=1)", "HopSkipJump.queries is 1"),
        ("hop_skip_jump(starts=0)", "HopSkipJump.starts is 0"),
        ("hop_skip_jump(probes=0)", "HopSkipJump.probes is 0"),
        ("hop_skip_jump(gamma=0.0)", "HopSkipJump.gamma is 0.0"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)
