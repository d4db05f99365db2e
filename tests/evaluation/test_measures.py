import numpy as np
import pytest
import scipy.stats

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import (
    class_coverage,
    density_coverage,
    error_summary,
    frechet_distance,
    measures,
    neighbours,
    precision_recall,
)

RNG = np.random.default_rng(0)


def standardised(n, d):
    """Features of mean exactly 0 and covariance exactly the identity."""
    raw = RNG.normal(size=(n, d))
    raw -= raw.mean(axis=0)
    q, _ = np.linalg.qr(raw)
    return q * np.sqrt(n - 1)


def test_gaussians_of_commuting_covariances_have_a_closed_form():
    white = standardised(400, 5)
    left, right = np.array([1, 2, 3, 0.5, 0]), np.array([2, 1, 0, 0.5, 4])
    shift = np.array([3.0, 0, -1, 0, 0.5])
    # |m - m'|^2 + sum (s - s')^2 for diagonal covariances s^2.
    expected = np.sum(shift**2) + np.sum((left - right) ** 2)
    found = frechet_distance(white * left, standardised(900, 5) * right + shift)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 8), (20, 300, 40), (6, 9, 40)])
def test_agrees_with_matrix_square_roots(n, m, d):
    real = RNG.normal(size=(n, d)) @ RNG.normal(size=(d, d))
    fake = RNG.normal(size=(m, d)) @ RNG.normal(size=(d, d)) + 1
    first, second = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    shift = real.mean(axis=0) - fake.mean(axis=0)
    expected = shift @ shift + np.trace(first) + np.trace(second) - 2 * common
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-6)


def test_the_distance_is_symmetric_and_zero_for_the_same_set():
    real, fake = RNG.normal(size=(50, 6)), RNG.normal(size=(70, 6)) ** 3
    assert frechet_distance(real, fake) == pytest.approx(frechet_distance(fake, real))
    assert 0 <= frechet_distance(real, real) < 1e-10
    assert 0 <= frechet_distance(real, RNG.permutation(real)) < 1e-10
    rotation, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
    assert frechet_distance(real @ rotation, fake @ rotation) == pytest.approx(
        frechet_distance(real, fake)
    )


def test_single_precision_is_enough():
    real, fake = RNG.normal(size=(2, 300, 20)).astype(np.float32)
    wide = frechet_distance(real.astype(float), fake.astype(float))
    assert frechet_distance(real, fake) == wide


