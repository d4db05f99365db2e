"""The program from start to end: its files, its resumption after kill -9, its help."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

COMMAND = [sys.executable, "-m", "robust_manifold.main"]


def _start(project, work, *more):
    return subprocess.Popen(
        [*COMMAND, f"--config={project / 'tiny.py'}", f"--workdir={work}", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def _results(work):
    """Returns the bytes of results.csv but for its times."""
    return pd.read_csv(work / "results.csv", dtype=str).drop(columns="seconds").to_csv()


def _run(project, work, *more):
    process = _start(project, work, *more)
    out, error = process.communicate()
    assert process.returncode == 0, error
    return out, error


def test_a_run(project):
    work = project / "run"
    out, error = _run(project, work)
    assert "FGSM ε=0.1" in out and "Invert and Classify" in out
    assert re.search(r"classifier +linear: 2,355 parameters", error)
    for name in (
        "config.json",
        "status.json",
        "metrics.jsonl",
        "results.csv",
        "report/table.md",
        "report/table.tex",
        "report/table.csv",
        "report/report.html",
        "report/figures/projections-clean.png",
        "report/figures/projections-fgsm-epsilon=0.1.png",
        "report/figures/samples.png",
        "report/figures/errors.png",
        "report/figures/accuracy.png",
        "report/figures/training.png",
    ):
        assert (work / name).stat().st_size > 0, name
    status = json.loads((work / "status.json").read_text())
    assert status["state"] == "finished"
    assert set(status["stage_seconds"]) == set(status["finished_stages"])

    results = pd.read_csv(work / "results.csv")
    assert list(results["attack"]) == ["clean", "fgsm(epsilon=0.1)"] * 2
    assert (results["n"] == 8).all()
    # The table repeats what the stored outcomes say.
    rounds = sorted(work.glob("outcomes/none/none/clean/*.npz"))
    logits = np.concatenate([np.load(path)["logits"] for path in rounds])
    labels = np.concatenate([np.load(path)["labels"] for path in rounds])
    assert results["correct"][0] == np.sum(logits.argmax(-1) == labels)

    # A second run has nothing to do but to draw the report.
    before = _results(work), (work / "report/table.md").read_bytes()
    _, error = _run(project, work)
    assert error.count("finished before") == 4
    assert (_results(work), (work / "report/table.md").read_bytes()) == before
    again = json.loads((work / "status.json").read_text())["stage_seconds"]
    assert again["evaluate"] == status["stage_seconds"]["evaluate"]


MOMENTS = (
    "checkpoints/classifier/last/4/manifest.json",
    "checkpoints/generator/last/4/manifest.json",
    "adversarial/oblivious/*/round-000.npz",
    "outcomes/invert_and_classify*/none/clean/round-000.npz",
)
"""Files whose appearance shows that a stage is in the middle of its work."""


@pytest.mark.slow
def test_killed_runs_give_the_same_results(project):
    whole, killed = project / "whole", project / "killed"
    _run(project, whole)
    codes = []
    for moment in MOMENTS:
        process = _start(project, killed)
        while not list(killed.glob(moment)) and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        codes.append(process.returncode)
    assert codes[0] == -signal.SIGKILL
    assert set(codes) <= {0, -signal.SIGKILL}
    _run(project, killed)
    assert _results(killed) == _results(whole)
    for name in ("report/table.md", "report/table.tex", "report/table.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    metrics = [(work / "metrics.jsonl").read_bytes() for work in (killed, whole)]
    assert metrics[0] == metrics[1]


def test_diverged_training_has_its_own_code_and_state(program, project):
    work = project / "run"
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={work}",
        "--config.classifier.optimizer=momentum(learning_rate=1e38)",
    )
    assert ended.code == 3
    assert "fit_classifier diverged: loss is" in ended.error
    assert json.loads((work / "status.json").read_text())["state"] == "diverged"


def test_sigterm_saves_and_resumes(project):
    work = project / "run"
    process = _start(project, work, "--config.classifier.duration=400000 steps")
    # The first line of metrics shows that the training is under way.
    while not (
        (work / "metrics.jsonl").exists() and (work / "metrics.jsonl").stat().st_size
    ):
        assert process.poll() is None, process.communicate()[1]
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 143, error
    assert "goes on from there" in error
    status = json.loads((work / "status.json").read_text())
    assert status["state"] == "interrupted"
    assert list((work / "checkpoints/classifier/last").iterdir())


def test_help_is_worth_reading():
    shown = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True)
    assert shown.returncode == 0
    for text in ("--config", "--workdir", "--stages", "evaluation.attacks = ", "Exit"):
        assert text in shown.stdout
    assert "Traceback" not in shown.stderr


def test_one_and_four_devices_give_the_same_results(project):
    one, four = project / "one", project / "four"
    _run(project, one)
    process = subprocess.run(
        [*COMMAND, f"--config={project / 'tiny.py'}", f"--workdir={four}"],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        },
    )
    assert process.returncode == 0, process.stderr
    a, b = pd.read_csv(one / "results.csv"), pd.read_csv(four / "results.csv")
    pd.testing.assert_frame_equal(
        a.drop(columns="seconds"), b.drop(columns="seconds"), rtol=1e-3
    )
