import math
from statistics import NormalDist

import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import wilson_interval


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion",
        # Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values(correct, n, low, high):
    interval = wilson_interval(correct, n)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize("n", [1, 2, 10, 500, 10**6])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_closed_form_at_the_ends(n, confidence):
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    nothing, all_of_them = (wilson_interval(k, n, confidence) for k in (0, n))
    assert nothing.low == 0
    assert nothing.high == pytest.approx(z**2 / (n + z**2), rel=1e-12)
    assert all_of_them.low == pytest.approx(n / (n + z**2), rel=1e-12)
    assert all_of_them.high == 1


@pytest.mark.parametrize("correct", range(0, 41, 5))
def test_ends_solve_the_score_equation(correct):
    z, n = NormalDist().inv_cdf(0.975), 40
    share = correct / n
    for p in wilson_interval(correct, n):
        # (share - p)^2 = z^2 p (1 - p) / n defines the ends.
        assert (share - p) ** 2 == pytest.approx(z**2 * p * (1 - p) / n, abs=1e-12)


def test_symmetric_in_right_and_wrong():
    for correct in range(31):
        low, high = wilson_interval(correct, 30)
        mirrored = wilson_interval(30 - correct, 30)
        assert low == pytest.approx(1 - mirrored.high, abs=1e-12)
        assert high == pytest.approx(1 - mirrored.low, abs=1e-12)


def test_monotone_in_correct_n_and_confidence():
    intervals = [wilson_interval(correct, 50) for correct in range(51)]
    for before, after in zip(intervals, intervals[1:], strict=False):
        assert before.low < after.low and before.high < after.high
    widths = [
        high - low for low, high in (wilson_interval(n // 2, n) for n in (4, 40, 400))
    ]
    assert widths == sorted(widths, reverse=True)
    narrow, wide = wilson_interval(9, 10, 0.8), wilson_interval(9, 10, 0.99)
    assert wide.low < narrow.low < 0.9 < narrow.high < wide.high


def test_holds_the_share_and_stays_in_bounds():
    for n in range(1, 30):
        for correct in range(n + 1):
            low, high = wilson_interval(correct, n)
            assert 0 <= low <= correct / n <= high <= 1
            assert high - low > 0


def test_large_counts_approach_the_normal_interval():
    n = 10**8
    low, high = wilson_interval(n // 4, n)
    half = NormalDist().inv_cdf(0.975) * math.sqrt(0.25 * 0.75 / n)
    assert low == pytest.approx(0.25 - half, abs=1e-7)
    assert high == pytest.approx(0.25 + half, abs=1e-7)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 0), "n is 0"),
        ((0, -3), "n is -3"),
        ((4, 3), "correct is 4"),
        ((-1, 3), "correct is -1"),
        ((1, 3, 0.0), "confidence is 0.0"),
        ((1, 3, 1.0), "confidence is 1.0"),
    ],
)
def test_impossible_values_are_refused(arguments, named):
    with pytest.raises(UsageError, match=named):
        wilson_interval(*arguments)
