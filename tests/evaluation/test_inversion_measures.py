import math

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import (
    auc,
    auc_interval,
    cumulated_passes,
    error_summary,
    mean_best_curve,
    read_solvers,
    separation,
    solvers_to_csv,
    summarise_recovery,
    summarise_repetition,
    summarise_solver,
    wilson_interval,
)
from robust_manifold.inversion import Restarts

# Two images, three restarts, after 0, 1 and 2 steps.
CURVES = np.array(
    [
        [[9.0, 4.0, 2.0], [8.0, 5.0, 1.0], [7.0, 6.0, 1.04]],
        [[6.0, 3.0, 3.0], [5.0, 5.0, 5.0], [np.nan, np.inf, np.inf]],
    ]
)


def summarised(**changes):
    given = {
        "solver": "adam(steps=2)",
        "restarts": "3",
        "passes": 12.0,
        "curves": CURVES,
        "restart_errors": CURVES[..., -1],
    }
    return summarise_solver(**(given | changes))


def test_passes_are_those_of_the_restarts_that_are_followed():
    restarts = Restarts(count=5, halve_at=(2, 3))
    found = cumulated_passes(restarts.segments(5), 2.0)
    np.testing.assert_array_equal(found, [0, 10, 20, 26, 30, 34])
    whole = cumulated_passes(Restarts(count=5).segments(5), 2.0)
    np.testing.assert_array_equal(whole, 10 * np.arange(6))


def test_the_curve_is_the_mean_of_the_images_best_restarts():
    np.testing.assert_array_equal(mean_best_curve(CURVES), [6.0, 3.5, 2.0])


def test_an_image_that_failed_is_left_out_of_the_curve():
    broken = np.concatenate([CURVES, np.full((1, 3, 3), np.nan)])
    np.testing.assert_array_equal(mean_best_curve(broken), mean_best_curve(CURVES))
    assert np.isnan(mean_best_curve(broken[2:])).all()


def test_a_line_sums_up_a_solver():
    line = summarised()
    assert (line.n, line.failed, line.steps, line.passes) == (2, 0, 2, 12.0)
    assert (line.error_mean, line.error_median) == (2.0, 2.0)
    # 1.04 is within 5 % of 1, 2 is not; of the other image only the best is.
    assert line.near_best == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert line.near_best_low <= line.near_best <= line.near_best_high
    low, high = error_summary(np.array([1.0, 3.0]))[2:4]
    assert (line.error_mean_low, line.error_mean_high) == (low, high)


def test_the_basin_is_told_by_other_restarts_than_the_error_where_some_were_dropped():
    whole = np.ones((2, 3))
    line = summarised(restart_errors=whole)
    assert line.near_best == 1 and line.error_mean == 2.0


def test_solvers_without_a_finite_error_have_a_line():
    nothing = np.full((2, 3, 3), np.nan)
    line = summarised(curves=nothing, restart_errors=nothing[..., -1])
    assert line.failed == 2 and line.error_mean is None and line.near_best == 0
    frame = read_solvers(solvers_to_csv([line, summarised()]))
    assert math.isnan(frame["error_mean"][0]) and frame["error_mean"][1] == 2.0
    assert list(frame["restarts"]) == ["3", "3"] and frame["passes"][1] == 12.0


def test_the_distances_are_those_of_the_errors():
    images, projections, again = np.random.default_rng(0).random((3, 5, 4, 3, 2))
    found = summarise_repetition(
        errors=((projections - images) ** 2).mean(axis=(1, 2, 3)),
        again_errors=((again - projections) ** 2).mean(axis=(1, 2, 3)),
        pixels=24,
    )
    norms = np.linalg.norm((again - projections).reshape(5, -1), axis=-1)
    assert found.again_distance == pytest.approx(np.median(norms))
    assert found.again_error == pytest.approx(np.median(norms**2 / 24))
    norms = np.linalg.norm((projections - images).reshape(5, -1), axis=-1)
    assert found.distance == pytest.approx(np.median(norms))
    assert (found.n, found.failed) == (5, 0)


