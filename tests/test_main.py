"""The program from start to end: its files, its resumption after kill -9, its help."""

import itertools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from PIL import Image as pil

from robust_manifold import data, models
from robust_manifold.config import default_config
from robust_manifold.data import images, pictures
from robust_manifold.findings import all_stages
from robust_manifold.runtime import Pause, load_params
from robust_manifold.runtime.stopping import Look
from tests.support import environment_of

TEXTS = ("md", "tex", "txt")
"""Endings of the files of tables that have captions."""

WITHOUT_REPORT = ("fit_classifier", "fit_generator", "measure", "attack", "evaluate")

COMMAND = [sys.executable, "-m", "robust_manifold.main"]


def _start(project, work, *more, environment=None):
    return subprocess.Popen(
        [*COMMAND, f"--config={project / 'tiny.py'}", f"--workdir={work}", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | (environment or {}),
    )


def _results(work):
    """Returns the bytes of results.csv but for its times."""
    return pd.read_csv(work / "results.csv", dtype=str).drop(columns="seconds").to_csv()


def _run(project, work, *more):
    process = _start(project, work, *more)
    out, error = process.communicate()
    assert process.returncode == 0, error
    return out, error


def test_a_run(program, project):
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
        "report/figures/samples.png",
        "report/figures/accuracy.png",
        "report/figures/training.png",
        "report/figures/reconstructions.png",
        "report/figures/interpolation.png",
        "report/figures/neighbours.png",
        "checkpoints/discriminator/params/0/manifest.json",
    ):
        assert (work / name).stat().st_size > 0, name
    for name in ("errors-*", "projections-*-clean", "projections-*-oblivious-fgsm-*"):
        assert len(list(work.glob(f"report/figures/{name}.png"))) == 1, name
    page = (work / "report/report.html").read_text()
    tables = re.findall(r'(<h3>[^<]+</h3>\s*)?<div class="scroll">', page)
    assert len(tables) > 4 and all(tables)
    # In all that may be pasted elsewhere: of one adversary, and that one oblivious.
    for text in (out, page, *((work / f"report/table.{x}").read_text() for x in TEXTS)):
        assert "Worst-case accuracy, oblivious attacks only" in text
    status = json.loads((work / "status.json").read_text())
    assert status["state"] == "finished"
    assert set(status["stage_seconds"]) == set(status["finished_stages"])

    results = pd.read_csv(work / "results.csv")
    worst = results["adversary"] == "worst case"
    assert list(worst) == [False] * 4 + [True] * 2
    assert (results["n"] == 8).all()
    results = results[~worst]
    assert list(results["attack"]) == ["clean", "fgsm(epsilon=0.1)"] * 2
    _check_stored_outcomes(project, work, results)
    _check_measures(work)
    lines = (work / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    assert [line["step"] for line in logged if "validation_error" in line] == [4, 8]

    # A second run has nothing to do but to draw the report.
    before = _results(work), (work / "report/table.md").read_bytes()
    ended = program(f"--config={project / 'tiny.py'}", f"--workdir={work}")
    assert ended.code == 0, ended.error
    assert ended.error.count("finished before") == 7
    assert (_results(work), (work / "report/table.md").read_bytes()) == before
    again = json.loads((work / "status.json").read_text())["stage_seconds"]
    assert again["evaluate"] == status["stage_seconds"]["evaluate"]


def _read(work, folder):
    """Returns the arrays of all rounds of one folder, joined."""
    paths = sorted(work.glob(f"{folder}/round-*.npz"))
    assert len(paths) == 2, folder
    rounds = [dict(np.load(path)) for path in paths]
    for arrays in rounds:
        arrays.pop("seconds")
    return {name: np.concatenate([r[name] for r in rounds]) for name in rounds[0]}


def _check_stored_outcomes(project, work, results):
    """Computes every stored figure again, from the stored networks and images."""
    source = f"npz:{project / 'digits.npz'}"
    test = data.load(source, validation_examples=20, test_examples=20).test
    clean, labels = data.to_float(test.images)[:8], test.labels[:8]
    classifier = models.build("linear", classes=3)
    params = load_params(work / "checkpoints/classifier/params")
    generator = models.build("dcgan_generator(latent_size=4, width=2)")
    generator_params = load_params(work / "checkpoints/generator/params")

    def logits_of(images):
        return np.asarray(classifier.apply(params, jnp.asarray(images)))

    crafted = _read(work, "adversarial/none/oblivious/fgsm-epsilon=0.1")
    np.testing.assert_array_equal(crafted["ids"], test.ids[:8])
    size = np.abs(crafted["images"] - clean).max(axis=(1, 2, 3))
    np.testing.assert_allclose(size, 0.1, rtol=1e-5)
    fooled = logits_of(crafted["images"]).argmax(-1) != labels
    np.testing.assert_array_equal(crafted["success"], fooled)
    np.testing.assert_allclose(results["attack_success"][1], fooled.mean(), atol=1e-6)

    attacked = "none/oblivious/fgsm-epsilon=0.1"
    cells = [(d, f) for d in ("none", "invert*") for f in ("clean", attacked)]
    for line, (defence, folder) in enumerate(cells):
        outcomes = _read(work, f"outcomes/{defence}/{folder}")
        images = clean if folder == "clean" else crafted["images"]
        if defence != "none":
            projections = np.asarray(
                generator.apply(generator_params, jnp.asarray(outcomes["latent"]))
            )
            np.testing.assert_allclose(outcomes["projections"], projections, atol=1e-5)
            errors = np.mean((projections - images) ** 2, axis=(1, 2, 3))
            np.testing.assert_allclose(outcomes["error"], errors, rtol=1e-4)
            images = projections
        np.testing.assert_allclose(outcomes["logits"], logits_of(images), atol=1e-4)
        right = np.sum(outcomes["logits"].argmax(-1) == labels)
        assert results["correct"][line] == right


def _check_measures(work):
    """Computes what measures.csv says of the inversions from what is stored of them."""
    (line,) = pd.read_csv(work / "measures.csv").itertuples()
    found = _read(work, "measures/inversion")
    assert (line.n, line.restarts, line.samples, line.steps) == (6, 2, 20, 8)
    np.testing.assert_allclose(line.error_mean, found["error"].mean(), rtol=1e-4)
    np.testing.assert_allclose(
        found["error"], found["restart_errors"].min(axis=-1), rtol=1e-6
    )
    right = found["projection_logits"].argmax(-1) == found["labels"]
    np.testing.assert_allclose(line.projection_accuracy, right.mean(), rtol=1e-5)
    with np.load(work / "measures/pictures.npz") as pictures:
        samples = pictures["samples"][: len(pictures["neighbours"])]
        differences = (samples - pictures["neighbours"]).reshape(len(samples), -1)
        distances = np.linalg.norm(differences, axis=1)
        np.testing.assert_allclose(distances, pictures["distances"], rtol=1e-4)


VARIANTS = {
    "vae": (
        "dcgan_generator(latent_size=4, width=2)",
        "vae(encoder=conv_encoder(latent_size=4, width=2))",
        "vae_encoder",
    ),
    "conditional": (
        "dcgan_generator(latent_size=4, width=2, conditional=True)",
        "gan(loss='hinge', r1=0.1, discriminator_steps=2, "
        "discriminator=dcgan_discriminator(width=2, spectral_norm=True))",
        "discriminator",
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("report", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_kind_of_generator_runs_to_the_end(name, report, program, project):
    model, training, partner = VARIANTS[name]
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        f"--config.generator.model={model}",
        f"--config.generator.training={training}",
        # What a generator has to do with.
        f"--stages={','.join((*WITHOUT_REPORT, *('report',) * report))}",
    )
    assert ended.code == 0, ended.error
    assert (project / f"run/checkpoints/{partner}/params/0/manifest.json").exists()
    (line,) = pd.read_csv(project / "run/measures.csv").itertuples()
    assert line.training.startswith(training.partition("(")[0])
    assert (project / "run/results.csv").exists()


def test_chosen_stages_and_an_argument_of_the_config(program, project):
    text = (project / "tiny.py").read_text()
    text = text.replace("get_config():", "get_config(which='classifier'):").replace(
        "    return config", "    config.stages = (f'fit_{which}',)\n    return config"
    )
    (project / "variants.py").write_text(text)
    ended = program(
        f"--config={project / 'variants.py'}:generator", f"--workdir={project / 'run'}"
    )
    assert ended.code == 0, ended.error
    assert sorted(path.name for path in (project / "run/checkpoints").iterdir()) == [
        "discriminator",
        "generator",
    ]
    ended = program(
        f"--config={project / 'variants.py'}:generator",
        f"--workdir={project / 'run'}",
        "--stages=attack",
    )
    assert ended.code == 2 and "not in config.stages" in ended.error


def test_keys_that_no_result_depends_on_may_change(program, project):
    command = [f"--config={project / 'tiny.py'}", f"--workdir={project / 'run'}"]
    stages = "--config.stages=('fit_classifier','report')"
    assert program(*command, "--config.stages=('fit_classifier',)").code == 0
    ended = program(*command, stages, "--config.report.pictures=3")
    assert ended.code == 0, ended.error
    stored = json.loads((project / "run/config.json").read_text())
    assert stored["report"]["pictures"] == 3
    assert program(*command, stages, "--config.seed=1").code == 2


def test_results_do_not_depend_on_rounds_or_batches(finished, program, tmp_path):
    one, other = finished / "run", tmp_path / "other"
    networks = [f"--config.{n}.from_run={one}" for n in ("classifier", "generator")]
    sizes = ["--config.evaluation.round_size=3", "--config.evaluation.batch_size=5"]
    stages = f"--stages={','.join(WITHOUT_REPORT)}"
    config = f"--config={finished / 'tiny.py'}"
    ended = program(config, f"--workdir={other}", stages, *networks, *sizes)
    assert ended.code == 0, ended.error
    a, b = pd.read_csv(one / "results.csv"), pd.read_csv(other / "results.csv")
    pd.testing.assert_frame_equal(
        a.drop(columns="seconds"), b.drop(columns="seconds"), rtol=1e-5
    )
    a, b = (pd.read_csv(work / "measures.csv") for work in (one, other))
    pd.testing.assert_frame_equal(
        a.drop(columns="seconds"), b.drop(columns="seconds"), rtol=1e-4
    )


@pytest.mark.slow
def test_two_processes_make_one_run(project):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    job = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    processes = [
        _start(project, project / "run", environment=job | {"JAX_PROCESS_ID": str(i)})
        for i in range(2)
    ]
    ended = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert "FGSM ε=0.1" in ended[0][0] and "FGSM" not in ended[1][0]
    results = pd.read_csv(project / "run" / "results.csv")
    results = results[results["adversary"] != "worst case"]
    _check_stored_outcomes(project, project / "run", results)


def test_a_mistake_ends_the_program_with_2():
    ended = subprocess.run(
        [*COMMAND, "--config=none.py"], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1 and "none.py" in ended.stderr


MOMENTS = (
    "checkpoints/classifier/last/4/manifest.json",
    "checkpoints/generator/last/4/manifest.json",
    "measures/inversion/round-000.npz",
    "adversarial/none/oblivious/*/round-000.npz",
    "outcomes/invert_and_classify*/clean/round-000.npz",
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
    assert codes.count(-signal.SIGKILL) >= 2
    assert set(codes) <= {0, -signal.SIGKILL}
    _run(project, killed)
    assert _results(killed) == _results(whole)
    for name in ("report/table.md", "report/table.tex", "report/table.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    metrics = [(work / "metrics.jsonl").read_bytes() for work in (killed, whole)]
    assert metrics[0] == metrics[1]


def test_a_run_that_is_stopped_again_and_again_gives_the_same_results(
    finished, program, tmp_path, monkeypatch
):
    """Wherever it looks up: between steps, within rounds, in the middle of a loop."""
    looks, look = itertools.count(1), Pause.look

    def stopping(self, units=1):
        given = look(self, units)
        return Look(True, False) if next(looks) % 15 == 0 else given

    monkeypatch.setattr(Pause, "look", stopping)
    work, whole, codes = tmp_path / "run", finished / "run", []
    while (not codes or codes[-1] == 143) and len(codes) < 100:
        codes.append(
            program(f"--config={finished / 'tiny.py'}", f"--workdir={work}").code
        )
    assert codes[-1] == 0 and len(codes) > 3
    assert _results(work) == _results(whole)
    for name in ("metrics.jsonl", "report/table.csv"):
        assert (work / name).read_bytes() == (whole / name).read_bytes()
    assert not (work / "unfinished").exists() or not [*(work / "unfinished").iterdir()]


def test_an_interrupt_before_the_run_has_begun_ends_the_program():
    """It raises nothing, which a callback would swallow."""
    code = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[1:] = ["--config=none.py"]
try:
    runpy.run_module("robust_manifold.main", run_name="__main__")
except SystemExit:
    signal.raise_signal(signal.SIGINT)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert ended.returncode == -signal.SIGINT and b"Traceback" not in ended.stderr


def test_diverged_training_has_its_own_code_and_state(program, project):
    work = project / "run"
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={work}",
        "--config.classifier.training=cross_entropy(momentum(learning_rate=1e38))",
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
    about, _, keys = shown.stdout.partition("The keys of a config")
    named = set(re.findall(r"[a-z_]+", about))
    assert set(all_stages()) <= named
    entry = re.compile(r"  [a-z_.]+ = .*|      .*")
    listed = keys.split("The components")[0].splitlines()[1:]
    assert len(listed) > 100
    for line in filter(None, listed):
        assert entry.fullmatch(line), line
        assert len(line) <= 80, line


def test_the_stages_are_told_of_where_they_are_listed():
    page = (pathlib.Path(__file__).parents[1] / "docs" / "run.md").read_text()
    about = page.partition("runs every stage that has not finished")[2][:600]
    for stage in default_config().stages:
        assert f"`{stage}`" in about, stage


@pytest.mark.slow
def test_one_and_four_devices_give_the_same_results(finished, tmp_path):
    one, four = finished / "run", tmp_path / "four"
    stages = f"--stages={','.join(WITHOUT_REPORT)}"
    process = subprocess.run(
        [*COMMAND, f"--config={finished / 'tiny.py'}", f"--workdir={four}", stages],
        capture_output=True,
        text=True,
        env=environment_of(devices=4),
    )
    assert process.returncode == 0, process.stderr
    a, b = pd.read_csv(one / "results.csv"), pd.read_csv(four / "results.csv")
    pd.testing.assert_frame_equal(
        a.drop(columns="seconds"), b.drop(columns="seconds"), rtol=1e-3
    )


def test_a_signal_ends_the_decoding(program, project, monkeypatch):
    """Before all images are decoded, which may take long; the same command goes on."""
    root = project / "bars"
    with np.load(project / "digits.npz") as digits:
        for place, (image, label) in enumerate(
            zip(digits["images"], digits["labels"], strict=True)
        ):
            (root / str(label)).mkdir(parents=True, exist_ok=True)
            pil.fromarray(image).save(root / str(label) / f"{place:03}.png")
    decoded, decode = [], pictures.decode

    def signalled(encoded, framing):
        if not decoded:
            os.kill(os.getpid(), signal.SIGTERM)
        decoded.append(encoded)
        return decode(encoded, framing)

    monkeypatch.setattr(pictures, "decode", signalled)
    monkeypatch.setattr(images, "_SPAN", 5)
    arguments = (
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        f"--config.data.source=folder:{root}",
        "--stages=fit_classifier",
    )
    ended = program(*arguments)
    assert ended.code == 128 + signal.SIGTERM, ended.error
    assert "of 120 images were decoded; the same command goes on" in ended.error
    assert program(*arguments).code == 0
