"""Errors of a regression: closed forms of their summaries and of worst cases."""

import math

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import errors
from robust_manifold.evaluation.worst_case import Budget, Outcome

TEXTS = {"classifier": "cnn", "defence": "none", "adversary": "none", "attack": "clean"}


def test_an_error_is_the_distance_from_the_target_the_shorter_way_round():
    outputs = np.array([[1.0, 2.0], [4.0, 6.0], [np.nan, 0.0], [np.inf, 0.0]])
    found = errors.absolute_errors(outputs, np.array([[1.0, 2.0]] * 4))
    np.testing.assert_array_equal(found, [0, 5, np.inf, np.inf])
    angles = errors.absolute_errors(np.array([[355.0]]), np.array([[5.0]]), 360.0)
    np.testing.assert_allclose(angles, [10])


def test_the_bootstrap_of_a_mean_is_near_its_normal_interval_and_the_same_each_time():
    values = np.random.default_rng(0).exponential(5.0, 400)
    low, high = errors.bootstrap_mean(values)
    assert (low, high) == errors.bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    np.testing.assert_allclose(
        (low, high), values.mean() + np.array([-half, half]), 0.02
    )
    assert errors.bootstrap_mean(np.full(5, 3.0)) == (3.0, 3.0)
    assert errors.bootstrap_mean(np.array([1.0, np.inf])).high == math.inf


def test_a_percentile_is_an_error_that_an_image_has():
    values = np.arange(1, 101)[::-1] * 1.0
    assert errors.percentile(values) == 95
    assert errors.percentile(values, 0.5) == 50
    assert errors.percentile(np.array([7.0])) == 7


def test_order_statistics_hold_the_percentile_as_often_as_they_say():
    drawn = np.random.default_rng(1)
    truth = -math.log(0.05)  # of the exponential distribution
    held = 0
    for _ in range(1000):
        low, high = errors.percentile_interval(drawn.exponential(size=200))
        held += low <= truth <= high
    assert 0.94 <= held / 1000 <= 0.99


def test_of_too_few_images_a_percentile_has_no_upper_end():
    assert errors.percentile_interval(np.arange(20.0)).high == math.inf
    line = errors.summarise_errors(np.arange(20.0), bound=9.0, **TEXTS)
    assert line.tail_high is None and line.beyond == 10 and line.share == 0.5
    with pytest.raises(UsageError, match="0 images"):
        errors.summarise_errors(np.zeros(0), bound=1.0, **TEXTS)


def test_lines_are_read_as_they_were_written():
    lines = [
        errors.summarise_errors(np.arange(9.0), bound=2.5, **TEXTS),
        errors.summarise_errors(
            np.arange(200.0), bound=2.5, norm="l2", epsilon=1.5, seconds=3.0, **TEXTS
        ),
    ]
    frame = errors.read_errors(errors.errors_to_csv(lines))
    assert [*frame["n"]] == [9, 200] and [*frame["beyond"]] == [6, 197]
    assert math.isnan(frame["tail_high"][0]) and frame["epsilon"][1] == 1.5
    np.testing.assert_allclose(frame["mean"], [4, 99.5])


def outcome(values, attack="clean", adversary="none", epsilon=None, sizes=None):
    named = TEXTS | {"attack": attack, "adversary": adversary}
    norm = "" if epsilon is None else "linf"
    right = np.array(values) <= 1
    of = Outcome(**named, right=right, norm=norm, epsilon=epsilon, sizes=sizes or {})
    return of, np.array(values, float)


def test_the_worst_case_has_of_each_image_the_largest_error_inside_the_budget():
    rows = [
        outcome([1, 5, 0]),
        outcome([2, 2, 3], "a", "oblivious", 0.1, {"linf": np.full(3, 0.1)}),
        outcome([9, 1, 4], "b", "cascade", 0.2, {"linf": np.array([0.2, 0.2, 0.05])}),
    ]
    small, large = errors.worst_errors(rows, bound=4.0)
    # The third image of the larger budget moved so little that it counts at both.
    assert small.epsilon == 0.1 and small.mean == pytest.approx((2 + 5 + 4) / 3)
    assert large.epsilon == 0.2 and large.mean == pytest.approx((9 + 5 + 4) / 3)
    assert (small.adversary, small.beyond, large.beyond) == ("worst case", 1, 2)
    assert large.tail == 9
    assert errors.largest_errors(rows, Budget("l2", 1.0)) is None
    assert errors.worst_errors(rows[:1], bound=1.0) == []
