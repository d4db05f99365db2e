import collections
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import APGD, Expectation, Problem, apgd, craft, registry
from robust_manifold.core.criterion import Targeted
from robust_manifold.core.errors import UsageError
from tests.attacks.hard_cases import most

WEIGHTS = np.random.default_rng(0).normal(size=(3, 3, 1)).astype(np.float32)
KEY = jax.random.key(0)
GREY = jnp.full((3, 3, 1), 0.5)


def linear(image):
    score = jnp.sum(image * WEIGHTS)
    return jnp.stack([-score, score]) / 2


def test_checkpoints_are_those_of_the_paper():
    """Table 7 has them for 100 steps."""
    windows = apgd._timetable(100, "linf").window
    expected = [22, 41, 57, 70, 80, 87, 93, 99]
    np.testing.assert_array_equal(np.flatnonzero(windows), expected)
    np.testing.assert_array_equal(windows[expected], np.diff([0, *expected]))


def test_an_l1_ball_shrinks_in_three_stages():
    table = apgd._timetable(10, "l1")
    np.testing.assert_array_equal(table.radius, [3] * 4 + [2] * 4 + [1] * 5)
    np.testing.assert_array_equal(np.flatnonzero(table.first), [0, 4, 8])
    np.testing.assert_array_equal(np.flatnonzero(table.last), [3, 7, 12])


@pytest.mark.parametrize(
    ("norm", "dual"),
    [
        ("linf", np.abs(WEIGHTS).sum()),
        ("l2", np.linalg.norm(WEIGHTS)),
        ("l1", np.abs(WEIGHTS).max()),
    ],
)
def test_a_linear_margin_rises_by_the_dual_norm(norm, dual):
    attack = APGD(0.1, norm, steps=50)
    attempt = attack.run(KEY, linear, GREY, jnp.int32(0))
    change = linear(attempt.image) - linear(GREY)
    assert change[1] - change[0] == pytest.approx(0.1 * dual, rel=1e-4)
    stages = 3 if norm == "l1" else 1
    assert int(attempt.forwards) == 1 + 50 + stages
    assert int(attempt.backwards) == 50 + stages


def test_l1_fills_the_pixels_that_gain_most():
    start = jnp.asarray(np.random.default_rng(1).uniform(size=(3, 3, 1)), jnp.float32)
    image = APGD(1.5, "l1")(KEY, linear, start, jnp.int32(0))
    weights = np.abs(WEIGHTS).ravel()
    room = np.where(WEIGHTS > 0, 1 - start, start).ravel()
    best, left = 0.0, 1.5
    for place in np.argsort(-weights):
        spent = min(left, room[place])
        best, left = best + spent * weights[place], left - spent
    change = linear(image) - linear(start)
    assert 0.99 * best <= change[1] - change[0] <= best * (1 + 1e-6)


def _last_state(attack, classify, label=0):
    problem = Problem(classify, GREY, jnp.int32(label), jnp.float32(attack.epsilon))
    state = attack.begin(problem, KEY)
    for place in range(attack.iterations):
        state = attack.step(problem, jax.random.fold_in(KEY, place), state)
    return state


def test_steps_are_halved_where_nothing_is_gained():
    """Checkpoints of 10 steps lie at 2, 3, ..., 10."""

    def flat(image):
        return jnp.array([1.0, 0.0]) + 0 * image.sum()

    state = _last_state(APGD(0.1, steps=10), flat)
    assert float(state.step_size) == pytest.approx(0.2 * 2.0**-9)


STEPS = 30
RADIUS = 0.3


