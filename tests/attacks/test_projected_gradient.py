import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import BIM, PGD, Problem, registry
from robust_manifold.core.errors import UsageError

WEIGHTS = np.random.default_rng(0).normal(size=(3, 3, 1)).astype(np.float32)
KEY = jax.random.key(0)


def linear(image):
    score = jnp.sum(image * WEIGHTS)
    return jnp.stack([-score, score]) / 2


def gain(image, start, label):
    change = linear(image) - linear(start)
    return change[1 - label] - change[label]


@pytest.mark.parametrize(("label", "random_start"), [(0, True), (1, False)])
@pytest.mark.parametrize(
    ("norm", "dual"),
    [
        ("linf", np.abs(WEIGHTS).sum()),
        ("l2", np.linalg.norm(WEIGHTS)),
        ("l1", np.abs(WEIGHTS).max()),
    ],
)
def test_a_linear_margin_rises_by_the_dual_norm(norm, dual, random_start, label):
    grey = jnp.full((3, 3, 1), 0.5)
    # From a random start an l2 step of the default size stops 1 % short.
    attack = PGD(0.1, norm, step_size=0.1, random_start=random_start)
    image = attack(KEY, linear, grey, jnp.int32(label))
    assert gain(image, grey, label) == pytest.approx(0.1 * dual, rel=1e-5)


def test_linf_with_an_active_box_reaches_the_optimum():
    start = jnp.asarray(np.random.default_rng(1).uniform(size=(3, 3, 1)), jnp.float32)
    image = PGD(0.4)(KEY, linear, start, jnp.int32(0))
    best = np.clip(np.asarray(start) + 0.4 * np.sign(WEIGHTS), 0, 1)
    np.testing.assert_allclose(image, best, atol=1e-6)


def test_l1_with_an_active_box_fills_the_pixels_that_gain_most():
    start = jnp.asarray(np.random.default_rng(1).uniform(size=(3, 3, 1)), jnp.float32)
    image = PGD(1.5, "l1", steps=100)(KEY, linear, start, jnp.int32(0))
    weights = np.abs(WEIGHTS).ravel()
    room = np.where(WEIGHTS > 0, 1 - start, start).ravel()
    best, left = 0.0, 1.5
    for place in np.argsort(-weights):
        spent = min(left, room[place])
        best, left = best + spent * weights[place], left - spent
    # A step of 2.5 * 1.5 / 100 goes back and forth about the optimum.
    lost = 0.0375 * weights.max()
    assert best - lost <= gain(image, start, 0) <= best * (1 + 1e-6)


def test_an_l1_step_moves_the_largest_entries_that_the_box_lets_move():
    gradient = jnp.array([9.0, -8.0, 7.0, -6.0, 0.1, 0.0, -1.0, 0.0, 5.0])
    image = jnp.array([1.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0, 0.5, 0.5])
    image, gradient = image.reshape(3, 3, 1), gradient.reshape(3, 3, 1)
    problem = Problem(lambda x: x.ravel(), image, jnp.int32(0), jnp.float32(1.0))
    attack = PGD(1.0, "l1", sparsity=0.3)
    direction, _ = attack.direction(problem, KEY, image, gradient, ())
    # The box holds the first two, which are pushed on, and the seventh, which is not.
    expected = np.array([1, -1, 1, -1, 0, 0, 0, 0, 1]) / 3
    np.testing.assert_allclose(direction.ravel(), expected, rtol=1e-6)


