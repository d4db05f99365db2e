"""Tables of worst cases, from lines such as a run writes."""

import io

import pandas as pd
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import WORST_CASE, AdversaryLine, to_frame
from robust_manifold.findings.accuracy_tables import (
    adversaries_table,
    alone_table,
    cost_table,
    every_table,
    headline_table,
    paper_tables,
    tells_alone,
)
from robust_manifold.reporting import WRITERS, to_csv, to_markdown

INC = "invert_and_classify(restarts=4)"
COLUMNS = [("small_cnn", "none"), ("small_cnn", INC), ("robust", INC)]
BUDGETS = [("linf", 0.1), ("linf", 0.2), ("l2", 1.5)]
ADVERSARIES = ["oblivious", "unrolled(samples=4)"]


@pytest.fixture
def columns(make_cell):
    """Results of three columns under two adversaries, as results.csv holds them."""
    cells = []
    for place, (classifier, defence) in enumerate(COLUMNS):
        own = {"classifier": classifier, "defence": defence}
        cells.append(make_cell("clean", 490 - place, **own))
        for name in ADVERSARIES:
            if defence == "none" and name != "oblivious":
                continue
            for norm, e in BUDGETS:
                attack = f"pgd(epsilon={e}, norm='{norm}', steps=40)"
                budget = {"norm": norm, "epsilon": e, "adversary": name, **own}
                cells.append(make_cell(attack, 300, **budget))
            cells.append(
                make_cell("deepfool(steps=50)", 100, norm="l2", adversary=name, **own)
            )
    for place, (classifier, defence) in enumerate(COLUMNS):
        for norm, e in BUDGETS:
            attack = f"any_attack(norm='{norm}', epsilon={e})"
            worst = {"norm": norm, "epsilon": e, "adversary": WORST_CASE}
            cells.append(
                make_cell(
                    attack, 90 + place, classifier=classifier, defence=defence, **worst
                )
            )
    return to_frame(cells)


ALONE = {"oblivious": 3, "unrolled(samples=4)": 70, WORST_CASE: 200}


def defence_meets(column, adversary):
    return column[1] != "none" or not adversary.startswith("unrolled")


@pytest.fixture
def lines():
    made = [
        AdversaryLine(*column, norm, e, name, 500, 250, 0.5, 0.4565, 0.5435, alone)
        for column in COLUMNS
        for norm, e in BUDGETS
        for name, alone in ALONE.items()
        if defence_meets(column, name)
    ]
    return pd.DataFrame(made)


def test_the_headline_has_a_row_for_each_budget_and_a_column_for_each_defence(columns):
    table = headline_table(columns)
    assert table.text.columns.tolist() == [
        "Budget",
        "No defence, Small CNN",
        "Invert and Classify, Small CNN",
        "Invert and Classify, Robust",
    ]
    names = ["Clean", "ℓ∞ ε=0.1", "ℓ∞ ε=0.2", "ℓ2 ε=1.5"]
    assert table.text["Budget"].tolist() == names
    assert table.text.iloc[1, 1].startswith("18.0 % [")
    assert "Adversaries: oblivious; unrolled, 4 samples." in table.caption
    assert "no evidence" not in table.caption
    frame = pd.read_csv(io.StringIO(to_csv(table)))
    assert frame["Invert and Classify, Robust accuracy"].tolist() == [
        *(0.976, 0.184, 0.184, 0.184)
    ]


def test_a_headline_without_an_adversary_that_knows_says_so(columns):
    blind = columns[~columns["adversary"].str.startswith("unrolled")]
    table = headline_table(blind)
    assert table.title == "Worst-case accuracy, oblivious attacks only"
    assert "no evidence of robustness" in table.caption
    assert headline_table(columns).title == "Worst-case accuracy"
    # In whatever is pasted elsewhere, captions of LaTeX and Markdown included.
    for suffix in ("md", "tex", "txt"):
        assert "oblivious attacks only" in WRITERS[suffix](table), suffix
        assert "oblivious attacks only" not in WRITERS[suffix](headline_table(columns))


