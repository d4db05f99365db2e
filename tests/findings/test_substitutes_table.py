"""The table of substitutes, and what other tables say of the labels they took."""

import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import to_frame
from robust_manifold.findings.accuracy_tables import cost_table, paper_table
from robust_manifold.findings.substitutes import substitutes_table
from robust_manifold.reporting import to_markdown

LINE = {
    "target": "none",
    "model": "defense_gan_e",
    "queries": 4800,
    "history": [
        {"queries": 150, "agreement": 0.9},
        {"queries": 4800, "agreement": 0.995},
    ],
    "n": 200,
    "agreement": 0.81,
    "agreement_low": 0.75,
    "agreement_high": 0.86,
}


def test_each_target_has_a_line():
    inc = LINE | {"target": "invert_and_classify(restarts=4)", "agreement": 0.7}
    table = substitutes_table([LINE, inc], confidence=0.9)
    assert table.text.to_numpy().tolist() == [
        ["No defence", "4,800", "81.0 % [75.0, 86.0]", "99.5 %"],
        ["Invert and Classify", "4,800", "70.0 % [75.0, 86.0]", "99.5 %"],
    ]
    for said in ("Defense GAN E", "150 validation images and", "2 rounds", "90 %"):
        assert said in table.caption, said
    assert table.numbers["agreement"].tolist() == [0.81, 0.7]
    assert "history" not in table.numbers


def test_no_substitute_is_refused():
    with pytest.raises(UsageError, match="0 substitutes"):
        substitutes_table([])


def test_tables_of_attacks_say_what_labels_were_spent(make_cell):
    attack = make_cell("fgsm(epsilon=0.2)", 100, norm="linf", epsilon=0.2)
    spent = attack._replace(adversary="substitute", label_queries=4800)
    asked, silent = to_frame([spent]), to_frame([attack])
    assert "4,800 label queries a defence" in paper_table(asked).caption
    assert "label" not in paper_table(silent).caption
    assert cost_table(asked).text["Labels"].tolist() == ["4,800"]
    assert "Labels" not in cost_table(silent).text
    assert "4,800" in to_markdown(cost_table(asked))