class Waves(NamedTuple):
    """A curved loss of few pixels: sums of sines, with its gradient by hand."""

    image: np.ndarray
    start: np.ndarray
    angles: np.ndarray
    heights: np.ndarray

    @classmethod
    def make(cls, seed, shape, waves):
        rng = np.random.default_rng(seed)
        image = rng.uniform(size=shape)
        start = np.clip(image + 0.1 * rng.uniform(-1, 1, shape), 0, 1)
        angles = 5 * rng.normal(size=(waves, image.size))
        return cls(image, start, angles, rng.normal(size=waves))

    def classify(self, image):
        phases = self.angles @ (image - self.image).reshape(-1)
        return jnp.stack([jnp.zeros(()), self.heights @ jnp.sin(phases)])

    def score(self, image):
        phases = self.angles @ (image - self.image).reshape(-1)
        return self.heights @ np.sin(phases)

    def slope(self, image):
        phases = self.angles @ (image - self.image).reshape(-1)
        return ((self.heights * np.cos(phases)) @ self.angles).reshape(image.shape)


def _iterates(attack, waves, steps):
    """Returns what each step leads to, as an array of images."""
    image = jnp.asarray(waves.image)
    problem = Problem(waves.classify, image, jnp.int32(0), jnp.asarray(RADIUS))

    def step(state, _):
        state = attack.step(problem, KEY, state)
        return state, state.image

    def run():
        start = attack.begin(problem, KEY)._replace(image=jnp.asarray(waves.start))
        return jax.lax.scan(step, start, length=steps)[1]

    return np.asarray(jax.jit(run)())


def _transcribed(waves, norm):
    """Algorithm 1 of Croce and Hein 2020, with the checkpoints of its authors' code.

    Returns the iterates, and how often the checkpoints did what.
    """

    def project(x):
        delta = x - waves.image
        if norm == "linf":
            delta = np.clip(delta, -RADIUS, RADIUS)
        else:
            delta = delta * min(1, RADIUS / np.linalg.norm(delta))
        return np.clip(waves.image + delta, 0, 1)

    def steepest(slope):
        return np.sign(slope) if norm == "linf" else slope / np.linalg.norm(slope)

    checkpoints = [0, 6, 11, 15, 18, *range(20, STEPS)]
    events = collections.Counter()
    x = before = best = waves.start
    eta = 2 * RADIUS
    scores, iterates = [waves.score(x)], []
    halved, best_then = True, scores[0]
    for k in range(STEPS):
        if k in checkpoints[1:]:
            then = checkpoints[checkpoints.index(k) - 1]
            rises = sum(scores[i + 1] > scores[i] for i in range(then, k))
            few = rises <= 0.75 * (k - then)
            stuck = not halved and best_then == waves.score(best)
            halved, best_then = few or stuck, waves.score(best)
            events["few, but some"] += few and rises > 0
            events["stuck alone"] += stuck and not few
            events["step kept"] += not halved
            events["back"] += halved and best is not x
            if halved:
                eta, x = eta / 2, best
        z = project(x + eta * steepest(waves.slope(x)))
        share = 0.75 if k else 1
        x, before = project(x + share * (z - x) + (1 - share) * (x - before)), x
        best = x if waves.score(x) > max(scores) else best
        scores.append(waves.score(x))
        iterates.append(x)
    return iterates, events


# In these waves no two scores that are compared are so near that rounding decides.
@pytest.mark.parametrize(("norm", "seed"), [("linf", 312), ("l2", 383)])
def test_every_iterate_is_the_papers(norm, seed):
    with jax.enable_x64(True):
        waves = Waves.make(seed, (2, 2, 1), 6)
        attack = APGD(RADIUS, norm, steps=STEPS)
        images = _iterates(attack, waves, STEPS)
    expected, events = _transcribed(waves, norm)
    assert len(events) == 4 and all(events.values()), events
    np.testing.assert_allclose(images, expected, rtol=0, atol=1e-9)


