"""Unions of balls in a run: computed from all rows, and shown ball by ball."""

import types
from unittest import mock

import numpy as np
import pytest

from robust_manifold import evaluation
from robust_manifold.config import default_config, validate
from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import Outcome, Union
from robust_manifold.findings import unions
from robust_manifold.findings.unions_table import unions_table
from robust_manifold.stages import Context

UNIONS = (Union(linf=0.3, l2=1.5), Union(linf=0.3, l2=1.5, l1=12))
RIGHT = {
    ("", None): [1, 1, 1, 1, 1, 1, 1, 0],
    ("linf", 0.3): [0, 0, 1, 1, 1, 1, 1, 0],
    ("l2", 1.5): [1, 0, 0, 1, 1, 1, 1, 0],
    ("l1", 12.0): [1, 1, 1, 1, 0, 1, 1, 0],
}


def _outcomes(defence="none"):
    return [
        Outcome(
            "cnn",
            defence,
            "unrolled" if norm else "none",
            f"pgd(norm={norm!r})" if norm else "clean",
            np.array(right, bool),
            norm,
            epsilon,
        )
        for (norm, epsilon), right in RIGHT.items()
    ]


def _lines(*defences):
    outcomes = [row for defence in defences for row in _outcomes(defence)]
    text = evaluation.unions_to_csv(evaluation.union_lines(outcomes, UNIONS))
    return evaluation.read_unions(text)


def test_a_line_a_ball_and_then_a_line_a_union():
    table = unions_table(_lines("none", "invert_and_classify"))
    assert table.text["Budget"].tolist() == [
        "ℓ∞ ε=0.3",
        "ℓ2 ε=1.5",
        "ℓ1 ε=12",
        "Any of ℓ∞ 0.3, ℓ2 1.5",
        "Any of ℓ∞ 0.3, ℓ2 1.5, ℓ1 12",
    ]
    assert table.text.columns.tolist() == [
        "Budget",
        "No defence",
        "Invert and Classify",
    ]
    shares = [text.split(" ")[0] for text in table.text["No defence"]]
    assert shares == ["62.5", "62.5", "75.0", "50.0", "37.5"]
    assert "n = 8 test images" in table.caption
    with pytest.raises(UsageError, match="unions hold no line"):
        unions_table(_lines("none").iloc[:0])


def test_it_is_found_from_all_rows_of_a_run(monkeypatch):
    outcomes, written = iter(_outcomes()), {}
    monkeypatch.setattr(
        unions, "cell_of", lambda context, column, row: (None, next(outcomes))
    )
    monkeypatch.setattr(unions, "rows_of", lambda column, block: range(4))
    block = types.SimpleNamespace(columns=("none",), unions=UNIONS, confidence=0.9)
    context = mock.Mock(
        spec=Context,
        experiment=types.SimpleNamespace(evaluation=block),
        folder=types.SimpleNamespace(
            write_text=written.__setitem__, read_text=written.__getitem__
        ),
    )
    assert unions.find(context) == ["unions.csv"]
    shown = unions.FINDING.show(context)
    assert "90 % Wilson interval" in shown.tables[0].caption
    ((name, figure),) = shown.figures
    assert name == "unions" and figure.png.startswith(b"\x89PNG")


def _experiment(**evaluated):
    config = default_config()
    config.evaluation.update(evaluated)
    return validate(config)


def test_a_run_asks_for_it_by_a_key():
    balls = {"worst_case": "cascade(linf=(0.3,), l0=(12,))"}
    assert not unions.FINDING.wanted(_experiment(**balls))
    asking = _experiment(unions=("union(linf=0.3, l0=12)",), **balls)
    assert unions.FINDING.wanted(asking)


def test_a_ball_that_nothing_attacks_is_told():
    with pytest.raises(UsageError, match="nothing attacks at l1 12; allowed: balls of"):
        _experiment(
            unions=("union(linf=0.3, l1=12)",),
            worst_case="cascade(linf=(0.3,), l2=(1.5,))",
        )
