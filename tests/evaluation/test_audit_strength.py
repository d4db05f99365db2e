"""The check of a worst case by one stronger pass over what it leaves."""

import numpy as np
import pytest

from robust_manifold.evaluation import Budget
from robust_manifold.evaluation.audits.strength import at_all_budgets, stronger_pass

N = 100
BUDGET = Budget("linf", 0.2)


def first(count: int, n: int = N) -> np.ndarray:
    """Returns whether each of n images is among the first so many."""
    return np.arange(n) < count


@pytest.mark.parametrize(
    "n, fallen, verdict",
    [
        (100, 0, "PASS"),
        # Half to the fourth is above .05, half to the fifth below.
        (100, 4, "PASS"),
        (100, 5, "FLAG"),
        # Five of 501 are less than one in a hundred.
        (501, 5, "PASS"),
        (500, 5, "FLAG"),
    ],
)
def test_many_images_more_are_flagged(n, fallen, verdict):
    before = first(70, n)
    check = stronger_pass(before, first(70 - fallen, n), BUDGET, "a stronger attack")
    assert (check.name, check.verdict) == ("stronger pass", verdict)
    assert check.value == pytest.approx(fallen / n)
    assert check.sentence.startswith("At linf 0.2 a stronger pass broke ")


def test_the_sentence_tells_what_did_it_and_what_is_left():
    members = {"unrolled": 3, "no good": 0, "Square": 9, "aimed": 5, "donor": 1}
    check = stronger_pass(first(69), first(51), BUDGET, members)
    assert check.sentence == (
        "At linf 0.2 a stronger pass broke 18 of the 69 images that were left, 18 % of "
        "all 100: 69 % is no worst case, 51 % is nearer to it. They fell to Square "
        "(9); aimed (5); unrolled (3); others (1)."
    )


def test_of_a_part_the_share_of_all_is_estimated():
    # 10 of 40 that were asked, and so about 20 of 80.
    asked = first(40)
    after = first(80) & ~first(10)
    check = stronger_pass(first(80), after, BUDGET, "it", asked)
    assert check.verdict == "FLAG" and check.value == pytest.approx(0.2)
    assert "10 of 40 of the 80 images" in check.sentence
    # What was not asked has not fallen.
    assert stronger_pass(first(80), after, BUDGET, "it", ~first(40)).value == 0


def test_who_was_wrong_before_does_not_count():
    check = stronger_pass(first(10), np.zeros(N, bool), BUDGET, "it", first(N))
    assert check.value == pytest.approx(0.1)
    none = stronger_pass(first(0), first(0), BUDGET, "it")
    assert none.verdict == "SKIPPED" and "linf 0.2" in none.sentence


def test_the_largest_loss_speaks_for_all_budgets():
    small, large, none = (
        stronger_pass(first(60), first(60 - fallen), Budget("linf", epsilon), "it")
        for fallen, epsilon in ((6, 0.1), (9, 0.2), (0, 0.3))
    )
    skipped = stronger_pass(first(0), first(0), Budget("l2", 9.0), "it")
    told = at_all_budgets([small, large, none, skipped])
    assert told.verdict == "FLAG" and told.value == large.value
    assert told.sentence.endswith("So it is at 1 more budget.")
    calm = at_all_budgets([none, none, skipped])
    assert calm.verdict == "PASS"
    assert calm.sentence.endswith("No more of them at 1 more budget.")
    assert at_all_budgets([none]) == none and at_all_budgets([skipped]) == skipped