def naive(real, fake, k):
    """Precision, recall, density and coverage, written down as their definitions."""

    def radius(points, i):
        others = [p for j, p in enumerate(points) if j != i]
        return sorted(np.linalg.norm(points[i] - p) for p in others)[k - 1]

    balls = [radius(real, i) for i in range(len(real))]
    fake_balls = [radius(fake, j) for j in range(len(fake))]
    inside = [
        [np.linalg.norm(x - y) <= ball for y in fake]
        for x, ball in zip(real, balls, strict=True)
    ]
    around = [
        [np.linalg.norm(x - y) <= ball for x in real]
        for y, ball in zip(fake, fake_balls, strict=True)
    ]
    return (
        np.mean([any(row[j] for row in inside) for j in range(len(fake))]),
        np.mean([any(row[i] for row in around) for i in range(len(real))]),
        sum(map(sum, inside)) / (k * len(fake)),
        np.mean([any(row) for row in inside]),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block", [1, 1000, 2**22])
def test_manifolds_are_those_of_a_loop_whatever_the_chunk(monkeypatch, k, block):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    random = np.random.default_rng(k)
    real = random.normal(size=(60, 3)) + 5
    fake = 0.7 * random.normal(size=(45, 3)) + 5.8
    precision, recall, density, coverage = naive(real, fake, k)
    assert 0 < recall < 1 and 0 < coverage < 1 and density != 1
    assert precision_recall(real, fake, k) == pytest.approx((precision, recall))
    assert density_coverage(real, fake, k) == pytest.approx((density, coverage))


def test_a_set_lies_on_its_own_manifold():
    real = RNG.normal(size=(80, 4))
    assert precision_recall(real, real) == (1, 1)
    density, coverage = density_coverage(real, real, k=5)
    assert coverage == 1
    # Each ball holds its centre and, up to ties, the k nearest others.
    assert 1 <= density <= 6 / 5


def test_sets_far_apart_share_nothing():
    real, fake = RNG.normal(size=(40, 4)), RNG.normal(size=(40, 4)) + 100
    assert precision_recall(real, fake) == (0, 0)
    assert density_coverage(real, fake) == (0, 0)


def test_a_collapsed_generator_is_precise_and_nothing_else():
    real = RNG.normal(size=(200, 4))
    fake = np.repeat(real[:1], 200, axis=0)
    precision, recall = precision_recall(real, fake)
    assert precision == 1
    # Balls of no radius hold the one real image that all samples copy.
    assert recall == 1 / 200
    assert density_coverage(real, fake).coverage < 0.2


@pytest.mark.parametrize("measure", [frechet_distance, precision_recall])
def test_features_that_cannot_be_measured_are_refused(measure):
    good = RNG.normal(size=(20, 3))
    bad = good.copy()
    bad[3, 1] = np.nan
    with pytest.raises(UsageError, match="fake holds features that are not finite"):
        measure(good, bad)
    with pytest.raises(UsageError, match="real holds 1 images"):
        measure(good[:1], good)


def test_more_neighbours_than_images_are_refused():
    with pytest.raises(UsageError, match="k is 20; allowed: 1 to 19"):
        density_coverage(RNG.normal(size=(20, 3)), RNG.normal(size=(5, 3)), k=20)


@pytest.mark.parametrize(
    ("counts", "covered"), [((500, 300, 200), 3), ((958, 42, 0), 2), ((960, 33, 7), 1)]
)
def test_a_class_needs_a_tenth_of_its_share(counts, covered):
    # A thirtieth of 1,000 images: 34 are enough, 33 are not.
    predictions = np.repeat(np.arange(3), counts)
    found = class_coverage(predictions, 3)
    assert found.covered == covered and found.share == covered / 3
    np.testing.assert_allclose(found.distribution, np.array(counts) / 1000)


def test_images_of_no_class_count_in_all_but_in_no_class():
    found = class_coverage(np.array([-1, -1, 0, 1]), 2)
    assert found.distribution.tolist() == [0.25, 0.25] and found.covered == 2
    assert class_coverage(np.array([-1]), 2).covered == 0


@pytest.mark.parametrize(
    ("predictions", "classes", "named"),
    [([], 3, "0 images"), ([0, 3], 3, r"\[0, 3\]; allowed: 0 to 2"), ([-2], 3, "-2")],
)
def test_impossible_classes_are_refused(predictions, classes, named):
    with pytest.raises(UsageError, match=named):
        class_coverage(np.array(predictions, int), classes)


def test_summary_of_known_errors():
    summary = error_summary(np.arange(101) / 100)
    assert (summary.mean, summary.median, summary.p95) == pytest.approx(
        (0.5, 0.5, 0.95)
    )
    assert summary.mean_low < 0.5 < summary.mean_high
    # The bootstrap's spread is that of the mean: sd / sqrt(n).
    half = 1.96 * np.std(np.arange(101) / 100) / np.sqrt(101)
    assert summary.mean_high - summary.mean_low == pytest.approx(2 * half, rel=0.1)


@pytest.mark.parametrize("quantile", [0.5, 0.95])
@pytest.mark.parametrize("n", [5, 40, 72, 1000])
def test_order_statistics_hold_the_confidence_and_no_more(quantile, n):
    ordered = np.arange(1, n + 1).astype(float)
    low, high = measures._order_interval(ordered, quantile, 0.95)
    below = scipy.stats.binom(n, quantile)
    # P(x_(l) > q) = P(B < l) and P(x_(u) < q) = P(B >= u), each at most 2.5 %.
    if low is not None:
        assert below.cdf(low - 1) <= 0.025 < below.cdf(low)
    else:
        assert below.cdf(0) > 0.025
    if high is not None:
        assert below.sf(high - 1) <= 0.025 < below.sf(high - 2)
    else:
        assert below.sf(n - 1) > 0.025


def test_published_ranks_of_the_median():
    # Conover, "Practical Nonparametric Statistics", from the binomial table: the 95 %
    # interval of the median of 20 lies between the 6th and the 15th value.
    assert measures._order_interval(np.arange(1.0, 21.0), 0.5, 0.95) == (6, 15)


def test_intervals_of_the_median_cover_it_as_often_as_they_say():
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        summary = error_summary(random.lognormal(size=60))
        hits += summary.median_low <= 1 <= summary.median_high
    assert hits >= scipy.stats.binom(300, 0.95).ppf(0.001)


def test_too_few_errors_leave_an_end_open():
    summary = error_summary(np.arange(20.0))
    assert summary.p95_high is None and summary.p95_low is not None
    assert error_summary(np.arange(72.0)).p95_high == 71
    one = error_summary(np.array([0.25]))
    assert one[:4] == (1, 0.25, 0.25, 0.25)
    assert (one.median_low, one.median_high) == (None, None)


def test_errors_that_are_not_finite_are_left_out():
    summary = error_summary(np.array([1.0, np.nan, 3.0, np.inf]))
    assert (summary.n, summary.mean, summary.median) == (2, 2.0, 2.0)


def test_equal_errors_have_no_spread_and_repeat():
    equal = error_summary(np.full(100, 0.1, np.float32))
    assert equal.mean_low == equal.mean == equal.mean_high
    errors = RNG.lognormal(size=500)
    assert error_summary(errors) == error_summary(RNG.permutation(errors))


def test_large_sets_are_resampled_in_parts(monkeypatch):
    errors = RNG.lognormal(size=300)
    whole = error_summary(errors)
    monkeypatch.setattr(measures, "_BLOCK", 100)
    assert error_summary(errors) == whole


@pytest.mark.parametrize(
    ("errors", "confidence", "named"),
    [
        ([], 0.95, "no finite value"),
        ([np.nan], 0.95, "no finite value"),
        ([1.0], 1.0, "confidence is 1.0"),
    ],
)
def test_errors_that_cannot_be_summarised_are_refused(errors, confidence, named):
    with pytest.raises(UsageError, match=named):
        error_summary(np.array(errors, float), confidence)
