"""Smoothed columns of a run: their counts, the table, and what a stopped run keeps."""

import json

import numpy as np
import pytest

from robust_manifold.certification import Counts, Smoothing, smoothed
from robust_manifold.config import default_config, validate
from robust_manifold.core.errors import UsageError
from robust_manifold.findings import smoothing

CHANGES = """
    config.stages = ("fit_classifier", "evaluate", "report")
    config.evaluation.attacks = ()
    config.evaluation.defences = ("none", "bit_depth(bits=2)")
    config.evaluation.smoothing = ("smoothing(sigma=0.25, n0=20, n=200)",)
    return config
"""
LINE = {
    "column": "none on noisy",
    "sigma": 0.5,
    "n0": 100,
    "draws": 100_000,
    "alpha": 0.001,
    "radius": 1.58,
    "n": 100,
    "clean": 90,
    "abstained": 4,
    "certified": 40,
}


def test_the_table_has_a_line_a_radius():
    table = smoothing.table_of([LINE, LINE | {"radius": 0.5, "certified": 80}])
    first, second = table.text.to_numpy().tolist()
    assert first[1:6] == ["0.5", "100 + 100,000", "90.0 %", "4.0 %", "ℓ2 1.58"]
    assert first[6].startswith("40.0 % [") and second[6].startswith("80.0 % [")
    assert "100 images" in table.caption and "0.001" in table.caption


def test_the_largest_radius_is_that_of_equal_votes():
    # Cohen et al. 2019: 100,000 draws reach 3.8 σ; the paper's own example.
    assert smoothing.most(Smoothing(1.0)) == pytest.approx(3.811, abs=1e-3)
    assert smoothing.most(Smoothing(0.25)) == pytest.approx(0.953, abs=1e-3)


def test_a_config_says_what_is_smoothed_and_nothing_else_asks():
    config = default_config()
    assert not smoothing.FINDING.wanted(validate(config))
    config.evaluation.smoothing = ("smoothing(sigma=0.5)",)
    assert smoothing.FINDING.wanted(validate(config))
    config.evaluation.smoothing = ("smoothing(0.5)", "smoothing(sigma=0.5)")
    with pytest.raises(UsageError, match="allowed: no entry twice"):
        validate(config)
    config.evaluation.smoothing = ("smoothing(sigma=-1)",)
    with pytest.raises(UsageError, match="sigma is -1"):
        validate(config)


def test_a_stopped_run_goes_on_to_the_same_counts(program, project, monkeypatch):
    text = (project / "tiny.py").read_text().replace("    return config\n", CHANGES)
    (project / "votes.py").write_text(text)
    run = project / "run"
    command = [f"--config={project / 'votes.py'}", f"--workdir={run}"]
    counter, asked = smoothing.certification.count, []

    def killed(*arguments, **options):
        asked.append(options["ids"])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return counter(*arguments, **options)

    monkeypatch.setattr(smoothing.certification, "count", killed)
    with pytest.raises(KeyboardInterrupt):
        program(*command)
    ended = program(*command)
    assert ended.code == 0, ended.error
    # Two columns of two rounds; the first is counted once.
    assert [len(ids) for ids in asked] == [4] * 5
    assert not set(asked[0]) & set(asked[1])
    lines = json.loads((run / "smoothing.json").read_text())
    assert [line["radius"] for line in lines] == 2 * [0.25]
    rounds = [np.load(path) for path in sorted(run.glob("smoothing/none/*/*.npz"))]
    counts = Counts(
        *(np.concatenate([r[name] for r in rounds]) for name in Counts._fields)
    )
    labels = np.concatenate([r["labels"] for r in rounds])
    assert (counts.choosing.sum(1) == 20).all() and counts.bounding.sum() == 8 * 200
    found = smoothed(counts, Smoothing(0.25, n0=20, n=200))
    right = found.prediction == labels
    assert right.all() and lines[0]["clean"] == 8
    assert lines[0]["certified"] == np.sum(found.radius >= 0.25) > 0
    assert "Randomised smoothing" in (run / "report/table.md").read_text()
    assert (run / "report/figures/smoothing.png").stat().st_size > 0
