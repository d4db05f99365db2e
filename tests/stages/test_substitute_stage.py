"""The substitute adversary in a run: what it stores, resumes, reports and refuses."""

import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from robust_manifold import data, models
from robust_manifold.config import Column, default_config, validate
from robust_manifold.defenses import InvertAndClassify, NoDefense
from robust_manifold.runtime import load_params
from robust_manifold.stages.table import substitutes
from robust_manifold.stages.table.rows import folder_name, rows, rows_of

INC = "invert_and_classify(solver=adam(steps=2), restarts=1)"
INC_FOLDER = "invert_and_classify-solver=adam-steps=2-restarts=1"
SPEC = "substitute(model=linear, seeds=6, rounds=2, epochs=2, batch_size=4)"
SETTINGS = [
    "--config.stages=('fit_classifier','fit_generator','attack','evaluate','report')",
    "--config.generator.duration=1 steps",
    "--config.measures.validation_examples=0",
    "--config.evaluation.adversaries=('oblivious','substitute')",
    f"--config.evaluation.substitute={SPEC}",
    f"--config.evaluation.defences=('none','{INC}')",
]


@pytest.fixture
def command(project):
    return [f"--config={project / 'tiny.py'}", f"--workdir={project / 'run'}"]


def queries(work, target):
    """Returns images and labels of the oracle's files, joined."""
    files = sorted((work / "substitutes" / target).glob("queries-*.npz"))
    parts = [np.load(file) for file in files]
    joined = [np.concatenate([part[name] for part in parts]) for name in parts[0]]
    return len(files), dict(zip(parts[0], joined, strict=True))


def stored(work):
    """Returns what must not depend on when a run was stopped."""
    table = pd.read_csv(work / "results.csv", dtype=str).drop(columns="seconds")
    summary = json.loads((work / "substitutes.json").read_text())
    return table.to_csv(), summary, (work / "report/table.md").read_text()


def test_a_run_trains_one_substitute_a_target_and_goes_on_where_it_stopped(
    program, command, project, monkeypatch
):
    work = project / "run"
    ended = program(*command, *SETTINGS)
    assert ended.code == 0, ended.error
    table = pd.read_csv(work / "results.csv")
    table = table[table["adversary"] != "worst case"]
    attacked = table[table["attack"] != "clean"]
    # A substitute's images meet the defence whose labels it learned, and no other.
    assert list(attacked["adversary"]) == ["oblivious", "substitute"] * 2
    assert list(attacked["defence"]) == ["none", "none", INC, INC]
    spent = table["label_queries"].to_numpy()
    by_substitute = (table["adversary"] == "substitute").to_numpy()
    assert (spent[by_substitute] == 12).all() and np.isnan(spent[~by_substitute]).all()
    for target in ("none", INC_FOLDER):
        assert queries(work, target)[0] == 4  # rounds of 4 images: 4, 2 and 4, 2
        assert len(queries(work, target)[1]["labels"]) == 12
    _check_oracle(project, work)
    _check_summary(project, work)
    page = (work / "report/report.html").read_text()
    assert "Linear, trained on nothing but labels of 6" in page
    assert "Label queries: images whose label the target was asked for" in page
    assert (work / "report/figures/transfer.png").stat().st_size > 0

    # Killed while it asks: the answers that were stored are not asked for again.
    again, asked = project / "again", []
    labels = substitutes._Oracle._labels

    def killed(oracle, images):
        asked.append(len(images))
        if len(asked) in (3, 7):
            raise KeyboardInterrupt
        return labels(oracle, images)

    monkeypatch.setattr(substitutes._Oracle, "_labels", killed)
    command[1] = f"--workdir={again}"
    taken = [f"--config.{name}.from_run={work}" for name in ("classifier", "generator")]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            program(*command, *SETTINGS, *taken)
        assert not (again / "results.csv").exists()
    assert program(*command, *SETTINGS, *taken).code == 0
    assert asked == [4, 2, 4, 4, 2, 4, 2, 2, 4, 2]
    assert stored(again) == stored(work)


def _check_oracle(project, work):
    """Computes the labels again that the bare classifier has told."""
    _, told = queries(work, "none")
    classifier = models.build("linear", classes=3)
    params = load_params(work / "checkpoints/classifier/params")
    logits = classifier.apply(params, jnp.asarray(told["images"]))
    np.testing.assert_array_equal(told["labels"], np.argmax(logits, axis=-1))
    source = f"npz:{project / 'digits.npz'}"
    dataset = data.load(source, validation_examples=20, test_examples=20)
    held_out = {image.tobytes() for image in data.to_float(dataset.validation.images)}
    # The seeds are validation images; what was made of them is new.
    own = [image.tobytes() in held_out for image in told["images"]]
    assert own == [True] * 6 + [False] * 6
    moved = np.abs(told["images"][6:] - told["images"][:6])
    assert moved.max() == pytest.approx(0.1, abs=1e-6)


