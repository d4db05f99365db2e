"""The table of images found in the generator's range."""

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import TOGETHER, summarise_verdicts
from robust_manifold.findings.on_manifold import on_manifold_table
from robust_manifold.reporting import WRITERS

VERDICTS = {
    "nearest neighbour": ["changed"] * 6 + ["unchanged"] * 4,
    "robust": ["changed"] * 5 + ["unchanged"] * 4 + ["undecided"],
    TOGETHER: ["changed"] * 5 + ["unchanged"] * 4 + ["undecided"],
}


def line(judges, **changes):
    lines = [
        {**told._asdict(), "interval": list(told.interval)}
        for name in judges
        for told in summarise_verdicts(name, np.array(VERDICTS[name]))
    ]
    made = {
        "column": "invert_and_classify",
        "adversary": "latent",
        "norm": "l2",
        "epsilon": 1.5,
        "n": 500,
        "broken": 10,
        "judges": lines,
    }
    return made | changes


def test_the_share_that_changed_stands_beside_what_was_broken():
    table = on_manifold_table([line(VERDICTS)])
    assert table.text.columns.tolist() == [
        *("Defence", "Budget", "Broken", "Still one class", "Another class"),
        *("Another, nearest neighbour", "Another, robust"),
    ]
    (row,) = table.text.to_numpy().tolist()
    assert row[:3] == ["Invert and Classify", "ℓ2 ε=1.5", "10 of 500"]
    assert row[3].startswith("40.0 % [") and row[4].startswith("50.0 % [")
    assert row[5:] == ["60.0 %", "50.0 %"]
    assert "Judges: nearest neighbour, robust." in table.caption
    assert table.names == 2


def test_a_search_that_broke_nothing_has_no_share():
    broken = line(["nearest neighbour", TOGETHER])
    none = line([], broken=0, column="invert_and_classify on robust")
    table = on_manifold_table([broken, none])
    assert table.text["Broken"].tolist()[1] == "0 of 500"
    assert table.text["Another class"].tolist()[1] == "–"
    assert table.text["Defence"].tolist()[1] == "Invert and Classify, on Robust"


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_every_format_can_be_written(suffix):
    assert WRITERS[suffix](on_manifold_table([line(VERDICTS)]))


def test_no_searches_are_refused():
    with pytest.raises(UsageError, match="0 searches"):
        on_manifold_table([])
