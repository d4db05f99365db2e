"""Certified radii: closed forms, other solvers, and steps that do change the class."""

import itertools

import numpy as np
import pytest
import scipy.optimize

from robust_manifold.certification import Codebook, beyond, certify, class_distances
from robust_manifold.certification.codebook import checked
from robust_manifold.certification.half_space import DUAL, ORDER
from robust_manifold.certification.programme import lower_bound
from robust_manifold.certification.radius import _asked, _programme
from robust_manifold.core.errors import UsageError

NORMS = ("l2", "linf", "l1")
CASES = list(itertools.product(NORMS, (False, True)))


def _pixels(*rows):
    """Returns images of one line."""
    return np.array(rows, float)[:, None, :, None]


def _codebook(*rows, labels):
    return Codebook(_pixels(*rows), np.array(labels))


def _random(seed, k=12, n=8, pixels=6, classes=3):
    rng = np.random.default_rng(seed)
    prototypes = rng.random((k, 1, pixels, 1))
    images = rng.random((n, 1, pixels, 1))
    codebook = Codebook(prototypes, np.arange(k) % classes)
    # The class of each image is that of the nearest.
    labels = np.argmin(class_distances(codebook, images), 1)
    return codebook, images, labels


def _length(steps, norm):
    return np.linalg.norm(steps.reshape(len(steps), -1), ORDER[norm], axis=1)


def _gaps(codebook, images, labels):
    """Returns how much nearer, in squares, the nearest other class is than the own."""
    each = np.sum((images[:, None] - codebook.prototypes[None]) ** 2, axis=(2, 3, 4))
    own = labels[:, None] == codebook.labels[None]
    nearest_own = np.where(own, each, np.inf).min(1)
    return nearest_own - np.where(own, np.inf, each).min(1)


@pytest.mark.parametrize("norm", NORMS)
def test_two_prototypes_have_a_closed_form(norm):
    first, second, image = [0.2, 0.3, 0.5], [0.7, 0.4, 0.1], [0.25, 0.4, 0.55]
    codebook = _codebook(first, second, labels=[0, 1])
    gap = np.sum(np.subtract(image, second) ** 2 - np.subtract(image, first) ** 2)
    radius = gap / 2 / np.linalg.norm(np.subtract(first, second), DUAL[norm])
    found = certify(codebook, _pixels(image), [0], norm)
    np.testing.assert_allclose(found.half_space, radius, rtol=1e-9)
    np.testing.assert_allclose(found.lower, radius, rtol=1e-9)
    np.testing.assert_allclose(found.upper, radius, rtol=1e-9)


@pytest.mark.parametrize(("norm", "alone"), [("l2", 0.1**0.5 * 0.8), ("linf", 0.2)])
def test_three_prototypes_have_a_closed_form(norm, alone):
    # Both half-spaces, 1.2 a + 0.4 b >= 0.32 and 1.2 a - 0.4 b >= 0.32, bind: a = 4/15.
    codebook = _codebook([0.2, 0.3], [0.2, 0.7], [0.8, 0.5], labels=[0, 0, 1])
    found = certify(codebook, _pixels([0.2, 0.5]), [0], norm)
    np.testing.assert_allclose(found.half_space, alone, rtol=1e-9)
    np.testing.assert_allclose(found.lower, 4 / 15, rtol=1e-7)
    np.testing.assert_allclose(found.upper, 4 / 15, rtol=1e-7)
    place = found.adversarial.reshape(-1)
    np.testing.assert_allclose(place, [0.2 + 4 / 15, 0.5], atol=1e-7)


def test_one_half_space_of_three_may_be_enough_in_l1():
    codebook = _codebook([0.2, 0.3], [0.2, 0.7], [0.8, 0.5], labels=[0, 0, 1])
    found = certify(codebook, _pixels([0.2, 0.5]), [0], "l1")
    np.testing.assert_allclose(found.half_space, 4 / 15, rtol=1e-9)
    np.testing.assert_allclose(found.lower, 4 / 15, rtol=1e-7)
    np.testing.assert_allclose(found.upper, 4 / 15, rtol=1e-7)


@pytest.mark.parametrize(
    ("norm", "free"), [("l2", 0.09 / 1.8**0.5), ("linf", 0.05), ("l1", 0.075)]
)
def test_a_pixel_at_its_bound_cannot_help(norm, free):
    # -0.6 a + 1.2 b >= 0.09, and the box leaves a >= 0.
    codebook = _codebook([0.4, 0.2], [0.1, 0.8], labels=[0, 1])
    image = _pixels([0.0, 0.3])
    without = certify(codebook, image, [0], norm)
    within = certify(codebook, image, [0], norm, box=True)
    np.testing.assert_allclose(without.lower, free, rtol=1e-9)
    np.testing.assert_allclose(within.lower, 0.075, rtol=1e-7)
    np.testing.assert_allclose(within.upper, 0.075, rtol=1e-7)
    np.testing.assert_allclose(within.half_space, free, rtol=1e-9)


