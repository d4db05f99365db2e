"""The stage `diagnose`: what it stores, what it goes on from, and what it refuses."""

import json

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from robust_manifold import data, models
from robust_manifold.evaluation import inversion_measures
from robust_manifold.findings import diagnostics
from robust_manifold.inversion import LevenbergMarquardt
from robust_manifold.runtime import load_params

SOLVERS = ("adam(steps=3)", "levenberg_marquardt(steps=2)")
MODEL = "vae_decoder(latent_size=4, hidden=8)"
ENCODER = "vae_encoder(latent_size=4, hidden=8)"
SETTINGS = [
    "--config.stages=('fit_classifier','fit_generator','fit_encoder','measure',"
    "'diagnose','report')",
    f"--config.generator.model={MODEL}",
    f"--config.generator.training=vae({ENCODER})",
    "--config.generator.duration=2 steps",
    f"--config.encoder.model={ENCODER}",
    "--config.encoder.duration=2 steps",
    "--config.diagnostics.examples=8",
    f"--config.diagnostics.solvers={SOLVERS}",
    "--config.diagnostics.restarts=restarts(count=4, halve_at=(2,))",
    "--config.diagnostics.recoveries=4",
]


@pytest.fixture
def command(project):
    return [f"--config={project / 'tiny.py'}", f"--workdir={project / 'run'}"]


def read(work, folder):
    """Returns the arrays of both rounds of a folder."""
    rounds = [np.load(path) for path in sorted(work.glob(f"{folder}/round-*.npz"))]
    names = set(rounds[0]) - {"seconds"}
    return {name: np.concatenate([r[name] for r in rounds]) for name in names}


def stored(work):
    """Returns what a run has measured, without its times."""
    folders = sorted(path.name for path in (work / "diagnostics").iterdir())
    rounds = {folder: read(work, f"diagnostics/{folder}") for folder in folders}
    texts = [
        (work / name).read_text() for name in (diagnostics.TABLE, diagnostics.SUMMARY)
    ]
    return rounds, texts


def test_a_run_stores_and_shows_what_it_measured(
    program, command, project, monkeypatch
):
    work = project / "run"
    ended = program(*command, *SETTINGS)
    assert ended.code == 0, ended.error
    table = pd.read_csv(work / "diagnostics.csv")
    assert list(table["solver"]) == list(SOLVERS)
    assert list(table["n"]) == [8, 8] and list(table["steps"]) == [3, 2]
    # Four restarts for two steps, and two of them for a third one.
    dense = LevenbergMarquardt(steps=2).passes(4)
    assert list(table["passes"]) == [2 * (4 + 4 + 2), dense * (4 + 4)]
    _check_curves(work, table)
    _check_repetition(project, work)
    _check_recovery(work)
    for name in ("solvers", "again", "recovery"):
        assert (work / f"report/figures/inversion-{name}.png").stat().st_size > 0
    page = (work / "report/report.html").read_text()
    assert "How inversion does, on 8 test images" in page
    assert "best of 4 starts (halve at (2,))" in page
    assert (
        "Inversion looks for the latent" in diagnostics.FINDING.words(None).explanation
    )

    # A run that was killed twice gives the same.
    curves, calls = diagnostics._curves, []

    def killed(context, params, solver, part):
        calls.append(len(part.ids))
        if len(calls) in (2, 4):
            raise KeyboardInterrupt
        return curves(context, params, solver, part)

    monkeypatch.setattr(diagnostics, "_curves", killed)
    again = project / "again"
    command[1] = f"--workdir={again}"
    taken = [f"--config.{name}.from_run={work}" for name in ("generator", "encoder")]
    taken.append("--stages=fit_classifier,fit_generator,fit_encoder,measure,diagnose")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            program(*command, *SETTINGS, *taken)
        assert not (again / "diagnostics.csv").exists()
    assert program(*command, *SETTINGS, *taken).code == 0
    assert calls == [4, 4, 4, 4, 4, 4]
    (rounds, texts), (others, other_texts) = stored(work), stored(again)
    assert texts == other_texts
    for folder, arrays in rounds.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, others[folder][name], err_msg=name)