def test_an_image_that_could_not_be_projected_twice_counts_nowhere():
    errors = np.array([0.1, 0.2, np.inf, 9.0])
    again = np.array([0.01, 0.02, 0.0, np.nan])
    found = summarise_repetition(errors=errors, again_errors=again, pixels=4)
    assert (found.n, found.failed) == (4, 2)
    assert found.error == pytest.approx(0.15)
    assert found.again_error == pytest.approx(0.015)
    nothing = summarise_repetition(errors=errors[2:], again_errors=again[2:], pixels=4)
    assert nothing[1:] == (2, None, None, None, None)


def test_recoveries_are_counted_up_to_the_limit():
    latents = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [6.0, 8.0]])
    found = summarise_recovery(
        errors=np.array([0.0, 1e-4, 1.1e-4, np.inf]),
        latents=latents,
        found=latents + np.array([1.0, 0.0]),
    )
    assert (found.n, found.recovered, found.share) == (4, 2, 0.5)
    assert (found.low, found.high) == wilson_interval(2, 4)
    assert found.error_median == pytest.approx(1.05e-4)
    assert found.distance_median == 1.0
    assert found.apart_median == 5.0


def test_what_is_not_finite_is_no_number_of_a_recovery():
    one = np.zeros((1, 2))
    found = summarise_recovery(errors=np.array([np.nan]), latents=one, found=one / 0.5)
    assert found.recovered == 0 and found.error_median is found.apart_median is None


def pairs(errors, clean):
    """Returns the AUC by its definition."""
    larger = errors[:, None] > clean[None]
    return np.mean(larger + 0.5 * (errors[:, None] == clean[None]))


@pytest.mark.parametrize("values", [3, 1000])
def test_the_auc_is_the_share_of_pairs_in_order(values):
    random = np.random.default_rng(values)
    errors = random.integers(values, size=40) / 7
    clean = random.integers(values, size=25) / 7
    assert auc(errors, clean) == pytest.approx(pairs(errors, clean))
    assert auc(clean, errors) == pytest.approx(1 - pairs(errors, clean))
    assert auc(errors, errors) == 0.5


def test_an_error_that_is_not_finite_is_the_largest():
    assert auc(np.array([np.nan, np.inf]), np.array([1.0, 2.0])) == 1.0
    assert auc(np.array([np.nan]), np.array([np.inf])) == 0.5
    with pytest.raises(UsageError, match="0 and 2 errors"):
        auc(np.empty(0), np.ones(2))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.97, 1.0])
def test_the_interval_of_an_auc_is_inside_0_and_1_around_it(share):
    low, high = auc_interval(share, 50, 80)
    assert 0 <= low <= share <= high <= 1 and high - low > 0.01
    mirrored = auc_interval(1 - share, 50, 80)
    assert (1 - high, 1 - low) == pytest.approx(mirrored)
    wider = auc_interval(share, 50, 80, confidence=0.99)
    assert wider.low <= low and high <= wider.high
    narrower = auc_interval(share, 500, 800)
    assert narrower.high - narrower.low < (high - low) / 2


def test_the_interval_of_an_auc_holds_the_true_one_as_often_as_it_says():
    random = np.random.default_rng(0)
    # For normal errors one deviation apart the true AUC is the normal cdf at 1/sqrt(2).
    true, held = 0.7602499, 0
    for _ in range(400):
        share = auc(random.normal(1, 1, 40), random.normal(0, 1, 40))
        low, high = auc_interval(share, 40, 40, 0.9)
        held += low <= true <= high
    assert 0.86 <= held / 400 <= 0.96


def test_quartiles_are_errors_of_the_set():
    clean = np.arange(1.0, 101.0)
    found = separation(clean)
    assert found == (100, 25.0, 50.0, 75.0, None, None, None)
    # Infinite errors take no finite one with them.
    some = separation(np.where(clean > 80, np.nan, clean), clean)
    assert some[:4] == (100, 25.0, 50.0, 75.0)
    far = separation(clean + 1000, clean)
    assert far.auc == far.auc_high == 1 and far.auc_low < 1
    with pytest.raises(UsageError, match="0 images"):
        separation(np.empty(0))
