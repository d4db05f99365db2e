"""The table of sanity checks: what a reader has to see comes first."""

import pytest

from robust_manifold.findings.audit import audit_summary, audit_table
from robust_manifold.reporting import WRITERS, to_latex

CHECKS = [
    {
        "name": "zero budget",
        "verdict": "PASS",
        "value": 0.0,
        "sentence": "All is well.",
    },
    {"name": "steps", "verdict": "SKIPPED", "value": None, "sentence": "Not checked."},
    {
        "name": "zero gradients",
        "verdict": "FLAG",
        "value": 0.12,
        "sentence": "12 % of the images had a zero gradient through the defence: the "
        "white-box figure is not evidence of robustness.",
    },
]


def test_flags_come_first_and_what_was_skipped_last():
    table = audit_table(CHECKS)
    assert table.text["Verdict"].tolist() == ["FLAG", "PASS", "SKIPPED"]
    assert table.text["Check"].tolist()[0] == "Zero gradients"
    assert "1 FLAG, 1 PASS, 1 SKIPPED" in table.caption
    assert table.numbers["value"].tolist()[0] == 0.12


def test_columns_are_named_where_checks_are_of_columns():
    named = [CHECKS[0], {**CHECKS[2], "column": "invert_and_classify"}]
    assert audit_table(named).text["Of"].tolist() == ["invert_and_classify", ""]
    assert "Of" not in audit_table(CHECKS).text


def test_a_verdict_not_known_here_is_not_hidden():
    odd = {**CHECKS[0], "verdict": "ERROR"}
    assert audit_table([*CHECKS, odd]).text["Verdict"].tolist()[0] == "ERROR"


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_no_sentence_is_cut_off(suffix):
    if suffix == "csv":
        return
    words = WRITERS[suffix](audit_table(CHECKS)).split()
    assert "robustness." in words


def test_long_sentences_are_broken_in_latex():
    assert r"p{0.55\linewidth}" in to_latex(audit_table(CHECKS))


def test_the_summary_counts_the_verdicts_of_each_column():
    named = [{**check, "column": name} for name in "AB" for check in CHECKS]
    table = audit_summary([*named, named[0]])
    assert table.numbers.to_numpy().tolist() == [["A", 1, 2, 1], ["B", 1, 1, 1]]
    assert table.text.columns.tolist() == ["Of", "FLAG", "PASS", "SKIPPED"]
