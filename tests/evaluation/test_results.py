import math

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import (
    COLUMNS,
    perturbation_norms,
    read_results,
    summarise,
    to_csv,
    to_frame,
    wilson_interval,
)

LABELS = np.array([3, 1, 4, 1], np.int32)
CLEAN = summarise(
    classifier="small_cnn",
    defence="none",
    adversary="none",
    attack="clean",
    labels=LABELS,
    predictions=LABELS,
)
ATTACKED = summarise(
    classifier="small_cnn",
    defence="invert_and_classify(restarts=4)",
    adversary="oblivious",
    attack="pgd(epsilon=1.5, norm='l2')",
    labels=LABELS,
    predictions=np.array([3, 1, 9, 1]),
    norm="l2",
    epsilon=1.5,
    success=np.array([True, True, True, False]),
    distances=np.array([1.0, 1.5, 1.0, 0.5], np.float32),
    l2=np.array([1.0, 1.5, 1.0, 0.5]),
    linf=np.array([0.25, 0.5, 0.5, 0.25]),
    errors=np.array([0.001, 0.002, 0.003, 0.002]),
    forwards=np.array([40, 40, 10, 40]),
    backwards=np.array([40, 40, 10, 40]),
    label_queries=4800,
    seconds=1.23456,
)
GOLDEN = (
    "classifier,defence,adversary,attack,norm,epsilon,n,correct,accuracy,accuracy_low,"
    "accuracy_high,attack_success,distance_mean,distance_median,l2_mean,linf_mean,"
    "error_mean,forwards_mean,backwards_mean,label_queries,seconds\n"
    "small_cnn,none,none,clean,,,4,4,1.000000,0.510109,1.000000,,,,,,,,,,\n"
    "small_cnn,invert_and_classify(restarts=4),oblivious,"
    "\"pgd(epsilon=1.5, norm='l2')\",l2,1.5,4,3,0.750000,0.300642,0.954413,0.750000,"
    "1.000000,1.000000,1.000000,0.375000,0.00200000,32.500000,32.500000,4800,1.235\n"
)


def test_summary_counts_and_averages():
    assert (ATTACKED.n, ATTACKED.correct, ATTACKED.accuracy) == (4, 3, 0.75)
    assert (ATTACKED.accuracy_low, ATTACKED.accuracy_high) == wilson_interval(3, 4)
    assert ATTACKED.attack_success == 0.75
    assert (ATTACKED.distance_mean, ATTACKED.distance_median) == (1.0, 1.0)
    assert ATTACKED.linf_mean == 0.375
    assert ATTACKED.error_mean == pytest.approx(0.002)
    assert (ATTACKED.forwards_mean, ATTACKED.backwards_mean) == (32.5, 32.5)


def test_what_is_not_given_is_none():
    assert CLEAN.norm == "" and CLEAN.epsilon is None
    after = CLEAN[COLUMNS.index("attack_success") :]
    assert after == (None,) * 10


def test_confidence_reaches_the_interval():
    cell = summarise(
        classifier="c",
        defence="none",
        adversary="none",
        attack="clean",
        labels=LABELS,
        predictions=LABELS + 1,
        confidence=0.5,
    )
    assert (cell.accuracy_low, cell.accuracy_high) == wilson_interval(0, 4, 0.5)


def test_not_finite_entries_leave_the_means_only():
    cell = summarise(
        classifier="c",
        defence="none",
        adversary="oblivious",
        attack="deepfool",
        labels=LABELS,
        predictions=LABELS,
        distances=np.array([1.0, np.inf, 3.0, np.nan]),
        errors=np.full(4, np.nan),
    )
    assert (cell.distance_mean, cell.distance_median) == (2.0, 2.0)
    assert cell.error_mean is None
    assert cell.n == 4


def test_no_images_are_refused():
    with pytest.raises(UsageError, match="n is 0"):
        summarise(
            classifier="c",
            defence="none",
            adversary="none",
            attack="clean",
            labels=LABELS[:0],
            predictions=LABELS[:0],
        )


def test_norms_are_plain():
    images = np.zeros((2, 2, 2, 1), np.float32)
    adversarial = images.copy()
    adversarial[0, 0, 0, 0], adversarial[0, 1, 1, 0] = 0.75, -1.0
    norms = perturbation_norms(images, adversarial)
    assert norms.l2.tolist() == [1.25, 0.0]
    assert norms.linf.tolist() == [1.0, 0.0]


def test_csv_text_is_fixed():
    assert to_csv([CLEAN, ATTACKED]) == GOLDEN


def test_equal_runs_differ_in_the_last_column_only():
    other = ATTACKED._replace(seconds=99.0)
    first, second = (to_csv([CLEAN, cell]).splitlines() for cell in (ATTACKED, other))
    assert first != second
    assert [x.rpartition(",")[0] for x in first] == [
        x.rpartition(",")[0] for x in second
    ]


def test_round_trip():
    frame = read_results(GOLDEN)
    assert tuple(frame.columns) == COLUMNS
    assert frame["defence"].tolist() == ["none", "invert_and_classify(restarts=4)"]
    assert frame["correct"].tolist() == [4, 3]
    assert frame["n"].dtype == np.int64
    assert frame["norm"].tolist() == ["", "l2"]
    assert math.isnan(frame["epsilon"][0]) and frame["epsilon"][1] == 1.5
    assert math.isnan(frame["label_queries"][0]) and frame["label_queries"][1] == 4800
    assert frame["seconds"].dtype == np.float64 and math.isnan(frame["seconds"][0])
    assert frame["accuracy_low"][1] == 0.300642


@pytest.mark.parametrize("text", ["None", "nan", "NA", 'a "b", c\nd', "ℓ∞", ""])
def test_texts_survive(text):
    cell = CLEAN._replace(classifier=text, attack=text)
    frame = to_frame([cell])
    assert frame["classifier"][0] == text and frame["attack"][0] == text


def test_frame_of_no_cells_keeps_the_columns():
    frame = to_frame([])
    assert frame.empty and tuple(frame.columns) == COLUMNS


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "(none)"),
        (GOLDEN.replace("epsilon,n,", "n,", 1), "has the columns"),
        (GOLDEN.replace("1.235", "fast"), "seconds in line 3 .* 'fast'"),
        (GOLDEN.replace(",4,4,", ",4,four,"), "correct in line 2 .* 'four'"),
        (GOLDEN.replace(",4,4,", ",4,5,"), "line 2 .* 5 correct of n = 4"),
        (GOLDEN.replace(",4,4,", ",0,0,"), "line 2 .* 0 correct of n = 0"),
        (GOLDEN.replace(",4,4,1.000000", ",4,4,"), "accuracy in line 2"),
        (GOLDEN[: GOLDEN.rindex("0.375")], "line 3 .* has 16 values"),
    ],
)
def test_damaged_text_is_refused(text, named):
    with pytest.raises(UsageError, match=named):
        read_results(text)
