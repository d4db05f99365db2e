"""Unions of balls: counted image by image, and never where nothing was tried."""

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import (
    Outcome,
    Union,
    read_unions,
    union_lines,
    unions,
    unions_to_csv,
)

UNION = Union(linf=0.3, l2=1.5)
CLEAN = Outcome("cnn", "none", "none", "clean", np.array([1, 1, 1, 1, 1, 0], bool))


def _row(norm, epsilon, right, **more):
    attack = f"pgd(epsilon={epsilon}, norm={norm!r})"
    right = np.array(right, bool)
    return Outcome("cnn", "none", "unrolled", attack, right, norm, epsilon, **more)


LINF = _row("linf", 0.3, [1, 0, 1, 0, 1, 1])
L2 = _row("l2", 1.5, [1, 1, 0, 0, 1, 1])


def _shown(lines):
    return {(line.norm, line.epsilon): (line.correct, line.alone) for line in lines}


def test_an_image_is_right_in_a_union_if_it_is_right_in_every_ball():
    lines = union_lines([CLEAN, LINF, L2], [UNION])
    # The last image is wrong untouched, so in both balls, as is the fourth.
    assert _shown(lines) == {
        ("linf", 0.3): (3, 1),
        ("l2", 1.5): (3, 1),
        ("", None): (2, 2),
    }
    union = lines[-1]
    assert (union.n, union.accuracy) == (6, 2 / 6)
    assert union.accuracy_low == pytest.approx(0.0968, abs=1e-3)
    assert union.accuracy_high == pytest.approx(0.7, abs=1e-3)


def test_a_smaller_ball_counts_and_a_larger_one_does_not():
    smaller, larger = _row("linf", 0.1, [0, 1, 1, 1, 1, 1]), _row("linf", 0.4, [0] * 6)
    lines = union_lines([CLEAN, LINF, L2, smaller, larger], [UNION])
    assert _shown(lines)["", None] == (1, 2)


def test_an_image_counts_in_every_ball_that_holds_it_whoever_made_it():
    sizes = {"l2": np.array([1.4, 9, 9, 9, 9, 9])}
    held = _row("linf", 0.5, [0] * 6, sizes=sizes)
    lines = union_lines([CLEAN, LINF, L2, held], [UNION])
    assert _shown(lines)["l2", 1.5] == (2, 2)


def test_columns_and_unions_are_counted_apart():
    other = [row._replace(defence="inc") for row in (CLEAN, LINF, L2)]
    lines = union_lines([CLEAN, LINF, L2, *other], [UNION, Union(linf=0.3, l2=2.0)])
    assert len(lines) == 2 * 2 * 3
    assert {line.defence for line in lines} == {"none", "inc"}


def test_a_ball_that_nothing_searched_is_refused():
    with pytest.raises(UsageError, match="has l1 12, where nothing attacked 'none'"):
        union_lines([CLEAN, LINF, L2], [Union(linf=0.3, l1=12)])
    with pytest.raises(UsageError, match=r"has linf 0\.2, where nothing"):
        union_lines([CLEAN, LINF, L2], [Union(linf=0.2, l2=1.5)])


def test_lines_are_read_as_they_were_written():
    lines = union_lines([CLEAN, LINF, L2], [UNION])
    frame = read_unions(unions_to_csv(lines))
    assert frame["correct"].tolist() == [3, 3, 2]
    assert frame["union"].unique().tolist() == ["union(linf=0.3, l2=1.5)"]
    assert frame["norm"].tolist() == ["linf", "l2", ""]
    assert np.isnan(frame["epsilon"].iloc[-1])


def test_texts_and_specs_are_the_same():
    assert unions.build("union(linf=0.3, l2=1.5)") == UNION
    assert [b.norm for b in Union(l0=12, l1=12, l2=1, linf=0.1).budgets] == [
        "linf",
        "l2",
        "l1",
        "l0",
    ]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"linf": 0.3}, "allowed: with radii above 0 in two norms or more"),
        ({"linf": 0.3, "l2": -1}, "Union.l2 is -1; allowed: a finite number, 0 or"),
        ({"linf": True, "l2": 1}, "Union.linf is True; allowed: a number"),
    ],
)
def test_a_union_that_is_none_is_told(fields, sentence):
    with pytest.raises(UsageError, match=sentence):
        Union(**fields)
