"""Square attack: its windows, its schedule, and closed forms."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import (
    Problem,
    Square,
    craft,
    hyperplane,
    registry,
    square,
)
from robust_manifold.core import norms
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(0)


def test_bumps_are_those_of_the_paper():
    """Squares of weights 1, 1/4, ... around (0, 1) and (1, 1), cut to 3 columns."""
    upper, lower = np.array([[1.25, 1.25, 1.25]]), np.array([[0.25] * 3] * 2)
    upper[0, [0, 2]], lower[1, 1] = 0.25, 1.25
    expected = np.concatenate(
        [upper / np.linalg.norm(upper), -lower / np.linalg.norm(lower)]
    )
    bumps = square.bumps(3, 3, "l2")
    np.testing.assert_allclose(bumps, expected / np.sqrt(2), rtol=1e-12)
    assert np.abs(square.bumps(7, 7, "l1")).sum() == pytest.approx(1)


def test_the_schedule_is_the_papers():
    attack = Square(0.1, queries=10_000)
    np.testing.assert_array_equal(
        attack._phases, [11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001]
    )
    # Five times fewer queries: every count of the paper's five times sooner.
    np.testing.assert_array_equal(Square(0.1, queries=2000)._phases[:3], [3, 11, 41])
    unscaled = Square(0.1, queries=2000, rescale=False)
    np.testing.assert_array_equal(unscaled._phases, attack._phases)
    # sqrt(0.8 * 28 * 28) = 25.04, and so on; l2 has odd sides of 3 or more.
    sides = [25, 18, 13, 9, 6, 4, 3, 2, 2, 1]
    image = jnp.zeros((28, 28, 1))
    squares = np.stack([sides, sides], axis=1)
    np.testing.assert_array_equal(attack._windows(image), squares)
    odd = [25, 19, 13, 9, 7, 5, 3, 3, 3, 3]
    squares = np.stack([odd, odd], axis=1)
    np.testing.assert_array_equal(Square(1.0, "l2")._windows(image), squares)


def _problem(epsilon):
    image = jnp.full((10, 10, 2), 0.5)
    flat = lambda image: jnp.zeros(2) + 0 * image.sum()  # noqa: E731
    return Problem(flat, image, jnp.int32(0), jnp.float32(epsilon))


def test_stripes_are_vertical_and_at_the_ends():
    first = np.asarray(Square(0.2)._first(_problem(0.2), KEY))
    assert set(np.unique(first)) == set(np.float32([0.3, 0.7]))
    assert (first == first[:1]).all()
    assert not (first == first[:, :1]).all()


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_tiles_fill_the_ball(norm):
    problem = _problem(0.2)
    delta = Square(0.2, norm)._first(problem, KEY) - problem.image
    assert float(norms.norm(delta, norm)) == pytest.approx(0.2, rel=1e-5)
    assert (np.abs(delta) > 1e-6).all()


@pytest.mark.parametrize("shape", [(1, 256), (256, 1), (2, 128), (60, 5), (3, 40)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_windows_of_elongated_images_have_the_promised_area(norm, shape):
    """As many pixels as `p_init` says, to the nearest whole row or column."""
    windows = Square(0.1, norm)._windows(jnp.zeros((*shape, 1)))
    assert (windows >= 1).all() and (windows <= shape).all()
    promised = 0.8 / 2.0 ** np.arange(10) * shape[0] * shape[1]
    longer = np.sqrt(promised) > min(shape) + 1
    assert longer.any()
    left = np.abs(windows.prod(1) - promised)[longer]
    np.testing.assert_array_less(left, min(shape) / 2 + 1e-6)


@pytest.mark.parametrize("shape", [(1, 256), (2, 128), (128, 2), (3, 85), (28, 28)])
def test_the_least_windows_are_of_three_pixels_or_as_many_as_there_are(shape):
    """Wider ones would be too coarse for a change of sign every few pixels."""
    for norm in ("l2", "l1"):
        least = Square(0.1, norm)._windows(jnp.zeros((*shape, 1)))[-1]
        np.testing.assert_array_equal(least, np.minimum(shape, 3))


def test_an_elongated_image_takes_no_more_queries_than_a_square_one():
    """One function of 256 pixels in three shapes; in linf the boundary is at 1/32."""
    waves = np.repeat([1, -1] * 4, 32).astype(np.float32) / 16

    def wavy(params, image):
        return jnp.stack([0.0, image.reshape(-1) @ waves - params])

    queries = {}
    for shape in [(16, 16, 1), (1, 256, 1), (256, 1, 1)]:
        grey = np.full((8, *shape), 0.5, np.float32)
        attack = Square(0.06, queries=400)
        crafted = craft(attack, wavy, 0.5, grey, [0] * 8, key=KEY)
        assert crafted.success.all()
        queries[shape] = np.median(crafted.queries.forwards)
    assert max(queries.values()) == queries[16, 16, 1]


def test_stripes_lie_across_a_long_image():
    """A column of pixels has no two vertical stripes."""
    problem = _problem(0.2)
    tall = dataclasses.replace(problem, image=jnp.full((40, 2, 2), 0.5))
    first = np.asarray(Square(0.2)._first(tall, KEY))
    assert (first == first[:, :1]).all()
    assert not (first == first[:1]).all()


def test_tiles_of_a_row_are_as_long_as_those_of_a_square_are_large():
    """256 pixels: 3 by 3 in a square, 9 in a row, with a bump or with two."""
    row = dataclasses.replace(_problem(0.2), image=jnp.full((1, 256, 1), 0.5))
    delta = np.asarray(Square(0.2, "l2")._first(row, KEY) - 0.5).reshape(-1)
    tiles = np.abs(delta[2:-2].reshape(28, 9))
    upright = np.abs(square.bumps(1, 9, "l2")).reshape(-1)
    lying = np.abs(square.bumps(9, 1, "l2")).reshape(-1)
    tiles /= np.linalg.norm(tiles, axis=1, keepdims=True)
    kinds = [np.abs(tiles - kind).max(1) < 1e-4 for kind in (upright, lying)]
    assert kinds[0].any() and kinds[1].any()
    assert (kinds[0] | kinds[1]).all()


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize(
    "shape",
    [
        (2, 1, 1),
        pytest.param((2, 2, 1), marks=pytest.mark.slow),
        pytest.param((3, 4, 3), marks=pytest.mark.slow),
        (9, 1, 3),
    ],
)
@pytest.mark.parametrize("count", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_small_images_fall_at_1_3_times_the_exact_distance(norm, shape, count):
    """Of a linear classifier in the box, the distance of which is known."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=shape).astype(np.float32)
    images = rng.uniform(size=(8, *shape)).astype(np.float32)[:count]
    scores = np.einsum("nhwc,hwc->n", images - 0.5, weights)
    labels = (scores > 0).astype(int)

    def classify(weights, image):
        score = jnp.sum(weights * (image - 0.5))
        return jnp.stack([0 * score, score])

    ways = np.where(labels[:, None, None, None] == 1, -weights, weights)
    step = functools.partial(hyperplane.step, norm=norm)
    shortest = jax.vmap(step)(images, ways, np.abs(scores))
    assert shortest.reached.all()
    missed = []
    for place, delta in enumerate(shortest.delta):
        attack = Square(1.3 * float(norms.norm(delta, norm)), norm)
        one = slice(place, place + 1)
        crafted = craft(
            attack, classify, weights, images[one], labels[one], key=KEY, tile=1
        )
        if not crafted.success[0]:
            missed.append(place)
    assert not missed


