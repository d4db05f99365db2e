"""Tiny run folders, made by hand: what a finished run leaves behind, and no more."""

import json

import numpy as np
import pytest

from robust_manifold import evaluation
from robust_manifold.results import command
from robust_manifold.runtime import Artefacts

N = 100
INC = "invert_and_classify(restarts=4)"
ROWS = (
    ("clean", "none", "", None),
    ("fgsm(epsilon=0.1)", "oblivious", "linf", 0.1),
    ("carlini_wagner(norm='l0')", "oblivious", "l0", None),
)
RIGHT = {"none": (97, 60, 0), INC: (95, 90, 70)}
CONFIG = {
    "title": "A table",
    "seed": 0,
    "stages": ["evaluate", "report"],
    "data": {"source": "tfds:mnist", "data_dir": "/home/me/data"},
    "classifier": {"training": "cross_entropy", "from_run": ""},
    "classifiers": {},
    "evaluation": {"confidence": 0.95, "examples": N},
}
STATUS = {
    "state": "finished",
    "command": [
        *("/home/me/main.py", "--config=experiments/mnist.py", "--stages=report"),
        *("--workdir", "/home/me/runs/x", "--config.classifier.from_run=/home/me/net"),
    ],
    "versions": {"python": "3.11.7", "jax": "0.10.2"},
    "devices": {"devices": 1, "kind": "cpu", "processes": 1},
    "stage_seconds": {"evaluate": 60.0, "report": 2.5},
}
SPLITS = {"train": {"examples": 5000}, "test": {"examples": 100, "sha256": "ab" * 32}}


def outcomes(right=RIGHT, rows=ROWS, classifier="small_cnn", n=N):
    """Returns the outcomes of each column: its first images are right."""
    return [
        evaluation.Outcome(
            classifier=classifier,
            defence=defence,
            adversary=adversary,
            attack=attack,
            right=np.arange(n) < count,
            norm=norm,
            epsilon=epsilon,
            sizes={} if epsilon is None else {norm: np.full(n, epsilon)},
        )
        for defence, counts in right.items()
        for (attack, adversary, norm, epsilon), count in zip(rows, counts, strict=True)
    ]


def lines_of(found, worst=True):
    """Returns the texts of results.csv and worst_cases.csv."""
    cells = [
        evaluation.summarise(
            classifier=row.classifier,
            defence=row.defence,
            adversary=row.adversary,
            attack=row.attack,
            norm=row.norm,
            epsilon=row.epsilon,
            labels=np.ones(len(row.right), int),
            predictions=row.right.astype(int),
        )
        for row in found
    ]
    if worst:
        known = evaluation.worst_cases(found)
        cells += [c for c in known if c.adversary == evaluation.WORST_CASE]
    lines = evaluation.adversary_lines(found)
    return {
        "results.csv": evaluation.to_csv(cells),
        "worst_cases.csv": evaluation.adversary_lines_to_csv(lines),
    }


@pytest.fixture
def make_run(tmp_path):
    """Returns a function that makes a run folder and returns its path.

    `files` are texts or, for JSON, values; those that are None are left out.
    """

    def make(name="run", *, seed=0, files=None, config=None, status=None):
        folder = tmp_path / name
        folder.mkdir()
        kept = {**lines_of(outcomes()), "data.json": SPLITS} | (files or {})
        stored = Artefacts(folder)
        for file, value in kept.items():
            if isinstance(value, str):
                stored.write_text(file, value)
            elif value is not None:
                stored.write_json(file, value)
        whole = CONFIG | {"seed": seed} | (config or {})
        written = [name for name, value in kept.items() if value is not None]
        told = STATUS | {"finished_stages": dict.fromkeys(whole["stages"], written)}
        (folder / "config.json").write_text(json.dumps(whole))
        (folder / "status.json").write_text(json.dumps(told | (status or {})))
        return str(folder)

    return make


@pytest.fixture
def ended(tmp_path, capsys):
    """Returns the program as a function: exit code, output and error text."""

    def run(*arguments):
        try:
            code = command.main([*arguments, f"--docs={tmp_path / 'docs'}"])
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def page(ended, tmp_path):
    """Returns a function that makes the pages of runs and returns their text.

    The front page is not among them; `front` makes it.
    """

    def make(*arguments):
        code, _, error = ended(*arguments)
        assert (code, error) == (0, "")
        return "".join(
            path.read_text()
            for path in sorted((tmp_path / "docs/results").glob("*.md"))
        )

    return make


@pytest.fixture
def front(ended, tmp_path):
    """Returns a function that makes the front page of runs and returns its text."""

    def make(*arguments):
        code, _, error = ended(*arguments)
        assert (code, error) == (0, "")
        return (tmp_path / "docs/results.md").read_text()

    return make


@pytest.fixture
def lines():
    """Returns `lines_of(outcomes(...))`, to make other files of a run."""
    return lambda *arguments, **changes: lines_of(outcomes(*arguments, **changes))


@pytest.fixture
def row_of():
    """Returns a function that finds the one row of a page that has these cells."""

    def find(text, *cells):
        rows = [
            [cell.strip() for cell in line.split("|")[1:-1]]
            for line in text.splitlines()
            if line.startswith("|")
        ]
        (found,) = [row for row in rows if row[: len(cells)] == list(cells)]
        return found

    return find
