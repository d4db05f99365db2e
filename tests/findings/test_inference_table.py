"""The table of what a defence costs when an image is classified."""

from robust_manifold.findings.inference_cost import InferenceLine, inference_table

LINES = [
    InferenceLine("cnn", "none", 0.002, 4, None),
    InferenceLine("cnn", "inc", 0.5, 4, 1600.0),
    InferenceLine("robust", "inc", 0.4, 4, 1600.0),
]


def test_costs_are_beside_the_bare_classifier_of_the_same_name():
    table = inference_table(LINES)
    assert table.text["Milliseconds"].tolist() == ["2", "500", "400"]
    # Nothing was measured of the other classifier without a defence.
    assert table.text["Times as long"].tolist() == ["1", "250", "–"]
    assert table.text["Generator passes"].tolist() == ["–", "1,600", "1,600"]
    assert "hardly" in table.caption


def test_one_round_holds_its_compilation():
    lines = [line._replace(rounds=1) for line in LINES]
    assert "compilation, too" in inference_table(lines).caption