def _check_curves(work, table):
    """Compares the lines of the table with the curves they are of."""
    starts = []
    for line, folder in zip(
        table.itertuples(), ("adam-steps=3", "levenberg_marquardt-steps=2"), strict=True
    ):
        found = read(work, f"diagnostics/{folder}")
        curves, last = found["curves"], found["restart_errors"]
        assert curves.shape == (8, 4, line.steps + 1)
        assert (np.diff(curves, axis=-1) <= 0).all()
        best = curves[..., -1].min(axis=1)
        np.testing.assert_allclose(line.error_mean, best.mean(), rtol=1e-5)
        near = last <= 1.05 * last.min(axis=1, keepdims=True)
        np.testing.assert_allclose(line.near_best, near.mean(), rtol=1e-5)
        starts.append(curves[..., 0])
    # All solvers have the same starts.
    np.testing.assert_allclose(*starts, rtol=1e-5)
    # Those that were followed to their end went on where others had been dropped.
    adam = read(work, "diagnostics/adam-steps=3")
    assert (adam["restart_errors"] <= adam["curves"][..., -1]).all()
    assert (adam["restart_errors"] < adam["curves"][..., -1]).sum() > 0


def _check_repetition(project, work):
    found = read(work, "diagnostics/projections")
    source = f"npz:{project / 'digits.npz'}"
    test = data.load(source, validation_examples=20, test_examples=20).test
    np.testing.assert_array_equal(found["ids"], test.ids[:8])
    # What is projected again is the projection that was measured.
    measured = read(work, "measures/inversion")
    shared = len(measured["error"])
    np.testing.assert_array_equal(found["ids"][:shared], measured["ids"])
    np.testing.assert_allclose(found["error"][:shared], measured["error"], rtol=1e-6)
    assert (found["again"] < found["error"]).all()
    summary = json.loads((work / "diagnostics.json").read_text())["repetition"]
    assert summary["n"] == 8 and summary["failed"] == 0
    distance = np.median(np.sqrt(28 * 28 * found["again"]))
    np.testing.assert_allclose(summary["again_distance"], distance, rtol=1e-5)


def _check_recovery(work):
    found = read(work, "diagnostics/recoveries")
    assert found["latents"].shape == found["found"].shape == (4, 4)
    model = models.build(MODEL)
    params = load_params(work / "checkpoints/generator/params")
    images, projections = (
        np.asarray(model.apply(params, jnp.asarray(found[name])))
        for name in ("latents", "found")
    )
    errors = np.mean((images - projections) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(found["error"], errors, rtol=1e-3, atol=1e-9)
    summary = json.loads((work / "diagnostics.json").read_text())["recovery"]
    assert summary["n"] == 4
    assert summary["recovered"] == np.sum(errors <= inversion_measures.RECOVERED)


REFUSED = {
    "more examples than there are": ("examples", "21", "21; allowed: at most the 20"),
    "negative recoveries": ("recoveries", "-1", "recoveries is -1; allowed: 0 or more"),
    "no solver": ("solvers", "()", "solvers is (); allowed: one or more"),
    "a solver twice": ("solvers", "('adam','adam(steps=200)')", "no entry twice"),
    "an unknown solver": ("solvers", "('adan',)", "'adan'"),
    "restarts that stop": ("restarts", "restarts(enough=0.1)", "without `enough`"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_before_any_work(name, program, command, project):
    key, value, words = REFUSED[name]
    stages = "--config.stages=('fit_generator','diagnose')"
    ended = program(*command, stages, f"--config.diagnostics.{key}={value}")
    assert ended.code == 2 and ended.error.count("robust_manifold:") == 1
    assert "diagnostics" in ended.error and words in ended.error, ended.error
    assert not (project / "run" / "checkpoints").exists()
