"""The table of attacked images that a file gives."""

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import TOGETHER, summarise_verdicts
from robust_manifold.findings.given import given_table
from robust_manifold.reporting import WRITERS


def line(**changes):
    verdicts = np.array(["changed"] * 6 + ["unchanged"] * 4)
    judges = [
        {**told._asdict(), "interval": list(told.interval)}
        for name in ("nearest neighbour", TOGETHER)
        for told in summarise_verdicts(name, verdicts)
    ]
    made = {
        "file": "theirs",
        "column": "invert_and_classify",
        "n": 20,
        "originals": {"right": 18, "interval": [0.7, 0.98]},
        "images": {"right": 8, "interval": [0.2, 0.6]},
        "broken": 10,
        "l2_mean": 3.5,
        "l2_max": 3.75,
        "linf_max": 0.5,
        "judges": judges,
    }
    return made | changes


def test_accuracy_before_and_after_stands_beside_what_still_reads_as_before():
    table = given_table([line()])
    (row,) = table.text.to_numpy().tolist()
    assert row[:4] == [
        *("Invert and Classify", "90.0 % [70.0, 98.0]", "40.0 % [20.0, 60.0]"),
        "10 of 20",
    ]
    assert row[4].startswith("40.0 % [") and row[5].startswith("60.0 % [")
    assert "of which the nearest neighbour says so" in table.caption
    assert "20 images, mean ℓ2 distance 3.5, largest 3.75" in table.caption
    # One step of 8-bit pixels is no round 0.
    assert "ℓ∞ distance 0.00392" in given_table([line(linf_max=1 / 255)]).caption
    assert table.numbers["images_right"].tolist() == [8] and table.names == 1


def test_two_files_are_told_apart_and_what_broke_nothing_has_no_share():
    table = given_table([line(), line(file="ours", broken=0, judges=[])])
    assert table.text["File"].tolist() == ["theirs", "ours"]
    assert table.text["Another class"].tolist()[1] == "–"
    assert table.names == 2


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_every_format_can_be_written(suffix):
    assert WRITERS[suffix](given_table([line()]))


def test_no_files_are_refused():
    with pytest.raises(UsageError, match="0 files"):
        given_table([])