def _transcribed_l1(waves):
    """The l1 attack of Croce and Hein 2021 (section 3), as `_transcribed`.

    With so few steps every one of them is a checkpoint.
    """

    def project(x, radius):
        delta = x - waves.image
        room = np.where(delta > 0, 1 - waves.image, waves.image)
        low, high = 0.0, np.abs(delta).max()
        change = np.minimum(np.abs(delta), room)
        for _ in range(80 if change.sum() > radius else 0):
            middle = (low + high) / 2
            change = np.minimum(np.maximum(np.abs(delta) - middle, 0), room)
            low, high = (middle, high) if change.sum() > radius else (low, middle)
        return waves.image + np.sign(delta) * change

    def entries(x):
        return int(np.count_nonzero(x - waves.image))

    x = waves.start
    events, iterates = collections.Counter(), []
    for radius, steps in [(3 * RADIUS, 9), (2 * RADIUS, 9), (RADIUS, 12)]:
        best, eta, count = x, radius, entries(x)
        for k in range(steps):
            if k > 0:
                fewer = entries(best) < 0.95 * count
                events["reset"] += fewer and eta < radius
                events["at the least step"] += eta / 1.5 < radius / 10
                eta = radius if fewer else max(eta / 1.5, radius / 10)
                count, x = entries(best), best if fewer else x
            slope = waves.slope(x)
            moved = np.argsort(-np.abs(slope), axis=None)[: -(-2 * count // 3)]
            step = np.zeros(slope.size)
            step[moved] = np.sign(slope.reshape(-1)[moved]) / len(moved)
            x = project(x + eta * step.reshape(x.shape), radius)
            best = x if waves.score(x) > waves.score(best) else best
            iterates.append(x)
        if radius > RADIUS:
            x = project(best, radius - RADIUS)
            iterates.append(x)
    return iterates, events


def test_every_l1_iterate_is_the_papers():
    with jax.enable_x64(True):
        waves = Waves.make(4, (3, 3, 1), 6)
        attack = APGD(RADIUS, "l1", steps=STEPS)
        images = _iterates(attack, waves, STEPS + 2)
    expected, events = _transcribed_l1(waves)
    assert len(events) == 2 and all(events.values()), events
    np.testing.assert_allclose(images, expected, rtol=0, atol=1e-9)


def _four_classes(image):
    """The third class can be reached, the second, though nearer, cannot."""
    pixel = image[0, 0, 0]
    return jnp.stack([0.0 * pixel, 0.0 * pixel - 0.1, 1.3 * (pixel - 0.88), -5 - pixel])


PIXEL = jnp.full((1, 1, 1), 0.5)


@pytest.mark.parametrize(("targets", "breaks"), [(1, False), (2, True)])
def test_targets_are_tried_in_the_order_of_their_logits(targets, breaks):
    attack = APGD(0.4, loss="targeted_dlr", steps=10, targets=targets)
    attempt = attack.run(KEY, _four_classes, PIXEL, jnp.int32(0))
    assert bool(jnp.argmax(_four_classes(attempt.image)) == 2) is breaks
    assert int(attempt.forwards) == 1 + 11 * targets


def test_the_first_success_ends_all_runs():
    settings = {"loss": "targeted_dlr", "steps": 10, "targets": 3, "stop": True}
    attempt = APGD(0.4, **settings).run(KEY, _four_classes, PIXEL, jnp.int32(0))
    assert jnp.argmax(_four_classes(attempt.image)) == 2
    # The first run goes the wrong way, the second finds it.
    assert 1 + 11 < int(attempt.forwards) < 1 + 22


def test_a_targeted_attack_reaches_its_class():
    attack = APGD(0.4, loss="targeted_dlr", steps=10)
    image = attack(KEY, _four_classes, PIXEL, jnp.int32(2), criterion=Targeted())
    assert jnp.argmax(_four_classes(image)) == 2


@pytest.mark.parametrize(
    ("loss", "classes", "targeted", "fitting"),
    [
        ("ce", 2, False, {}),
        ("dlr", 2, False, {"loss": "margin"}),
        ("dlr", 3, False, {}),
        ("targeted_dlr", 3, False, {"loss": "margin"}),
        ("targeted_dlr", 4, False, {"targets": 3}),
        ("targeted_dlr", 10, False, {}),
        ("targeted_dlr", 10, True, {"targets": 1}),
        ("targeted_dlr", 2, True, {"loss": "margin"}),
    ],
)
def test_losses_that_lack_classes_are_replaced(loss, classes, targeted, fitting):
    attack = APGD(0.1, loss=loss)
    expected = dataclasses.replace(attack, **fitting)
    assert attack.for_classes(classes, targeted) == expected


def test_nan_logits_leave_the_image():
    def classify(image):
        return jnp.where(jnp.all(image == 0.5), 1.0, jnp.nan) * jnp.array([1.0, 0.0])

    image = APGD(0.1, steps=10)(KEY, classify, GREY, jnp.int32(0))
    np.testing.assert_array_equal(image, GREY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("apgd(-1)", "APGD.epsilon is -1.0; allowed: a finite number, 0 or more."),
        ("apgd(0.1, norm='l0')", "APGD.norm is 'l0'; allowed: linf or l2 or l1."),
        ("apgd(0.1, loss='hinge')", "'hinge'"),
        ("apgd(0.1, rho=1.0)", "APGD.rho is 1.0; allowed: between 0 and 1."),
        ("apgd(0.1, targets=0)", "APGD.targets is 0; allowed: 1 or more."),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)


def test_pixels_at_the_box_do_not_hold_up_an_l1_search():
    """The steepest go to the box, and what is left of the budget to the next ones."""
    rng = np.random.default_rng(2)
    slopes = rng.normal(size=40)
    images = rng.integers(0, 2, (8, 5, 8, 1)).astype(np.float32)

    def classify(slopes, image):
        return jnp.stack([jnp.float32(100), jnp.sum(image.reshape(-1) * slopes)])

    clean = images.reshape(8, -1)
    made = craft(
        APGD(2.5, "l1", steps=40),
        classify,
        slopes.astype(np.float32),
        images,
        np.zeros(8, int),
        key=jax.random.key(0),
    )
    gained = made.logits[:, 1] - clean @ slopes
    rooms = np.where(slopes > 0, 1 - clean, clean)
    optimum = [most(slopes, room, "l1", 2.5) for room in rooms]
    assert np.min(gained / np.array(optimum)) > 0.95


def test_pixels_of_one_slope_do_not_hold_up_an_l1_search():
    """As where a classifier sees means: equal steps of all would change nothing."""
    slopes = jnp.array([8.0, 4.0] + 14 * [2.0])

    def classify(slopes, image):
        return jnp.stack([jnp.float32(100), jnp.sum(image.reshape(-1) * slopes)])

    made = craft(
        APGD(0.9, "l1", steps=40),
        classify,
        slopes,
        np.zeros((4, 4, 4, 1), np.float32),
        np.zeros(4, int),
        key=jax.random.key(0),
    )
    np.testing.assert_allclose(made.logits[:, 1], 0.9 * 8, rtol=1e-5)


def test_noise_of_the_gradient_averages_out_over_the_steps():
    """Of w.x with noise on w: what is gained of that which the ball has to give."""
    weights = np.random.default_rng(0).normal(size=(8, 8, 1)).astype(np.float32)

    def noisy(params, image, key):
        drawn = weights + params * jax.random.normal(key, weights.shape)
        return jnp.stack([0.0, jnp.sum(drawn * (image - 0.5)) - 100])

    images = np.full((8, 8, 8, 1), 0.5, np.float32)
    gained = {}
    for decay in (0.0, 0.75):
        attack = APGD(0.1, steps=50, decay=decay)
        labels = np.zeros(8, int)
        made = craft(attack, Expectation(noisy), 4.0, images, labels, key=KEY)
        moved = (weights[None] * (np.asarray(made.images) - images)).sum((1, 2, 3))
        gained[decay] = float(moved.mean() / (0.1 * np.abs(weights).sum()))
    assert gained[0.75] > gained[0.0] + 0.1, gained
    # Without noise nothing is lost by it.
    sure = craft(attack, Expectation(noisy), 0.0, images, labels, key=KEY)
    best = images + 0.1 * np.sign(weights)[None]
    np.testing.assert_allclose(sure.images, best, atol=1e-6)
