"""The worst case of each image: what counts at a budget, and what it can never be."""

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import (
    WORST_CASE,
    Budget,
    Outcome,
    adversary_lines,
    adversary_lines_to_csv,
    broken_by,
    budgets_of,
    read_adversary_lines,
    read_results,
    to_csv,
    wilson_interval,
    worst_cases,
)
from robust_manifold.reporting.figures import worst_case_curves

N = 60
CLEAN = Outcome("cnn", "none", "none", "clean", np.array([True, True, True, False]))


def attacked(right, *, norm="linf", epsilon: float | None = 0.1, **changes):
    made = Outcome(
        "cnn", "none", "oblivious", "pgd", np.array(right, bool), norm, epsilon
    )
    return made._replace(**changes)


def drawn(seed):
    """Rows as a run may hold them: with budgets and without, sizes in two norms."""
    random = np.random.default_rng(seed)

    def row(norm, epsilon, adversary="oblivious", defence="none"):
        own = random.uniform(0, 0.4, N) if epsilon is None else np.full(N, epsilon)
        sizes = {norm: own, "l2" if norm == "linf" else "linf": 2 * own}
        return Outcome(
            "cnn", defence, adversary, "a", random.random(N) < 0.8, norm, epsilon, sizes
        )

    rows = [row("linf", e, adv) for e in (0.1, 0.2, 0.3) for adv in ("a", "b")]
    rows += [row("l2", e) for e in (0.2, 0.5)] + [row("l2", None), row("linf", None)]
    clean = Outcome("cnn", "none", "none", "clean", random.random(N) < 0.95)
    return [clean, *rows]


def only_worst(rows, **options):
    """Returns the worst cases without the clean cells before them."""
    cells = worst_cases(rows, **options)
    return [cell for cell in cells if cell.adversary == WORST_CASE]


def test_a_curve_begins_at_the_clean_accuracy():
    """The clean row that is handed in comes back, before its column's budgets."""
    rows = [CLEAN, CLEAN._replace(defence="inc"), attacked([0, 1, 1, 1])]
    cells = worst_cases([*rows, attacked([0, 0, 1, 1], epsilon=0.3)], confidence=0.9)
    found = [(c.defence, c.attack, c.norm, c.epsilon, c.correct) for c in cells]
    assert found == [
        ("none", "clean", "", None, 3),
        ("none", "any_attack(norm='linf', epsilon=0.1)", "linf", 0.1, 2),
        ("none", "any_attack(norm='linf', epsilon=0.3)", "linf", 0.3, 1),
        ("inc", "clean", "", None, 3),
    ]
    clean = cells[0]
    assert (clean.adversary, clean.n, clean.accuracy) == ("none", 4, 0.75)
    interval = (clean.accuracy_low, clean.accuracy_high)
    assert interval == wilson_interval(3, 4, 0.9)
    figure = worst_case_curves(read_results(to_csv(cells)))
    (line,) = figure.axes[0].get_lines()
    np.testing.assert_allclose(line.get_xydata(), [(0, 0.75), (0.1, 0.5), (0.3, 0.25)])


@pytest.mark.parametrize("seed", range(5))
def test_it_is_never_above_clean_or_any_row_inside_its_budget(seed):
    rows = drawn(seed)
    for cell in only_worst(rows):
        for row in rows:
            inside = row.norm == cell.norm and row.epsilon is not None
            if row.attack == "clean" or (inside and row.epsilon <= cell.epsilon):
                assert cell.correct <= row.right.sum()


@pytest.mark.parametrize("seed", range(5))
def test_it_never_rises_with_epsilon_image_by_image(seed):
    rows = drawn(seed)
    for norm in ("linf", "l2"):
        before = np.zeros(N, bool)
        for epsilon in (0.05, 0.1, 0.15, 0.2, 0.3, 0.5):
            broken = broken_by(rows, Budget(norm, epsilon)).any(axis=0)
            assert (before <= broken).all()
            before = broken
    cells = [cell for cell in worst_cases(rows) if cell.norm == "linf"]
    assert [cell.epsilon for cell in cells] == [0.1, 0.2, 0.3]
    assert cells[0].correct >= cells[1].correct >= cells[2].correct


def test_searches_without_a_budget_count_by_each_images_distance():
    sizes = {"l2": np.array([0.5, 1.5, np.nan, 9.0])}
    row = attacked([0, 0, 0, 0], norm="l2", epsilon=None, sizes=sizes)
    broken = broken_by([CLEAN, row], Budget("l2", 1.5))
    assert broken[1].tolist() == [True, True, False, False]
    assert broken[0].tolist() == [False, False, False, True]


def test_rows_of_another_norm_count_where_they_measure_inside():
    sizes = {"linf": np.full(4, 0.1), "l2": np.array([1.0, 2.0, 1.0, 1.0])}
    row = attacked([0, 0, 1, 0], sizes=sizes)
    assert broken_by([row], Budget("l2", 1.5))[0].tolist() == [1, 0, 0, 1]
    # Nothing was measured in this norm.
    assert not broken_by([row], Budget("l1", 1e9)).any()


