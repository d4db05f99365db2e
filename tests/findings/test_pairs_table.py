"""The table of latent pairs."""

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import TOGETHER, summarise_verdicts
from robust_manifold.findings.pairs import pairs_table
from robust_manifold.reporting import WRITERS

VERDICTS = np.array(["changed"] * 3 + ["unchanged"] * 9)


def line(judges=("nearest neighbour", TOGETHER), **changes):
    told = [v for name in judges for v in summarise_verdicts(name, VERDICTS)]
    made = {
        "classifier": "small_cnn(width=8)",
        "search": "overpowered(eta=1.5)",
        "norm": "l2",
        "eta": 1.5,
        "n": 48,
        "found": 12,
        "feasible": 40,
        "interval": [0.15, 0.39],
        "distance_median": 1.234,
        "outputs_mean": 0.5,
        "judges": [{**each._asdict(), "interval": [*each.interval]} for each in told],
    }
    return made | changes


def test_the_share_of_each_verdict_stands_beside_what_was_found():
    table = pairs_table([line()])
    assert table.text.columns.tolist() == [
        *("Classifier", "Bound", "Found", "Distance", "Outputs apart"),
        *("Still one class", "Another class"),
    ]
    (row,) = table.text.to_numpy().tolist()
    assert row[1:5] == ["ℓ2 ≤ 1.5", "12 of 48, 25.0 % [15.0, 39.0]", "1.23", "0.5"]
    assert row[5].startswith("75.0 % [") and row[6].startswith("25.0 % [")
    assert "Judges: nearest neighbour." in table.caption
    assert "overpowered(eta=1.5)" in table.caption


def test_a_search_that_found_nothing_has_no_distance():
    nothing = {"found": 0, "interval": [0, 0.07], "distance_median": None}
    table = pairs_table([line(), line((), classifier="robust", **nothing)])
    assert table.text["Classifier"].tolist() == ["Small CNN, width 8", "Robust"]
    assert table.text["Distance"].tolist()[1] == "–"
    assert table.text["Another class"].tolist()[1] == "–"


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_every_format_can_be_written(suffix):
    assert WRITERS[suffix](pairs_table([line()]))


def test_no_searches_are_refused():
    with pytest.raises(UsageError, match="0 searches"):
        pairs_table([])