def _reference(codebook, image, label, norm, box):
    """Returns the radius from a general solver, prototype by prototype."""
    n, found = image.size, []
    own = codebook.prototypes[codebook.labels == label].reshape(-1, n)
    limits = np.stack([-image.ravel(), 1 - image.ravel()], 1)
    for other in codebook.prototypes[codebook.labels != label].reshape(-1, n):
        table = 2 * (other - own)
        limit = np.sum((image.ravel() - other) ** 2)
        limit = limit - np.sum((image.ravel() - own) ** 2, 1)
        bounds = limits if box else [(None, None)] * n
        if norm == "l2":
            solved = scipy.optimize.minimize(
                lambda step: step @ step,
                other - image.ravel(),
                jac=lambda step: 2 * step,
                bounds=bounds,
                constraints={
                    "type": "ineq",
                    "fun": lambda step: table @ step - limit,  # noqa: B023
                    "jac": lambda step: table,  # noqa: B023
                },
                method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 500},
            )
            assert solved.success
            found.append(np.sqrt(solved.fun))
            continue
        # Of step and sizes: |step| <= sizes, or all of them one number.
        m = n if norm == "l1" else 1
        size = np.eye(n) if norm == "l1" else np.ones((n, 1))
        rows = [
            np.hstack([-table, np.zeros((len(own), m))]),
            np.hstack([np.eye(n), -size]),
            np.hstack([-np.eye(n), -size]),
        ]
        solved = scipy.optimize.linprog(
            np.append(np.zeros(n), np.ones(m)),
            A_ub=np.concatenate(rows),
            b_ub=np.concatenate([-limit, np.zeros(2 * n)]),
            bounds=[*bounds, *[(0, None)] * m],
        )
        found.append(solved.fun)
    return min(found)


@pytest.mark.parametrize(("norm", "box"), CASES)
def test_radii_are_those_of_another_solver(norm, box):
    codebook, images, labels = _random(0, k=40)
    found = certify(codebook, images, labels, norm, box=box)
    assert found.correct.all()
    wanted = [
        _reference(codebook, image, label, norm, box)
        for image, label in zip(images, labels, strict=True)
    ]
    np.testing.assert_allclose(found.lower, wanted, rtol=1e-6)
    np.testing.assert_allclose(found.upper, wanted, rtol=1e-6)
    assert (found.half_space <= found.lower).all()
    # The programmes matter: on some images one half-space is not enough.
    assert (found.half_space < 0.999 * found.lower).any()


@pytest.mark.parametrize(("norm", "box"), CASES)
def test_the_way_out_is_as_long_as_stated_and_changes_the_class(norm, box):
    codebook, images, labels = _random(1, k=60, n=20, pixels=30)
    found = certify(codebook, images, labels, norm, box=box)
    steps = found.adversarial - images
    np.testing.assert_allclose(_length(steps, norm), found.upper, rtol=1e-9)
    assert (_gaps(codebook, images + 0.999 * steps, labels) < 0).all()
    ends = beyond(codebook, images, labels, found, norm)
    assert (_gaps(codebook, ends, labels) > 0).all()
    assert (_length(ends - images, norm) <= 1.001 * found.upper * (1 + 1e-9)).all()
    np.testing.assert_allclose(found.lower, found.upper, rtol=1e-6)
    if box:
        for within in (found.adversarial, ends):
            assert within.min() >= -1e-12 and within.max() < 1 + 1e-12


def test_a_way_out_that_comes_back_straight_on_changes_the_class_beyond_it():
    # The border is the point that is as far from all three prototypes, a corner that
    # the way leaves again: the second own prototype is farther than the other class.
    image, corner = _pixels([0.4, 0.4]), _pixels([0.6, 0.5])
    codebook = _codebook([0.4, 0.9], [1.0, 0.7], [0.8, 0.9], labels=[0, 0, 1])
    found = certify(codebook, image, [0])
    np.testing.assert_allclose(found.lower, np.sqrt(0.05), rtol=1e-6)
    np.testing.assert_allclose(found.adversarial, corner, rtol=1e-9)
    straight, label = image + 1.001 * (corner - image), np.zeros(1, int)
    assert _gaps(codebook, straight, label) < -1e-5
    ends = beyond(codebook, image, label, found, "l2")
    assert _gaps(codebook, ends, label) > 1e-5
    assert _length(ends - image, "l2") <= 1.001 * found.upper


def test_where_no_way_out_was_sought_none_goes_on():
    codebook, images, labels = _random(1)
    found = certify(codebook, images, labels, exact=False)
    ends = beyond(codebook, images, labels, found, "l2")
    np.testing.assert_array_equal(ends, images)


@pytest.mark.parametrize(("norm", "box"), CASES)
def test_no_step_within_the_radius_changes_the_class(norm, box):
    codebook, images, labels = _random(2, n=5)
    found = certify(codebook, images, labels, norm, box=box)
    rng = np.random.default_rng(3)
    others = codebook.prototypes[rng.integers(0, 12, (200, 5))]
    steps = others - images + 0.3 * rng.normal(size=(200, *images.shape))
    for step in steps:
        step = step * (found.lower / _length(step, norm))[:, None, None, None]
        moved = images + 0.999999 * step
        moved = np.clip(moved, 0, 1) if box else moved
        assert (_gaps(codebook, moved, labels) < 0).all()


