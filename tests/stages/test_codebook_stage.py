"""A run whose classifier is a codebook, trained on its certificate."""

import json

import numpy as np
import pandas as pd
import pytest

from robust_manifold.certification import certify, codebook_of
from robust_manifold.data import to_float
from robust_manifold.runtime import load_params
from robust_manifold.stages.fitting import fit_classifier

PARAMS = "checkpoints/classifier/params"
CHANGES = """
    config.classifier.model = "codebook(per_class=4)"
    config.classifier.training = "certified(own=2, others=4)"
    config.stages = ("fit_classifier", "attack", "evaluate", "report")
    config.evaluation.defences = ("none",)
    return config
"""


def _config(project):
    text = (project / "tiny.py").read_text().replace("    return config\n", CHANGES)
    (project / "codebook.py").write_text(text)
    return project / "codebook.py"


def _prototypes(run):
    return codebook_of(load_params(run / PARAMS)).prototypes


def test_a_codebook_is_trained_stored_attacked_and_certified(program, project):
    config, run = _config(project), project / "run"
    ended = program(f"--config={config}", f"--workdir={run}")
    assert ended.code == 0, ended.error
    prototypes = _prototypes(run)
    assert prototypes.shape == (12, 28, 28, 1)
    assert prototypes.min() >= 0 and prototypes.max() <= 1
    # It started with images of the run: bars are told apart, and certified.
    digits = np.load(project / "digits.npz")
    images, labels = to_float(digits["images"][:9, ..., None]), digits["labels"][:9]
    codebook = codebook_of(load_params(run / PARAMS))
    found = certify(codebook, images, labels)
    assert found.correct.all() and (found.lower > 0.5).all()
    assert "fgsm" in (run / "results.csv").read_text()
    lines = json.loads((run / "certificates.json").read_text())
    assert {(line["norm"], line["box"]) for line in lines} == {
        (norm, box) for norm in ("l2", "linf", "l1") for box in (False, True)
    }
    for line in lines:
        assert line["n"] == 8 and line["changed"] == line["clean"]
        assert line["half_space"] <= line["certified"] <= line["standing"]
        assert line["standing"] <= line["clean"]
    assert lines[0]["certified"] == 8
    known = pd.read_csv(run / "results.csv").set_index("attack")
    assert known.loc["fgsm(epsilon=0.1)", "correct"] >= next(
        line["certified"]
        for line in lines
        if (line["norm"], line["box"], line["radius"]) == ("linf", True, 0.1)
    )
    (far,) = json.loads((run / "distances.json").read_text())
    assert far["n"] == 8 and far["wrong"] == 0 and far["threshold"] > 0
    report = (run / "report/table.md").read_text()
    assert "Certified accuracy" in report and "far from every prototype" in report
    assert (run / "report/figures/certificates.png").stat().st_size > 0


def test_a_killed_training_goes_on_to_the_same_codebook(program, project, monkeypatch):
    config, stages = _config(project), "--stages=fit_classifier"
    ended = program(f"--config={config}", f"--workdir={project / 'whole'}", stages)
    assert ended.code == 0, ended.error
    again = [f"--config={config}", f"--workdir={project / 'again'}", stages]
    accuracy, seen = fit_classifier._accuracy, []

    def killed(model, params, split):
        seen.append(params)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return accuracy(model, params, split)

    monkeypatch.setattr(fit_classifier, "_accuracy", killed)
    with pytest.raises(KeyboardInterrupt):
        program(*again)
    assert program(*again).code == 0
    # At steps 4, 8 (killed), 8 and 12.
    assert len(seen) == 4
    whole = _prototypes(project / "whole")
    np.testing.assert_array_equal(_prototypes(project / "again"), whole)