def test_bim_takes_equal_shares_of_the_budget_from_the_image():
    start = jnp.asarray(np.random.default_rng(1).uniform(size=(3, 3, 1)), jnp.float32)
    attempt = BIM(0.4, steps=4).run(KEY, linear, start, jnp.int32(0))
    best = np.clip(np.asarray(start) + 0.4 * np.sign(WEIGHTS), 0, 1)
    np.testing.assert_allclose(attempt.image, best, atol=1e-6)
    assert (int(attempt.forwards), int(attempt.backwards)) == (5, 4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_success_begins_at_the_distance_to_the_boundary(norm):
    grey = jnp.full((3, 3, 1), 0.5)
    label = int(jnp.argmax(linear(grey)))
    dual = np.abs(WEIGHTS).sum() if norm == "linf" else np.linalg.norm(WEIGHTS)
    distance = float(jnp.abs(jnp.sum(grey * WEIGHTS))) / dual
    for factor, flips in [(0.99, False), (1.01, True)]:
        attack = PGD(float(factor * distance), norm, random_start=False)
        image = attack(KEY, linear, grey, jnp.int32(label))
        assert bool(jnp.argmax(linear(image)) != label) is flips


def _window(centre, width):
    """A classifier of one pixel that is wrong only within `width` of `centre`."""

    def classify(image):
        score = width - jnp.abs(image[0, 0, 0] - centre)
        return jnp.stack([0.0 * score, score])

    return classify


PIXEL = jnp.full((1, 1, 1), 0.5)


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_an_earlier_adversarial_iterate_beats_the_last(steps):
    """Steps of 0.1 go 0.5, 0.6, 0.7, 0.6, 0.7; only 0.6 is adversarial."""
    classify = _window(0.62, 0.03)
    attack = PGD(0.4, steps=steps, step_size=0.1, random_start=False)
    image = attack(KEY, classify, PIXEL, jnp.int32(0))
    assert float(image[0, 0, 0]) == pytest.approx(0.6, abs=1e-6)


def test_the_last_iterate_counts():
    attack = PGD(0.4, steps=1, step_size=0.1, random_start=False)
    image = attack(KEY, _window(0.62, 0.03), PIXEL, jnp.int32(0))
    assert float(image[0, 0, 0]) == pytest.approx(0.6, abs=1e-6)


def test_a_misclassified_image_stays_misclassified():
    """The random start leaves the only adversarial spot, which is the image."""
    attack = PGD(0.4, steps=1, step_size=1e-3)
    spot = _window(0.5, 1e-4)
    keys = jax.random.split(KEY, 5)
    images = jax.vmap(lambda key: attack(key, spot, PIXEL, jnp.int32(0)))(keys)
    np.testing.assert_array_equal(images.reshape(-1), [0.5] * 5)


def test_more_restarts_only_add_candidates():
    """Two peaks: one start finds the adversarial one or not, many starts do."""

    def scores(restarts):
        attack = PGD(0.5, steps=20, step_size=0.02, restarts=restarts)
        keys = jax.random.split(KEY, 12)
        images = jax.vmap(lambda k: attack(k, _two_peaks, PIXEL, jnp.int32(0)))(keys)
        return np.asarray(jax.vmap(_two_peaks)(images)[:, 1])

    single, several = scores(1), scores(6)
    assert (several >= single).all()
    assert (several > 0).sum() > (single > 0).sum() > 0


def _two_peaks(image):
    pixel = image[0, 0, 0]
    score = jnp.maximum(-0.1 - jnp.abs(pixel - 0.3), 0.1 - 2 * jnp.abs(pixel - 0.9))
    return jnp.stack([0.0 * score, score])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball(norm):
    """With a flat loss all candidates tie, so look at the start itself."""
    attack = PGD(0.2, norm)
    image = jnp.full((4, 4, 1), 0.5)
    problem = Problem(linear, image, jnp.int32(0), jnp.float32(0.2))
    keys = jax.random.split(KEY, 200)
    starts = jax.vmap(lambda key: attack._start(problem, key))(keys)
    delta = (starts - image[None]).reshape(200, -1)
    size = jnp.abs(delta).max(1) if norm == "linf" else jnp.linalg.norm(delta, axis=1)
    assert float(size.max()) <= 0.2
    # The share of a ball's volume within half its radius is 2**-16.
    assert float(size.min()) > 0.05
    assert float(jnp.abs(delta.mean())) < 0.01


@pytest.mark.parametrize(
    ("restarts", "random_start"), [(1, True), (3, True), (1, False)]
)
def test_queries_are_those_made(restarts, random_start):
    calls = []

    def classify(image):
        jax.debug.callback(lambda _: calls.append(1), image.sum())
        return linear(image)

    attack = PGD(0.1, steps=5, restarts=restarts, random_start=random_start)
    grey = jnp.full((3, 3, 1), 0.5)
    attempt = jax.jit(lambda image: attack.run(KEY, classify, image, jnp.int32(0)))(
        grey
    )
    jax.effects_barrier()
    assert len(calls) == int(attempt.forwards)
    assert int(attempt.backwards) == 5 * restarts


def test_nan_logits_leave_the_image():
    def classify(image):
        return jnp.where(jnp.all(image == 0.5), 1.0, jnp.nan) * jnp.array([1.0, 0.0])

    image = PGD(0.1)(KEY, classify, jnp.full((2, 2, 1), 0.5), jnp.int32(0))
    np.testing.assert_array_equal(image, np.full((2, 2, 1), 0.5, np.float32))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pgd(-1)", "PGD.epsilon is -1.0; allowed: a finite number, 0 or more."),
        ("pgd(0.1, norm='l7')", "'l7'"),
        ("pgd(0.1, norm='l0')", "PGD.norm is 'l0'; allowed: linf or l2 or l1."),
        ("pgd(0.1, sparsity=0.0)", "PGD.sparsity is 0.0; allowed: above 0, up to 1."),
        ("bim(0.1, steps=0)", "BIM.steps is 0; allowed: 1 or more."),
        ("bim(0.1, norm='l2')", "'norm'"),
        ("pgd(0.1, steps=0)", "PGD.steps is 0; allowed: 1 or more."),
        ("pgd(0.1, steps=2.5)", "allowed: a whole number"),
        ("pgd(0.1, step_size=0.0)", "PGD.step_size is 0.0"),
        ("pgd(0.1, restarts=0)", "PGD.restarts is 0"),
        ("pgd(0.1, restarts=2, random_start=False)", "restarts is 2; allowed: 1"),
        ("pgd(0.1, loss='dlr2')", "'dlr2'"),
        ("pdg(0.1)", "Did you mean 'pgd'?"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)