def _check_summary(project, work):
    """Computes the agreement again, from the stored network and the stored logits."""
    lines = json.loads((work / "substitutes.json").read_text())
    assert [line["target"] for line in lines] == ["none", INC]
    source = f"npz:{project / 'digits.npz'}"
    test = data.load(source, validation_examples=20, test_examples=20).test
    model = models.build("linear", classes=3)
    for line, target in zip(lines, ("none", INC_FOLDER), strict=True):
        params = load_params(work / f"checkpoints/substitute-{target}/params")
        logits = model.apply(params, jnp.asarray(data.to_float(test.images)[:8]))
        files = sorted(work.glob(f"outcomes/{target}/clean/round-*.npz"))
        told = np.concatenate([np.load(file)["logits"] for file in files])
        alike = np.argmax(logits, axis=-1) == np.argmax(told, axis=-1)
        assert line["agreement"] == pytest.approx(alike.mean())
        assert (line["n"], line["queries"]) == (8, 12)
        assert [told["queries"] for told in line["history"]] == [6, 12]
        # The attack was made on the substitute, and its success is told of that.
        (crafted,) = work.glob(f"adversarial/{target}/substitute/fgsm*")
        rounds = [np.load(file) for file in sorted(crafted.glob("round-*.npz"))]
        images = np.concatenate([part["images"] for part in rounds])
        success = np.concatenate([part["success"] for part in rounds])
        fooled = np.argmax(model.apply(params, jnp.asarray(images)), -1)
        np.testing.assert_array_equal(success, fooled != test.labels[:8])


def test_a_run_without_a_generator(program, command, project):
    ended = program(
        *command,
        "--config.stages=('fit_classifier','attack','evaluate','report')",
        "--config.evaluation.defences=('none',)",
        "--config.evaluation.adversaries=('substitute',)",
        f"--config.evaluation.substitute={SPEC}",
    )
    assert ended.code == 0, ended.error
    names = sorted(path.name for path in (project / "run/checkpoints").iterdir())
    assert names == ["classifier", "substitute-none"]
    assert "Substitute models" in (project / "run/report/table.md").read_text()


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("substitute(seeds=21)", "seeds is 21; allowed: at most the 20 validation"),
        ("substitute(model=dcgan_generator)", "model is .*; allowed: a classifier"),
        ("substitute(step=0)", r"evaluation\.substitute: .*step is 0.0; allowed"),
        ("substitude", "'substitude'.*'substitute'"),
        ("substitute(lamda=0.1)", "'lamda'"),
    ],
)
def test_a_substitute_that_cannot_be_is_one_sentence(
    spec, named, program, command, project
):
    ended = program(
        *command,
        "--config.stages=('fit_classifier','attack')",
        "--config.evaluation.defences=('none',)",
        "--config.evaluation.adversaries=('substitute',)",
        f"--config.evaluation.substitute={spec}",
    )
    assert ended.code == 2
    lines = [line for line in ended.error.splitlines() if "robust_manifold:" in line]
    assert len(lines) == 1 and "Traceback" not in ended.error
    assert pd.Series(lines).str.contains(named, regex=True).all(), lines


def test_a_substitute_that_diverges_ends_the_run(program, command, project):
    spec = "substitute(linear, 6, optimizer=momentum(learning_rate=1e38))"
    ended = program(
        *command,
        "--config.stages=('fit_classifier','attack')",
        "--config.evaluation.defences=('none',)",
        "--config.evaluation.adversaries=('substitute',)",
        f"--config.evaluation.substitute={spec}",
    )
    assert ended.code == 3 and "substitute-none diverged" in ended.error
    assert not (project / "run/checkpoints/substitute-none").exists()


def test_rows_of_every_adversary():
    config: Any = default_config()
    config.evaluation.adversaries = ("oblivious", "substitute")
    block = validate(config).evaluation
    every = [(row.adversary, row.folder.partition("/")[0]) for row in rows(block)]
    assert every == [
        ("none", "clean"),
        ("oblivious", "none"),
        ("substitute", "none"),
        ("substitute", "invert_and_classify"),
    ]
    for defence in (NoDefense(), InvertAndClassify()):
        met = rows_of(Column(defence), block)
        assert [row.adversary for row in met] == ["none", "oblivious", "substitute"]
        assert met[-1].target == Column(defence)


def test_names_of_files_are_never_too_long():
    text = "patch(mask=square(size=0.25), " + ", ".join(
        f"a{i}=0.125" for i in range(40)
    )
    names = {folder_name(text), folder_name(text + ", b=1)")}
    assert len(names) == 2 and all(len(name) <= 200 for name in names)
    assert folder_name("pgd(epsilon=0.1)") == "pgd-epsilon=0.1"
