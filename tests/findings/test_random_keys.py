"""Random defences under fresh keys: what is counted of their answers."""

import numpy as np
import pytest

from robust_manifold.findings.random_keys import random_keys_table, voted_right

LINE = {
    "column": "bit_depth",
    "norm": "linf",
    "epsilon": 0.2,
    "n": 50,
    "keys": 20,
    "mean": 0.3333,
    "mean_low": 0.22,
    "mean_high": 0.47,
    "always": 0.1,
    "votes": 5,
    "vote": 0.3,
}


@pytest.mark.parametrize(
    ("told", "right"),
    [
        ([3, 3, 3, 1, 1], True),
        ([3, 3, 1, 1, 0], False),  # a tie
        ([3, 1, 1, 2, 2], False),
        ([3, 3, 0, 1, 2], True),  # most, though no majority
        ([3, 3, -1, -1, -1], False),  # logits that are no numbers
    ],
)
def test_a_vote_is_right_if_no_other_class_has_as_many(told, right):
    found = voted_right(np.array([told * 2]), np.array([3]), 5)
    assert found.tolist() == [[right, right]]


def test_keys_that_are_left_over_do_not_vote():
    assert voted_right(np.array([[1, 1, 1, 0, 0]]), np.array([1]), 3).shape == (1, 1)


def test_each_column_and_budget_has_a_line():
    clean = LINE | {"norm": "", "epsilon": None}
    table = random_keys_table([clean, LINE], confidence=0.9)
    figures = ["33.3 % [22.0, 47.0]", "10.0 %", "30.0 %"]
    assert table.text.to_numpy().tolist() == [
        ["Bit Depth", "Clean", *figures],
        ["Bit Depth", "ℓ∞ ε=0.2", *figures],
    ]
    for said in ("n = 50", "20 fresh keys", "90 % Wilson", "5 keys", "one key alone"):
        assert said in table.caption, said