def test_one_window_changes_to_one_end():
    problem = _problem(0.2)
    attack = Square(0.2)
    side = int(attack._windows(problem.image)[2, 0])
    for place in range(20):
        key = jax.random.fold_in(KEY, place)
        image = attack._changed(problem, key, problem.image, jnp.int32(2))
        changed = np.asarray(image != problem.image)
        rows, columns, _ = np.nonzero(changed)
        assert changed.sum() == 2 * side**2
        assert np.ptp(rows) == np.ptp(columns) == side - 1
        # The projection cuts twice the radius to the ball's end.
        step = np.abs(np.asarray(image - problem.image))[changed]
        np.testing.assert_allclose(step, 0.4, rtol=1e-6)


def test_an_l2_change_keeps_the_norm_and_empties_the_second_window():
    problem = _problem(0.2)
    attack = Square(0.2, "l2")
    before = attack._first(problem, KEY)
    emptied = 0
    for place in range(10):
        key = jax.random.fold_in(KEY, place)
        after = attack._changed(problem, key, before, jnp.int32(3))
        size = norms.norm(after - problem.image, "l2")
        assert float(size) == pytest.approx(0.2, rel=1e-5)
        emptied += int(((after == problem.image) & (before != problem.image)).sum())
    assert emptied > 0


