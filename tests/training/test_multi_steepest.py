"""Multi steepest descent: which ball is searched, and where that ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import PGD
from robust_manifold.core.errors import UsageError
from robust_manifold.training import CrossEntropy, MultiSteepest
from robust_manifold.training.adversarial import attacked
from tests.training.networks import images, labels, linear, weights

SHAPE = (4, 4, 1)
MODEL = linear(SHAPE, (3,))
PIXELS, CLASSES = 0.3 + 0.4 * images(6, SHAPE), labels(6)
KEY = jax.random.key(0)
ONE = {"linf": 0.0, "l2": 0.0, "l1": 0.0}


def _with_slope(slope):
    """Returns parameters with which class 1 gains by `slope`, the others nothing."""
    w = np.zeros((16, 3), np.float32)
    w[:, 1] = slope
    return {"params": {"w": jnp.asarray(w)}}


def _moved(training, params, classes=CLASSES):
    batch = jnp.asarray(PIXELS), jnp.asarray(classes)
    made = training.attacked(MODEL, params, *batch, KEY)
    return np.asarray(made)


def _sizes(made):
    delta = np.abs(made - PIXELS).reshape(len(made), -1)
    return {
        "linf": delta.max(1),
        "l2": np.sqrt((delta**2).sum(1)),
        "l1": delta.sum(1),
    }


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.4), ("l1", 1.2)])
def test_with_one_ball_it_is_gradient_ascent_in_that(norm, epsilon):
    params = MODEL.init(KEY)
    training = MultiSteepest(steps=8, **(ONE | {norm: epsilon}))
    size = 2.5 * epsilon / 8
    attack = PGD(epsilon, norm, steps=8, step_size=size, random_start=False)
    pixels = jnp.asarray(PIXELS)
    expected = attacked(attack, MODEL, params, pixels, jnp.asarray(CLASSES), KEY)
    np.testing.assert_allclose(_moved(training, params), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("slope", "norm"),
    [
        # The gains of the balls are e |s|_1, e |s|_2 and e |s|_inf.
        (np.ones(16), "linf"),
        (np.eye(16)[0], "l1"),
        (np.r_[np.ones(4), np.zeros(12)], "l2"),
    ],
)
def test_the_ball_that_gains_most_is_taken(slope, norm):
    radii = {"linf": 0.05, "l2": 0.15, "l1": 0.25}
    training = MultiSteepest(steps=12, **radii)
    made = _moved(training, _with_slope(slope), np.zeros(6, np.int32))
    sizes = _sizes(made)
    np.testing.assert_allclose(sizes[norm], radii[norm], rtol=1e-3)
    gained = (made - PIXELS).reshape(6, -1) @ slope
    dual = {
        "linf": np.abs(slope).sum(),
        "l2": np.linalg.norm(slope),
        "l1": np.abs(slope).max(),
    }
    gains = {each: radii[each] * dual[each] for each in radii}
    assert max(gains, key=gains.__getitem__) == norm
    np.testing.assert_allclose(gained, gains[norm], rtol=1e-3)
    others = [each for each in radii if each != norm]
    assert all(np.any(sizes[each] > radii[each]) for each in others)


def test_every_image_ends_in_one_of_the_balls_and_in_the_box():
    radii = {"linf": 0.4, "l2": 1.2, "l1": 4.0}
    made = _moved(MultiSteepest(steps=7, **radii), MODEL.init(KEY))
    inside = [_sizes(made)[norm] <= radii[norm] * (1 + 1e-5) for norm in radii]
    assert np.any(inside, axis=0).all()
    assert made.min() >= 0 and made.max() <= 1


def test_a_step_is_one_of_plain_training_on_the_moved_images():
    optimizer = "momentum(0.1, momentum=0.0)"
    training = MultiSteepest(optimizer, linf=0.1, l2=0.3, l1=1.0, steps=5)
    params = MODEL.init(KEY)
    moved = _moved(training, params)
    told = []
    for each, pixels in ((training, PIXELS), (CrossEntropy(optimizer), moved)):
        state = each.init(MODEL, KEY, 5, start=params)
        state, metrics = each.step(MODEL, 5, KEY, state, pixels, CLASSES)
        told.append((weights(state.params), metrics))
    (ours, metrics), (plain, expected) = told
    np.testing.assert_allclose(ours, plain, atol=1e-6)
    np.testing.assert_allclose(metrics.loss, expected.loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"l1": -1.0}, "MultiSteepest.l1 is -1.0; allowed: a finite number, 0 or more"),
        (ONE, "MultiSteepest.linf is 0.0; allowed: above 0, where l2 and l1 are 0"),
        ({"steps": 0}, "MultiSteepest.steps is 0; allowed: 1 or more"),
        ({"across": 0.0}, "MultiSteepest.across is 0.0; allowed: a finite number abo"),
        ({"sparsity": 2.0}, "MultiSteepest.sparsity is 2.0; allowed: above 0, up to 1"),
    ],
)
def test_what_cannot_be_is_told(fields, sentence):
    with pytest.raises(UsageError, match=sentence):
        MultiSteepest(**fields)