def test_without_a_defence_there_is_none_to_be_oblivious_of(columns):
    bare = columns[columns["defence"] == "none"]
    assert headline_table(bare).title == "Worst-case accuracy"
    assert "knew" not in headline_table(bare).caption


def test_a_headline_names_the_budgets_that_no_adversary_who_knows_had(columns):
    knows = columns["adversary"].str.startswith("unrolled")
    plain = knows & columns["attack"].str.startswith("deepfool")
    assert "No adversary" not in headline_table(columns[~plain]).caption
    missing = knows & (columns["epsilon"] == 0.2) & (columns["classifier"] == "robust")
    unmet = columns[~plain & ~missing]
    caption = headline_table(unmet).caption
    assert "at these budgets: Invert and Classify, Robust at ℓ∞ ε=0.2; that" in caption


def test_adversaries_stand_under_their_budget(lines):
    table = adversaries_table(lines)
    assert table.names == 2
    assert table.text["Budget"].tolist() == [
        *("ℓ∞ ε=0.1", "", "", "ℓ∞ ε=0.2", "", "", "ℓ2 ε=1.5", "", "")
    ]
    assert table.text["Adversary"].tolist()[:3] == [
        *("Oblivious", "Unrolled, 4 samples", "Worst case")
    ]
    assert "gradients pass through every step of the defence" in table.caption
    # What a program reads names every line in full.
    assert table.numbers["Budget"].tolist()[1] == "ℓ∞ ε=0.1"


def test_what_an_adversary_breaks_alone(lines):
    table = alone_table(lines)
    # Of the undefended classifier, which met one adversary, there is no column.
    assert table.text.iloc[0].tolist() == ["ℓ∞ ε=0.1", "Oblivious", "3", "3"]
    assert WORST_CASE not in table.text["Adversary"].str.lower().tolist()
    assert table.numbers.iloc[1, -1] == 70


def test_an_adversary_that_could_be_left_out_has_no_line(lines):
    lines.loc[lines["adversary"] == "oblivious", "alone"] = 0
    shown = set(alone_table(lines).text["Adversary"])
    assert shown == {"Unrolled, 4 samples"}


def test_without_rivals_nobody_is_alone(lines):
    assert tells_alone(lines)
    bare = lines[lines["defence"] == "none"]
    assert bare["alone"].any() and not tells_alone(bare)


def test_all_attacks_are_grouped_by_budget(columns):
    table = every_table(columns)
    assert table.text["Budget"].tolist() == [
        *("Clean", "ℓ∞ ε=0.1", "", "ℓ∞ ε=0.2", "", "ℓ2 ε=1.5", "", "ℓ2, no budget", "")
    ]
    assert table.text.iloc[1].tolist()[1:3] == ["Oblivious", "PGD, 40 steps"]
    # The undefended classifier met no adversary that looks through a defence.
    assert table.text.iloc[2].tolist()[3] == "–"
    assert table.names == 3


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_every_format_holds_every_line(columns, lines, suffix):
    for table in (
        headline_table(columns),
        adversaries_table(lines),
        alone_table(lines),
        every_table(columns),
    ):
        text = WRITERS[suffix](table)
        assert text == WRITERS[suffix](table)
        assert text.count("\n") > len(table.text)


def test_worst_cases_stand_in_no_other_table(columns):
    assert {t.text.shape[1] for t in paper_tables(columns)} == {2, 3}
    for table in [*paper_tables(columns), cost_table(columns), every_table(columns)]:
        assert "Any attack" not in to_markdown(table)


def test_a_single_classifier_is_not_named(columns):
    own = columns[columns["classifier"] == "small_cnn"]
    assert headline_table(own).text.columns.tolist() == [
        *("Budget", "No defence", "Invert and Classify")
    ]


def test_results_without_worst_cases_and_cells_twice_are_refused(columns, lines):
    with pytest.raises(UsageError, match="no worst case"):
        headline_table(columns[columns["adversary"] != WORST_CASE])
    with pytest.raises(UsageError, match="'clean' of .* twice"):
        every_table(pd.concat([columns, columns]))
    with pytest.raises(UsageError, match="no adversary"):
        adversaries_table(lines[:0])
