"""Several classifiers in a run: which are trained, from what, and what columns show."""

import json

import jax
import numpy as np
import pandas as pd
import pytest

from robust_manifold.runtime import load_params
from robust_manifold.stages.fitting import fit_classifiers

INC = "invert_and_classify(solver=adam(steps=2), restarts=1)"
STAGES = (
    "fit_classifier",
    "fit_generator",
    "fit_classifiers",
    "attack",
    "evaluate",
)
CLASSIFIERS = f"""
    from robust_manifold.config import add_classifier
    # Steps of no length: what comes out is what it started from.
    add_classifier(
        config, "copy", start="classifier",
        training="cross_entropy(momentum(learning_rate=1e-30))", duration="9 steps",
    )
    add_classifier(
        config, "enhanced", start="copy", duration="4 steps",
        training="enhanced_inc(every=2, pairs=2, search=overpowered(1.5, steps=2))",
    )
    add_classifier(config, "anew", duration="4 steps")
    add_classifier(config, "unused")
    config.stages = {STAGES!r}
    config.generator.duration = "1 steps"
    config.measures.validation_examples = 0
    config.evaluation.defences = (
        "none", "none on copy", "{INC} on enhanced", "none on anew"
    )
    return config"""


@pytest.fixture
def several(project):
    """Returns the path of a config of several classifiers."""
    text = (project / "tiny.py").read_text().replace("\n    return config", CLASSIFIERS)
    (project / "several.py").write_text(text)
    return project / "several.py"


def params(work, role):
    """Returns the parameters of a role as one vector."""
    stored = load_params(work / f"checkpoints/{role}/params")
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(stored)])


def test_a_run_of_several_classifiers(program, several, project, monkeypatch):
    work = project / "run"
    duration = "--config.classifiers.copy.duration=2 steps"
    ended = program(f"--config={several}", f"--workdir={work}", duration)
    assert ended.code == 0, ended.error
    assert "unused is left out: no column names it" in ended.error
    assert not (work / "checkpoints/classifier-unused").exists()
    own, copy = params(work, "classifier"), params(work, "classifier-copy")
    np.testing.assert_allclose(copy, own, rtol=1e-6)
    for other in ("classifier-enhanced", "classifier-anew"):
        assert not np.allclose(params(work, other), own)
    lines = (work / "metrics.jsonl").read_text().splitlines()
    steps = {}
    for line in map(json.loads, lines):
        steps[line["stage"]] = line["step"]
    assert steps["fit_classifier-copy"] == 2 and steps["fit_classifier-enhanced"] == 4

    results = pd.read_csv(work / "results.csv")
    known = results[results["adversary"] != "worst case"]
    columns = known[["classifier", "defence"]].drop_duplicates().to_numpy().tolist()
    assert columns == [
        ["linear", "none"],
        ["copy", "none"],
        ["enhanced", INC],
        ["anew", "none"],
    ]
    # Each classifier meets images that were made against it.
    folders = sorted(path.name for path in (work / "adversarial").iterdir())
    assert folders == ["none", "none-on-anew", "none-on-copy", "none-on-enhanced"]
    of = {name: known[known["classifier"] == name] for name in ("linear", "copy")}
    assert list(of["linear"]["correct"]) == list(of["copy"]["correct"])
    for file in ("worst_cases.csv", "detection.csv"):
        assert (work / file).stat().st_size > 0

    # Killed between two of them: what comes out is the same.
    again, fit = project / "again", fit_classifiers._fit

    def killed(context, name):
        if name == "enhanced":
            monkeypatch.undo()
            raise KeyboardInterrupt
        return fit(context, name)

    monkeypatch.setattr(fit_classifiers, "_fit", killed)
    command = [f"--config={several}", f"--workdir={again}", duration]
    command.append(f"--config.classifier.from_run={work}")
    command.append(f"--config.generator.from_run={work}")
    with pytest.raises(KeyboardInterrupt):
        program(*command)
    assert program(*command).code == 0
    for role in ("classifier-copy", "classifier-enhanced", "classifier-anew"):
        np.testing.assert_array_equal(params(again, role), params(work, role))


def test_a_named_classifier_taken_over(program, several, project):
    first, second = project / "first", project / "second"
    one = "--config.stages=('fit_classifier',)"
    assert program(f"--config={several}", f"--workdir={first}", one).code == 0
    ended = program(
        f"--config={several}",
        f"--workdir={second}",
        "--config.stages=('fit_classifiers',)",
        "--config.evaluation.defences=('none on anew',)",
        *(
            f"--config.classifiers.{name}.from_run={first}"
            for name in ("copy", "enhanced", "anew", "unused")
        ),
    )
    assert ended.code == 0, ended.error
    # A run without an `anew` has its own classifier; nothing else was needed.
    assert sorted(path.name for path in (second / "checkpoints").iterdir()) == [
        f"classifier-{name}" for name in ("anew", "copy", "enhanced", "unused")
    ]
    own = params(first, "classifier")
    np.testing.assert_array_equal(params(second, "classifier-anew"), own)


def test_folders_of_runs_made_before_there_were_more_classifiers(program, project):
    command = [f"--config={project / 'tiny.py'}", f"--workdir={project / 'run'}"]
    assert program(*command, "--config.stages=('fit_classifier',)").code == 0
    path = project / "run/config.json"
    stored = json.loads(path.read_text())
    for key in ("classifiers", "audit", "detection"):
        del stored[key]
    del stored["evaluation"]["validation_examples"]
    path.write_text(json.dumps(stored))
    # Nor did they enter their config among the checksums.
    sums = json.loads((project / "run/checksums.json").read_text())
    del sums["files"]["config.json"]
    (project / "run/checksums.json").write_text(json.dumps(sums))
    stages = "--config.stages=('fit_classifier','fit_classifiers')"
    # The key that is no default here is one that the folder's results do not have.
    refused = program(*command, stages)
    assert refused.code == 2 and "evaluation.validation_examples" in refused.error
    ended = program(*command, stages, "--config.evaluation.validation_examples=500")
    assert ended.code == 0, ended.error
    assert "fit_classifier  finished before" in ended.error