def test_a_larger_budget_counts_where_it_was_not_used_up():
    row = attacked(
        [0, 0, 0, 0], epsilon=0.3, sizes={"linf": np.array([0.1, 0.2, 0, 1])}
    )
    assert broken_by([row], Budget("linf", 0.1))[0].tolist() == [1, 0, 1, 0]


def test_what_a_budget_allows_counts_however_its_images_are_rounded():
    row = attacked([0, 1, 1, 1], sizes={"linf": np.full(4, 0.1 + 1e-8)})
    assert broken_by([row], Budget("linf", 0.1))[0, 0]


def test_a_distance_that_is_not_a_number_breaks_nothing():
    row = attacked(
        [0, 0, 0, 0], norm="l2", epsilon=None, sizes={"l2": np.full(4, np.nan)}
    )
    known = attacked([1, 1, 1, 1], norm="l2", epsilon=1.0)
    (cell,) = only_worst([CLEAN, known, row])
    assert cell.correct == 3


def test_cells_of_worst_cases_are_lines_of_results():
    rows = [CLEAN, attacked([0, 1, 1, 0]), attacked([1, 0, 1, 1], adversary="unrolled")]
    (cell,) = only_worst(rows, confidence=0.9)
    assert (cell.adversary, cell.attack) == (
        WORST_CASE,
        "any_attack(norm='linf', epsilon=0.1)",
    )
    assert (cell.n, cell.correct) == (4, 1)
    assert (cell.accuracy_low, cell.accuracy_high) == wilson_interval(1, 4, 0.9)
    (line,) = read_results(to_csv([cell])).itertuples()
    assert (line.norm, line.epsilon, line.correct) == ("linf", 0.1, 1)


def test_every_column_is_counted_at_the_budgets_of_all_that_attack_it():
    other = attacked([0, 1, 1, 1], epsilon=0.2, defence="inc")
    rows = [CLEAN, attacked([1, 0, 1, 1]), CLEAN._replace(defence="inc"), other]
    assert budgets_of(rows) == [Budget("linf", 0.1), Budget("linf", 0.2)]
    found = {(c.defence, c.epsilon): c.correct for c in only_worst(rows)}
    # Nothing attacked the second at 0.1: that it is right there was not shown.
    assert found == {("none", 0.1): 2, ("none", 0.2): 2, ("inc", 0.2): 2}


def test_images_left_as_they_are_say_nothing_at_another_budget():
    # Of a misclassified image there is nothing to change: inside any budget it is 0.
    unmoved = {"linf": np.full(4, 0.1), "l2": np.array([2.0, 2.0, 2.0, 0.0])}
    rows = [
        CLEAN,
        attacked([0, 0, 1, 0], sizes=unmoved),
        attacked([1, 1, 1, 0], norm="l2", epsilon=1.5, adversary="latent"),
    ]
    lines = [line for line in adversary_lines(rows) if line.norm == "l2"]
    assert [line.adversary for line in lines] == ["latent", WORST_CASE]


def test_who_breaks_what_alone():
    rows = [
        CLEAN,
        attacked([0, 0, 1, 1], adversary="oblivious"),
        attacked([1, 0, 1, 0], adversary="unrolled"),
        attacked([1, 0, 0, 1], adversary="unrolled"),
        attacked([1, 1, 1, 1], adversary="decision", epsilon=0.3),
    ]
    lines = {(x.epsilon, x.adversary): x for x in adversary_lines(rows)}
    assert set(lines) == {
        *((0.1, name) for name in ("oblivious", "unrolled", WORST_CASE)),
        *((0.3, name) for name in ("oblivious", "unrolled", "decision", WORST_CASE)),
    }
    # Images 0, 1, 2 are right untouched; image 3 is nobody's catch.
    assert [lines[0.1, a].alone for a in ("oblivious", "unrolled", WORST_CASE)] == [
        1,
        1,
        3,
    ]
    assert [lines[0.1, a].correct for a in ("oblivious", "unrolled", WORST_CASE)] == [
        1,
        1,
        0,
    ]
    assert lines[0.3, "decision"].correct == 3 and lines[0.3, "decision"].alone == 0


@pytest.mark.parametrize("seed", range(3))
def test_lines_of_adversaries_bound_the_worst_case(seed):
    rows = drawn(seed)
    lines = adversary_lines(rows)
    worst = {(x.norm, x.epsilon): x for x in lines if x.adversary == WORST_CASE}
    assert {key: x.correct for key, x in worst.items()} == {
        (c.norm, c.epsilon): c.correct for c in only_worst(rows)
    }
    for line in lines:
        together = worst[line.norm, line.epsilon]
        assert together.correct <= line.correct
        assert line.alone <= together.alone


def test_lines_are_written_and_read_back():
    lines = adversary_lines(drawn(0))
    frame = read_adversary_lines(adversary_lines_to_csv(lines))
    assert [tuple(x)[:7] for x in frame.itertuples(index=False)] == [
        tuple(line)[:7] for line in lines
    ]
    np.testing.assert_array_equal(frame["alone"], [line.alone for line in lines])


def test_rows_of_unequal_length_are_refused():
    with pytest.raises(UsageError, match=r"'none' have \[2, 4\] images"):
        worst_cases([CLEAN, attacked([1, 1])])
