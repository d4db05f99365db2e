"""What users type, and what they have stored: it changes openly or not at all.

Each text beside this file holds what one test finds.  To change one openly, write the
texts anew, read the difference, and tell of it in CHANGELOG.md:

  PINS=write pytest tests/pins
"""

import json
import os
import pathlib
import shutil
import zipfile

import ml_collections
import numpy as np
import pandas as pd
import pytest

from robust_manifold.config import add_classifier, add_network, default_config
from robust_manifold.findings import all_stages
from robust_manifold.results import command as results
from robust_manifold.runtime import Artefacts
from tests.pins.words import words

HERE = pathlib.Path(__file__).parent


def check(name, lines):
    """Compares lines with a stored text; with PINS=write in the environment, stores."""
    text = "".join(f"{line}\n" for line in lines)
    if os.environ.get("PINS") == "write":
        (HERE / name).write_text(text)
    assert text.splitlines() == (HERE / name).read_text().splitlines()


def flat(config, prefix=""):
    for key, value in config.items():
        if isinstance(value, ml_collections.ConfigDict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key} = {value!r}"


def test_the_keys_of_a_config_and_their_defaults():
    config = default_config()
    add_classifier(config, "named")
    add_network(config, "role")
    check("config.txt", sorted(flat(config)))


def test_the_files_of_a_run_and_what_they_hold(finished):
    entered = Artefacts(finished / "run")
    entered.verify()
    sums = json.loads((finished / "run/checksums.json").read_text())
    files = {name for kind in sums.values() for name in kind}
    networks = (finished / "run").glob("checkpoints/*/params/*/manifest.json")
    files |= {path.relative_to(finished / "run").as_posix() for path in networks}
    lines = [f"{file}{holds(finished / 'run' / file)}" for file in sorted(files)]
    check("files.txt", lines)


def holds(path):
    """Returns the names of what a file holds, and the types and shapes of arrays."""
    if path.suffix == ".npz":
        with np.load(path) as stored:
            arrays = [(name, stored[name]) for name in sorted(stored)]
        return ": " + ", ".join(f"{n} {a.dtype} {list(a.shape)}" for n, a in arrays)
    if path.suffix == ".csv" and "report" not in path.parts:
        return ": " + ", ".join(pd.read_csv(path).columns)
    if path.suffix == ".json" and "checkpoints" not in path.parts:
        return ": " + ", ".join(sorted(map(str, json.loads(path.read_text()))))
    return ""


def test_the_random_streams_of_a_run(finished):
    # A network of another name than today's would be another network.
    check(
        "streams.txt", sorted(set((finished / "streams.txt").read_text().split("\n")))
    )


@pytest.fixture
def stored(tmp_path):
    """Returns a folder with a run of an older version, its images and its config."""
    folder = tmp_path / "stored"
    with zipfile.ZipFile(HERE / "run.zip") as archive:
        archive.extractall(folder)
    shutil.copy(HERE / "wide.py", folder / "wide.py")
    return folder


# Its sheets of few and small images leave no room for the names of the rows.
@pytest.mark.filterwarnings("ignore:constrained_layout not applied")
def test_a_run_of_an_older_version_is_finished_and_has_the_same_report(
    program, stored, monkeypatch
):
    monkeypatch.chdir(stored)
    before = contents(stored / "run")
    ended = program("--config=wide.py", "--workdir=run")
    assert ended.code == 0, ended.error
    # All but the one-dimensional training, that of networks by role, the three of a
    # cascade, unions, certificates, smoothing, stickers and the errors of a regression,
    # which it has not, and the report itself.
    assert ended.error.count("finished before") == len(all_stages()) - 11
    after = contents(stored / "run")
    # Its words are compared below; its numbers are the same bytes.
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed <= {"report/table.md", "report/table.tex"}
    page = (stored / "run/report/report.html").read_text()
    check("report.txt", words(page))
    figures = sorted(path.name for path in (stored / "run/report/figures").iterdir())
    check("figures.txt", figures)


def contents(run):
    """Returns all but what each call of the program writes anew."""
    anew = ("status.json", "checksums.json", "report/report.html")
    files = {p.relative_to(run).as_posix(): p for p in run.rglob("*") if p.is_file()}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if name not in anew and path.suffix != ".png" and path.name != "lock"
    }


def test_a_run_of_an_older_version_has_the_same_page_of_results(
    stored, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(stored)
    # It must be there; as it is large, it is not stored.
    (stored / "run/report/report.html").touch()
    assert results.main(["run", f"--docs={tmp_path}"]) == 0
    front = tmp_path / "results.md"
    pages = [front, *sorted((tmp_path / "results").glob("*.md"))]
    check("results.txt", "".join(page.read_text() for page in pages).splitlines())
