"""The tables of a cascade: who broke what, at which price, and what was tried."""

import pandas as pd
import pytest

from robust_manifold.evaluation.cascades import in_order
from robust_manifold.findings.yields_tables import (
    FILE,
    YieldLine,
    pilot_table,
    summary_table,
    yields_table,
)

INC = "invert_and_classify"


def line(member, images, broken, backwards=0.0, **changes):
    made = YieldLine(
        classifier="small_cnn",
        defence=INC,
        adversary="cascade",
        norm="linf",
        epsilon=0.2,
        member=member,
        n=100,
        images=images,
        broken=broken,
        forwards=backwards + images,
        backwards=backwards,
        seconds=1.25,
    )
    return made._replace(**changes)


@pytest.fixture
def lines():
    """Returns the lines of a column at two budgets, as they are read."""
    made = [
        line("clean", 100, 2),
        line("another budget", 100, 0),
        line("attack on a donor", 98, 0, 490.0),
        line("images of a donor", 98, 10),
        line("implicit", 88, 30, 4400.0),
        line("bpda", 58, 5, 2900.0),
        line("Square", 53, 0),
        line("clean", 100, 2, epsilon=0.3),
        line("another budget", 100, 45, epsilon=0.3),
    ]
    return FILE.read(FILE.to_csv(made))


def test_a_summary_says_what_is_left_its_price_and_the_three_who_broke_most(lines):
    assert summary_table(lines).text.to_numpy().tolist() == [
        [
            "Invert and Classify",
            "ℓ∞ ε=0.2",
            "53 of 100",
            "78",
            "implicit (30); images of a donor (10); bpda (5) and 1 more",
        ],
        ["", "ℓ∞ ε=0.3", "53 of 100", "0", "another budget (45); clean (2)"],
    ]


def test_each_member_that_was_given_an_image_has_a_line(lines):
    text = yields_table(lines).text
    assert list(text["Member"]) == [
        "clean",
        "attack on a donor",
        "images of a donor",
        "implicit",
        "bpda",
        "Square",
        "clean",
        "another budget",
    ]
    assert text.iloc[3].tolist()[2:] == [
        "implicit",
        "88",
        "30",
        "4,400",
        "4,488",
        "1.2",
    ]
    assert list(text["Budget"])[:2] == ["ℓ∞ ε=0.2", ""]


def test_known_and_fresh_keys_are_told_apart(lines):
    fresh = lines.assign(adversary="cascade(keys='fresh')")
    assert "Cascade" not in summary_table(lines).text
    text = summary_table(pd.concat([lines, fresh])).text
    assert [name for name in text["Cascade"] if name] == [
        "Cascade",
        "Cascade, keys fresh",
    ]


def test_members_stand_where_they_worked_in_any_round():
    rounds = [["a", "d"], ["a", "b", "d"], ["a", "c", "d", "e"]]
    assert in_order(rounds) == ["a", "c", "b", "d", "e"]


def test_a_pilot_tells_what_was_tried_best_first():
    tried = [
        {
            "column": "INC",
            "adversary": adversary,
            "n": 32,
            "rate": rate,
            "margin": -0.25,
            "passes": 1234.0,
        }
        for adversary, rate in (("implicit(damping=0.001)", 0.5), ("bpda", 0.25))
    ]
    assert pilot_table(tried).text.to_numpy().tolist() == [
        ["INC", "Implicit, damping 0.001", "50 % of 32", "-0.250", "1,234"],
        ["", "BPDA", "25 % of 32", "-0.250", "1,234"],
    ]
