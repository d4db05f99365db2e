"""Rejection by error: what sets the threshold, and what is counted with it."""

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import (
    auc,
    detection_to_csv,
    read_detection,
    rejection_threshold,
    rejects,
    roc,
    summarise_detection,
    wilson_interval,
)

RANDOM = np.random.default_rng(0)
VALIDATION = RANDOM.lognormal(-5, 0.5, 200)
CLEAN = RANDOM.lognormal(-5, 0.5, 100)
ATTACKED = RANDOM.lognormal(-4, 0.5, 100)


def line(**changes):
    given = {
        "classifier": "cnn",
        "defence": "inc",
        "adversary": "oblivious",
        "attack": "pgd(epsilon=0.1)",
        "norm": "linf",
        "epsilon": 0.1,
        "right": np.arange(100) % 2 == 0,
        "errors": ATTACKED,
        "clean": CLEAN,
        "validation": VALIDATION,
        "false_positive_rate": 0.05,
    }
    return summarise_detection(**(given | changes))


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.29, 0.5])
def test_the_threshold_rejects_that_share_of_the_validation_images(rate):
    threshold = rejection_threshold(VALIDATION, rate)
    assert rejects(VALIDATION, threshold).sum() == round(rate * 200)
    # It is the least such error: one less would reject one more.
    less = np.nextafter(threshold, 0)
    assert rejects(VALIDATION, less).sum() == round(rate * 200) + 1


def test_tied_errors_are_rejected_together_or_not_at_all():
    tied = np.array([1.0, 2.0, 2.0, 2.0])
    assert rejection_threshold(tied, 0.5) == 2
    assert not rejects(tied, 2.0).any()


def test_no_test_image_chooses_the_threshold():
    thresholds = {
        line(errors=errors, clean=clean).threshold
        for errors in (ATTACKED, 100 * ATTACKED, np.full(100, np.nan))
        for clean in (CLEAN, 100 * CLEAN, None)
    }
    assert thresholds == {rejection_threshold(VALIDATION, 0.05)}


def test_what_has_no_finite_error_is_rejected():
    odd = np.array([0.0, np.nan, np.inf, -np.inf])
    assert rejects(odd, 1.0).tolist() == [False, True, True, True]
    assert rejects(odd, np.inf).tolist() == [False, True, True, True]
    assert rejection_threshold(np.array([0.1, np.nan]), 0.0) == np.inf


def test_clean_images_end_well_where_right_and_accepted():
    made = line(attack="clean", adversary="none", errors=CLEAN, clean=None, norm="")
    rejected = CLEAN > made.threshold
    assert made.rejected == rejected.sum() > 0
    assert made.correct == (~rejected & (np.arange(100) % 2 == 0)).sum()
    assert made.auc is None


def test_attacked_images_end_well_where_right_or_rejected():
    made = line()
    rejected = ATTACKED > made.threshold
    assert made.rejected == rejected.sum()
    assert made.correct == (rejected | (np.arange(100) % 2 == 0)).sum()
    assert made.auc == auc(ATTACKED, CLEAN)
    assert (made.rejected_low, made.rejected_high) == wilson_interval(
        made.rejected, 100
    )
    assert (made.accuracy_low, made.accuracy_high) == wilson_interval(made.correct, 100)


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_below_the_curve_is_the_auc(ties):
    errors, clean = ATTACKED.copy(), CLEAN.copy()
    if ties:
        errors, clean = np.round(errors, 2), np.round(clean, 2)
        errors[:3], clean[0] = np.nan, np.inf
    curve = roc(errors, clean)
    for shares in curve:
        assert (shares[0], shares[-1]) == (0, 1) and (np.diff(shares) >= 0).all()
    area = np.trapezoid(curve.true_positives, curve.false_positives)
    np.testing.assert_allclose(area, auc(errors, clean), rtol=1e-12)


def test_images_that_are_all_told_apart_give_the_corner():
    curve = roc(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    corner = (curve.false_positives == 0) & (curve.true_positives == 1)
    assert corner.any()


def test_lines_are_written_and_read_back():
    lines = [line(attack="clean", errors=CLEAN, clean=None, epsilon=None), line()]
    frame = read_detection(detection_to_csv(lines))
    np.testing.assert_allclose(frame["threshold"], lines[0].threshold, rtol=1e-7)
    assert np.isnan(frame["auc"][0]) and np.isnan(frame["epsilon"][0])
    assert frame["rejected"].tolist() == [x.rejected for x in lines]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"false_positive_rate": 1.0}, "false_positive_rate is 1.0"),
        ({"false_positive_rate": -0.1}, "false_positive_rate is -0.1"),
        ({"validation": np.empty(0)}, "validation holds 0 errors"),
    ],
)
def test_what_sets_no_threshold_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        line(**changes)


def test_a_curve_of_nothing_is_refused():
    with pytest.raises(UsageError, match="0 and 1 errors"):
        roc(np.empty(0), np.ones(1))
