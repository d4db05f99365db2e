"""The worst of some rows: who breaks an image first, and where its cost is told."""

import numpy as np

from robust_manifold.evaluation import Budget, Outcome, sizes
from robust_manifold.evaluation.cascades.judged import Verdict
from robust_manifold.robustness.rows import _Row, _worst
from robust_manifold.robustness.subject import Part

CLEAN = np.full((3, 2, 2, 1), 0.5, np.float32)
PART = Part(CLEAN, np.zeros(3, int), np.arange(3))
SMALL, LARGE, OTHER = Budget("linf", 0.1), Budget("linf", 0.2), Budget("l2", 0.3)


def row(name, wrong, margin, moved, norm="linf", epsilon=None, cost=0):
    images = CLEAN + np.float32(moved)
    measured = {each: sizes(CLEAN, images, each) for each in ("linf", "l2")}
    wrong = np.array(wrong, bool)
    outcome = Outcome("", "", name, name, ~wrong, norm, epsilon, measured)
    verdict = Verdict(wrong.astype(float), np.array(margin, float))
    return _Row(name, outcome, images, verdict, cost, 10 * cost, 0.5)


ROWS = [
    row("clean", [1, 0, 0], [1, -3, -3], 0, norm=""),
    row("small", [1, 1, 0], [1, 1, -2], 0.1, epsilon=0.1, cost=4),
    row("large", [1, 1, 1], [1, 1, 1], 0.2, epsilon=0.2, cost=5),
    row("nearest", [0, 0, 1], [-1, -1, 2], 0.05, norm="l2", cost=6),
]


def at(budget, first=False):
    found = _worst(ROWS, budget, PART, first)
    names = [share.member for share in found.shares]
    return found, [names[place] for place in found.member]


def test_who_comes_first_breaks_an_image_and_the_next_have_what_is_left():
    found, members = at(LARGE)
    assert members == ["clean", "small", "large"] and found.broken.all()
    assert [share[:3] for share in found.shares] == [
        ("clean", 3, 1),
        ("small", 2, 1),
        ("large", 1, 1),
        ("nearest", 0, 0),
    ]
    np.testing.assert_array_equal(found.images[2], ROWS[2].images[2])


def test_a_row_counts_where_its_images_lie():
    found, members = at(SMALL)
    # The large one does not; that of another norm is near enough.
    assert members == ["clean", "small", "nearest"]
    found, members = at(Budget("linf", 0.01))
    assert [share.member for share in found.shares] == ["clean"]
    assert list(found.broken) == [True, False, False]
    np.testing.assert_array_equal(found.images, CLEAN)


def test_what_is_left_is_shown_at_its_worst():
    without = [*ROWS[:2], row("weak", [0, 0, 0], [-5] * 3, 0.1, epsilon=0.1)]
    found = _worst(without, SMALL, PART, False)
    assert found.margin[2] == -2 and found.shares[found.member[2]].member == "small"


def test_what_a_row_has_cost_is_told_once_at_its_own_budget():
    balls = (SMALL, LARGE, OTHER)
    costs = {
        budget: {
            share.member: share.forwards
            for share in at(budget, budget == SMALL)[0].shares
            if share.forwards
        }
        for budget in balls
    }
    assert costs == {SMALL: {"small": 4, "nearest": 6}, LARGE: {"large": 5}, OTHER: {}}
