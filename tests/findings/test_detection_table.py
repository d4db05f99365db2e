"""The tables of rejection by reconstruction error."""

import numpy as np
import pandas as pd
import pytest

from robust_manifold.evaluation import summarise_detection
from robust_manifold.findings.detection import detection_tables
from robust_manifold.reporting import WRITERS

RANDOM = np.random.default_rng(0)
CLEAN, ATTACKED, VALIDATION = (RANDOM.random(100) + shift for shift in (0, 0.6, 0))


def line(defence, adversary="oblivious", **changes):
    given = {
        "classifier": "cnn",
        "defence": defence,
        "adversary": adversary,
        "attack": "pgd(epsilon=0.1)",
        "norm": "linf",
        "epsilon": 0.1,
        "right": np.ones(100, bool),
        "errors": ATTACKED,
        "clean": CLEAN,
        "validation": VALIDATION,
        "false_positive_rate": 0.05,
    }
    return summarise_detection(**(given | changes))


def clean(defence):
    changes = {"attack": "clean", "norm": "", "epsilon": None, "clean": None}
    return line(defence, "none", errors=CLEAN, **changes)


@pytest.fixture
def lines():
    made = [f(d) for d in ("inc", "defense_gan") for f in (clean, line)]
    return pd.DataFrame([*made, line("defense_gan", "unrolled")])


def test_each_defence_has_a_table_with_a_line_for_each_row(lines):
    first, second = detection_tables(lines)
    assert first.text.columns.tolist() == ["Attack", "Rejected", "Ends well", "AUC"]
    assert first.text["Attack"].tolist() == ["Clean", "PGD ε=0.1"]
    assert first.text["AUC"].tolist()[0] == "–"
    assert second.text["Adversary"].tolist() == ["–", "Oblivious", "Unrolled"]
    assert "INC" in first.title and "Defense-GAN" in second.title
    assert len(first.numbers) == 2 and len(second.numbers) == 3


def test_the_caption_gives_the_threshold_and_what_it_costs(lines):
    table = next(detection_tables(lines))
    row = lines.iloc[0]
    assert f"above {row['threshold']:.3g} are rejected: 5 %" in table.caption
    assert "100 clean validation images" in table.caption
    share = f"{100 * row['rejected_share']:.1f} %"
    assert table.caption.endswith(f"Of the clean test images {share} are rejected.")
    assert table.text["Rejected"].tolist()[0].startswith(share)


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_every_format_can_be_written(lines, suffix):
    for table in detection_tables(lines):
        assert WRITERS[suffix](table)