@pytest.mark.parametrize(
    ("queries", "sides"),
    [
        (10_000, {0: 25, 10: 25, 11: 18, 50: 18, 51: 13}),
        # A tenth of the queries: as after 0, 10, 20, 50 and 60 of 10,000.
        (1000, {0: 25, 1: 25, 2: 18, 5: 18, 6: 13}),
    ],
)
def test_windows_shrink_with_the_changes_made(queries, sides):
    """Every change raises the loss, and is kept."""
    attack = Square(0.1, queries=queries)
    image = jnp.full((28, 28, 1), 0.5)
    problem = Problem(
        lambda x: jnp.stack([1.0, jnp.sum((x - image) ** 2) / 100]),
        image,
        jnp.int32(0),
        jnp.float32(0.1),
    )

    @jax.jit
    def changed(made):
        clean = problem.objective(attack.loss).candidate(image)
        best = jax.tree.map(lambda leaf: leaf[None], clean)
        state = square.SquareState(best, 1 + made)
        return attack.step(problem, KEY, state).best.image[0] != image

    areas = {made: int(changed(jnp.int32(made)).sum()) for made in sides}
    assert areas == {made: side**2 for made, side in sides.items()}


@pytest.mark.parametrize(("norm", "channels"), [("l2", 2), ("l1", 1)])
def test_a_window_takes_what_the_ball_has_left(norm, channels):
    """What lies outside both windows stays; the first gets all the rest."""
    rng = np.random.default_rng(2)
    delta = jnp.asarray(rng.normal(size=(10, 10, channels)), jnp.float32)
    size = jnp.array([5, 5])
    first = square._window(delta.shape, jnp.array([1, 2]), size)
    second = square._window(delta.shape, jnp.array([4, 4]), size)
    bump = jnp.where(first, jnp.asarray(rng.normal(size=delta.shape), jnp.float32), 0)
    epsilon = 2 * norms.norm(delta, norm)
    after = Square(1.0, norm)._moved(delta, bump, first, second, epsilon)
    outside = np.broadcast_to(~(first | second), delta.shape)
    np.testing.assert_allclose(after[outside], delta[outside], rtol=1e-5)
    assert not after[np.broadcast_to(second & ~first, delta.shape)].any()
    assert float(norms.norm(after, norm)) == pytest.approx(float(epsilon), rel=1e-5)


WEIGHTS = np.random.default_rng(0).normal(size=(6, 6, 1)).astype(np.float32)


def linear(params, image):
    score = params * jnp.sum((image - 0.5) * WEIGHTS)
    return jnp.stack([1.0 - score, score - 1.0])


def test_the_score_of_a_linear_classifier_comes_near_its_maximum():
    """With single pixels in the end, every sign is found."""
    epsilon = 0.9 / np.abs(WEIGHTS).sum()
    grey = np.full((2, 6, 6, 1), 0.5, np.float32)
    attack = Square(float(epsilon), queries=1500)
    crafted = craft(attack, linear, jnp.float32(1), grey, [0, 0], key=KEY)
    score = np.einsum("nhwc,hwc->n", np.asarray(crafted.images) - 0.5, WEIGHTS)
    assert not crafted.success.any()
    assert (score > 0.95 * 0.9).all() and (score <= 0.9 * (1 + 1e-6)).all()
    np.testing.assert_array_equal(crafted.queries.forwards, [1501, 1501])
    np.testing.assert_array_equal(crafted.queries.backwards, [0, 0])
    # Beyond the distance to the boundary it ends at its first success.
    attack = Square(2 * float(epsilon), queries=1500)
    crafted = craft(attack, linear, jnp.float32(1), grey, [0, 1], key=KEY)
    assert crafted.success.all()
    queries = np.asarray(crafted.queries.forwards)
    assert 2 < queries[0] < 1501 and queries[1] == 2
    np.testing.assert_array_equal(crafted.images[1], grey[1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("square(-1)", "Square.epsilon is -1"),
        ("square(0.1, norm='l0')", "Square.norm is 'l0'; allowed: linf, l2 or l1."),
        ("square(0.1, queries=0)", "Square.queries is 0"),
        ("square(0.1, p_init=1.5)", "Square.p_init is 1.5; allowed: above 0"),
        ("square(0.1, restarts=0)", "Square.restarts is 0"),
        ("square(0.1, loss='dlr2')", "'dlr2'"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)