@pytest.mark.parametrize(("norm", "box"), CASES)
def test_a_mean_of_half_spaces_is_a_bound_with_any_weights(norm, box):
    codebook, images, labels = _random(4, n=4)
    given = checked(codebook, images, labels)
    rng = np.random.default_rng(5)
    for row, label in enumerate(labels):
        (asked,) = _asked(given, label, np.array([row]), norm)
        for other in range(len(asked.others)):
            programme = _programme(asked, other, box)
            one = Codebook(
                np.concatenate([asked.own, asked.others[[other]]])[:, None, :, None],
                np.append(np.zeros(len(asked.own), int), 1),
            )
            exact = certify(one, images[[row]], [0], norm, box=box).upper[0]
            rows = np.arange(len(asked.own))
            for _ in range(20):
                weights = rng.exponential(size=len(rows))
                assert lower_bound(programme, rows, weights) <= exact


def test_a_wrong_image_and_a_tie_have_radius_0():
    codebook = _codebook([0.0, 0.0], [1.0, 1.0], labels=[0, 1])
    images = _pixels([0.9, 0.9], [0.5, 0.5], [0.25, 0.75], [0.5, 0.5 - 1e-14])
    found = certify(codebook, images, [0, 0, 0, 0])
    assert not found.correct.any()
    for radii in (found.half_space, found.lower, found.upper):
        np.testing.assert_array_equal(radii, 0)
    np.testing.assert_array_equal(found.adversarial, images)


def test_a_class_without_prototypes_is_wrong():
    codebook = _codebook([0.0, 0.0], [1.0, 1.0], labels=[0, 2])
    found = certify(codebook, _pixels([0.1, 0.1]), [1])
    assert not found.correct[0] and found.lower[0] == 0


def test_one_image_that_is_a_prototype_of_two_classes_has_radius_0():
    codebook = _codebook([0.2, 0.2], [0.2, 0.2], [0.9, 0.9], labels=[0, 1, 1])
    found = certify(codebook, _pixels([0.2, 0.3], [0.8, 0.9]), [0, 1])
    np.testing.assert_array_equal(found.correct, [False, True])
    # The farther image's own class has the same prototype, and another beside it.
    assert found.lower[1] > 0


def test_the_stored_numbers_are_certified_not_rounded_ones():
    codebook, images, labels = _random(6)
    stored = Codebook(codebook.prototypes.astype(np.float16), codebook.labels)
    same = Codebook(stored.prototypes.astype(np.float64), codebook.labels)
    first, second = (certify(each, images, labels) for each in (stored, same))
    np.testing.assert_array_equal(first.lower, second.lower)
    other = certify(codebook, images, labels)
    assert not np.array_equal(first.lower, other.lower)


def test_without_programmes_the_half_space_bound_is_the_radius():
    codebook, images, labels = _random(7)
    quick = certify(codebook, images, labels, exact=False)
    np.testing.assert_array_equal(quick.lower, quick.half_space)
    assert np.isinf(quick.upper).all()
    full = certify(codebook, images, labels)
    np.testing.assert_array_equal(quick.half_space, full.half_space)


@pytest.mark.parametrize("norm", NORMS)
def test_the_half_space_bound_is_min_over_others_of_max_over_own(norm):
    codebook, images, labels = _random(8, k=300, n=6)
    flat = codebook.prototypes.reshape(300, -1)
    found = certify(codebook, images, labels, norm, exact=False)
    for image, label, radius in zip(images, labels, found.half_space, strict=True):
        squared = np.sum((image.reshape(-1)[None] - flat) ** 2, 1)
        own = codebook.labels == label
        apart = flat[own][:, None] - flat[~own][None]
        apart = np.linalg.norm(apart, DUAL[norm], axis=2)
        bounds = (squared[~own][None] - squared[own][:, None]) / 2 / apart
        np.testing.assert_allclose(radius, bounds.max(0).min(), rtol=1e-9)


def test_progress_is_told_image_by_image():
    codebook, images, labels = _random(9, n=3)
    told = []
    certify(codebook, images, labels, on_image=lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_what_cannot_be_certified_is_refused():
    codebook, images, labels = _random(9)
    with pytest.raises(UsageError, match="norm is 'l0'; allowed: linf, l2, l1"):
        certify(codebook, images, labels, "l0")
    far = Codebook(codebook.prototypes + 1, codebook.labels)
    with pytest.raises(
        UsageError, match="prototypes of the codebook: .*allowed: .0, 1"
    ):
        certify(far, images, labels)
    with pytest.raises(UsageError, match="images have the shape .*, that of the proto"):
        certify(codebook, images[:, :, :5], labels)
    alone = Codebook(codebook.prototypes, np.ones(12, int))
    with pytest.raises(UsageError, match="labels of the codebook are all .1."):
        certify(alone, images, labels)
