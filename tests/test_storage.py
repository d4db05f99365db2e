"""What the file system does to a run: one sentence, code 2, and the same end after it.

A disk fills up at any kind of file, folders go away or cannot be read, files are
damaged and deleted as the sentences say.
"""

import errno
import json
import os
import pathlib
import shutil
import sys

import numpy as np
import orbax.checkpoint as ocp
import pandas as pd
import pytest

from robust_manifold import weights
from robust_manifold.results import command as results
from robust_manifold.runtime import Artefacts, metrics
from robust_manifold.runtime.run_folder import RunFolder, read_status
from robust_manifold.stages import RUNS

WITHOUT_REPORT = ("fit_classifier", "fit_generator", "measure", "attack", "evaluate")
WITH_REPORT = (*WITHOUT_REPORT, "report")


@pytest.fixture
def work(finished, tmp_path):
    """Returns a copy of the finished run."""
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def again(program, finished, work):
    """Returns the program as a function that goes on with the copy.

    Where the report has no part in it, it is left out: it takes longer than all else.
    """

    def run(*more, stages=WITHOUT_REPORT):
        more = (*more, f"--stages={','.join(stages)}")
        return program(f"--config={finished / 'tiny.py'}", f"--workdir={work}", *more)

    return run


def one_sentence(ended, *named):
    lines = [line for line in ended.error.splitlines() if "robust_manifold:" in line]
    assert ended.code == 2, ended
    assert len(lines) == 1 and lines[0].endswith("."), ended.error
    assert "Traceback" not in ended.error
    for text in named:
        assert text in lines[0]


def contents(run):
    """Returns all that a run says, without its times."""
    found: dict[str, object] = {
        name: (run / name).read_bytes()
        for name in ("worst_cases.csv", "report/table.tex", "report/table.csv")
    }
    for name in ("results.csv", "measures.csv"):
        frame = pd.read_csv(run / name, dtype=str)
        times = [column for column in frame if "seconds" in column]
        found[name] = frame.drop(columns=times).to_csv()
    # A training that began anew stands last.
    found["metrics.jsonl"] = sorted((run / "metrics.jsonl").read_text().splitlines())
    for path in sorted(run.glob("**/round-*.npz")):
        arrays = dict(np.load(path))
        arrays.pop("seconds", None)
        found[str(path.relative_to(run))] = {k: v.tobytes() for k, v in arrays.items()}
    return found


def state(run):
    return json.loads((run / "status.json").read_text())["state"]


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_at(name):
    """Returns what makes a disk full for files whose name holds a text."""

    def fill(patch):
        def fsync(number):
            if name in os.readlink(f"/proc/self/fd/{number}"):
                no_room()

        patch.setattr(os, "fsync", fsync)

    return fill


def full_for_metrics(patch):
    class Full:
        def __init__(self, *_, **__):
            self.close = lambda: None

        write = staticmethod(no_room)

    patch.setattr(metrics, "open", Full, raising=False)


def full_for_orbax(patch):
    def save(*_, **__):
        raise ValueError("Failed to write 9 bytes [os_error_code='28']")

    patch.setattr(ocp.CheckpointManager, "save", save)


def full_for_a_manager(patch):
    patch.setattr(ocp.CheckpointManager, "__init__", no_room)


WRITES = {
    # what is deleted first, so that it is written; what refuses to
    "the status": (None, full_at(".status.json")),
    "a line of metrics": ("checkpoints/classifier", full_for_metrics),
    "a checkpoint": ("checkpoints/classifier", full_for_orbax),
    "a checkpoint's folder": ("checkpoints/classifier", full_for_a_manager),
    "a manifest": ("checkpoints/classifier", full_at(".manifest.json")),
    "images": ("adversarial", full_at(".round-001.npz")),
    "outcomes": ("outcomes/none", full_at(".round-000.npz")),
    "results": ("results.csv", full_at(".results.csv")),
    "checksums": ("adversarial", full_at(".checksums.json")),
    "a figure": (None, full_at(".png")),
    "the page": (None, full_at(".report.html")),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk(name, again, work, finished, monkeypatch):
    deleted, fill = WRITES[name]
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    stages = WITHOUT_REPORT if deleted or name == "the status" else WITH_REPORT
    if deleted:
        shutil.rmtree(work / deleted) if (work / deleted).is_dir() else (
            work / deleted
        ).unlink()
    with monkeypatch.context() as patch:
        fill(patch)
        ended = again(stages=stages)
        one_sentence(ended, "No space left on device", "the same command goes on")
    assert state(work) == ("finished" if name == "the status" else "failed")
    assert not [p for p in work.rglob("*") if "partial" in p.name or "tmp" in p.name]
    ended = again(stages=stages)
    assert ended.code == 0, ended.error
    assert contents(work) == contents(finished / "run")
    assert state(work) == "finished"


def test_a_folder_that_is_taken_away_while_the_run_is_under_way(
    again, work, finished, monkeypatch
):
    moved = work.with_name("moved")

    def move(context, real=RUNS["evaluate"]):
        stored = real(context)
        work.rename(moved)
        return stored

    next((work / "outcomes").rglob("*.npz")).unlink()
    with monkeypatch.context() as patch:
        patch.setitem(RUNS, "evaluate", move)
        one_sentence(again(), "removed, moved or replaced")
    assert not work.exists()
    moved.rename(work)
    assert again().code == 0
    assert contents(work) == contents(finished / "run")


def test_a_training_makes_no_folder_in_the_place_of_one_taken_away(
    again, work, monkeypatch
):
    shutil.rmtree(work / "checkpoints/classifier")

    def remove(*_, real=ocp.CheckpointManager.save, **__):
        raise AssertionError("nothing is to be written any more")

    def rewind(self, *_, real=metrics.MetricsWriter.rewind, **__):
        real(self, *_, **__)
        shutil.rmtree(work)

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", remove)
        patch.setattr(metrics.MetricsWriter, "rewind", rewind)
        one_sentence(again(), "removed, moved or replaced")
    assert not work.exists()


def test_a_folder_that_cannot_be_read_is_no_missing_one(again, work, monkeypatch):
    def refuse(self, real=pathlib.Path.stat, **options):
        if "checkpoints/classifier/" in str(self):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "stat", refuse)
        one_sentence(again(), "checkpoints/classifier", "Permission denied")
    assert again().code == 0


def _spoil(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _listed(run):
    """Returns every file of a run that has a checksum of its own."""
    found = json.loads((run / "checksums.json").read_text())
    return sorted({*found["files"], *found["logs"]})


def test_every_stored_file_can_be_deleted_and_made_anew(again, work, finished):
    # The remedy that the sentence of a damaged file names, for all of them at once.
    stored = [name for name in _listed(work) if name != "config.json"]
    assert len(stored) > 20
    for name in stored:
        (work / name).unlink()
    ended = again(stages=WITH_REPORT)
    assert ended.code == 0, ended.error
    # The course of the trainings is not made anew, as the sentence says.
    expected = contents(finished / "run") | {"metrics.jsonl": []}
    assert contents(work) == expected


def test_every_stored_file_is_listed_by_the_stage_that_writes_it(work):
    # Else a stage would not run again whose file was damaged and deleted.
    status = read_status(work)
    listed = {o for outputs in status["finished_stages"].values() for o in outputs}
    own = {"config.json", "data.json", "guesses.json", "metrics.jsonl"}
    unlisted = {name for name in _listed(work) if not name.startswith("report/")}
    assert unlisted - listed == own
    assert not [name for name in listed if not (work / name).is_file()]


@pytest.mark.parametrize("name", ["config.json", "status.json", "checksums.json"])
def test_the_remedy_of_a_damaged_file_of_the_folder_leads_out(
    name, again, work, finished
):
    (work / name).write_text("[]")
    one_sentence(again(), f"{name} is damaged", "delete it")
    (work / name).unlink()
    ended = again()
    assert ended.code == 0, ended.error
    assert contents(work) == contents(finished / "run")
    if name == "checksums.json":
        assert "evaluate  finished before" not in ended.error
    Artefacts(work).verify()


@pytest.mark.parametrize("kind", ["params", "best"])
def test_the_remedy_of_a_damaged_checkpoint_leads_out(kind, again, work, finished):
    shutil.rmtree(work / "checkpoints/classifier/params")
    if kind == "best":
        (file,) = work.glob("checkpoints/classifier/best/*/manifest.json")
        _spoil(file)
        one_sentence(again(), "is damaged", f"delete {file.parent} and run again")
        shutil.rmtree(file.parent)
    (work / "results.csv").unlink()
    assert again().code == 0
    assert contents(work) == contents(finished / "run")


def pages(folder):
    """Returns the text of all pages of results."""
    made = sorted((folder / "docs").rglob("*.md"))
    return "".join(page.read_text() for page in made)


def record(run, tmp_path, capsys):
    capsys.readouterr()
    code = results.main(["--record", str(run), f"--docs={tmp_path / 'docs'}"])
    return code, capsys.readouterr().err


EDITS = {
    "seconds": ("status.json", '"seconds": ', '"seconds": 1'),
    "versions": ("status.json", '"jax": "', '"jax": "9'),
    "hardware": ("status.json", '"kind": "cpu"', '"kind": "H200"'),
    "confidence": ("config.json", '"confidence": 0.95', '"confidence": 0.5'),
    "seed": ("config.json", '"seed": 0', '"seed": 1'),
    "a logged line": ("metrics.jsonl", '"step": 4', '"step": 5'),
    "the title": ("config.json", '"title": "', '"title": "Best '),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_was_edited_is_not_recorded(name, work, tmp_path, capsys):
    file, old, new = EDITS[name]
    text = (work / file).read_text()
    assert old in text
    (work / file).write_text(text.replace(old, new))
    code, error = record(work, tmp_path, capsys)
    assert code == 2 and error.count("\n") == 1 and f"{file} is damaged" in error
    assert not (tmp_path / "docs").exists()
    if file == "config.json":
        # Nor does it help to drop the checksum.
        sums = (work / "checksums.json").read_text()
        (work / "checksums.json").write_text(sums.replace('"config.json"', '"x"'))
        code, error = record(work, tmp_path, capsys)
        assert code == 2 and "config.json has no checksum" in error
        (work / "checksums.json").write_text(sums)
    (work / file).write_text(text)
    assert record(work, tmp_path, capsys) == (0, "")


def test_what_a_finished_stage_lists_must_be_there_to_be_recorded(
    work, tmp_path, capsys, again
):
    listed = read_status(work)["finished_stages"]
    # The last belongs to no stage: without it the page would not say what was tested.
    lost = ("worst_cases.csv", "measures/pictures.npz", *listed["fit_classifier"])
    for name in (*lost, "data.json"):
        kept = (work / name).read_bytes()
        (work / name).unlink()
        code, error = record(work, tmp_path, capsys)
        assert (code, error.count("\n")) == (2, 1) and f"lacks {name};" in error
        (work / name).write_bytes(kept)
    assert record(work, tmp_path, capsys) == (0, "")


def test_the_report_alone_does_not_rewrite_where_results_come_from(
    again, work, tmp_path, capsys, monkeypatch
):
    before = read_status(work)
    there = {"platform": "gpu", "kind": "H200", "devices": 8, "processes": 1}
    with monkeypatch.context() as patch:
        patch.setattr("robust_manifold.runtime.devices.describe", lambda: there)
        assert again(stages=["report"]).code == 0
    after = read_status(work)
    for status in (before, after):
        del status["ran"]["report"]
    assert after["ran"] == before["ran"] and set(after["ran"]) > {"attack", "evaluate"}
    page = (work / "report/report.html").read_text()
    assert "H200" not in page and "--stages=report" not in page
    assert record(work, tmp_path, capsys) == (0, "")
    assert "H200" not in pages(tmp_path)

    # What went on elsewhere is told apart.
    next((work / "outcomes").rglob("*.npz")).unlink()
    with monkeypatch.context() as patch:
        patch.setattr("robust_manifold.runtime.devices.describe", lambda: there)
        assert again(stages=WITH_REPORT).code == 0
    assert record(work, tmp_path, capsys) == (0, "")
    text = pages(tmp_path)
    assert "8 x H200, 1 process(es) (part 2 of evaluate" in text
    page = (work / "report/report.html").read_text()
    assert "8 x H200, 1 process(es) (part 2 of evaluate" in page


def test_a_full_disk_leaves_the_record_that_was_there(
    work, tmp_path, capsys, monkeypatch
):
    assert record(work, tmp_path, capsys)[0] == 0
    before = {p: p.read_bytes() for p in (tmp_path / "docs").rglob("*") if p.is_file()}
    for name in (".worst_cases.csv", ".results.md"):
        with monkeypatch.context() as patch:
            full_at(name)(patch)
            code, error = record(work, tmp_path, capsys)
        assert code == 2 and error.count("\n") == 1 and "No space left" in error
        after = {p: p.read_bytes() for p in (tmp_path / "docs").rglob("*.*")}
        assert {path: after[path] for path in before} == before
        assert (
            set(after) == {p for p in (tmp_path / "docs").rglob("*.*")} >= set(before)
        )
        assert not list((tmp_path / "docs").rglob("*partial"))


def test_a_full_disk_leaves_no_file_of_weights(work, tmp_path, capsys, monkeypatch):
    output = tmp_path / "out" / "x.npz"
    command = ["export", f"--run={work}", "--model=classifier", f"--output={output}"]
    with monkeypatch.context() as patch:
        full_at(".x.npz")(patch)
        assert weights.main(command) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and "No space left on device" in told
        assert not list(output.parent.iterdir())
    assert weights.main(command) == 0 and output.exists()


def test_a_run_of_an_older_version_goes_on(again, work, finished, tmp_path, capsys):
    status = read_status(work)
    (part,) = status.pop("ran")["evaluate"]
    # There was one stage for all that is made of the images classified, and a status
    # did not list the stages.
    del status["stages"]
    stored = status["finished_stages"]
    for name in ("accuracy", "detection"):
        stored["evaluate"] += stored.pop(name)
        status["stage_seconds"].pop(name)
    part = {name: part[name] for name in ("command", "versions", "devices")}
    (work / "status.json").write_text(json.dumps(status | part))
    sums = json.loads((work / "checksums.json").read_text())
    del sums["logs"], sums["files"]["config.json"]
    (work / "checksums.json").write_text(json.dumps(sums))
    assert record(work, tmp_path, capsys) == (0, "")
    page = pages(tmp_path)
    (work / "results.csv").unlink()
    ended = again()
    assert ended.code == 0 and ended.error.count("finished before") == 6
    assert contents(work) == contents(finished / "run")
    status = read_status(work)
    found = status["ran"]
    assert {"accuracy", "detection"} <= status["finished_stages"].keys()
    assert found["evaluate"][0].items() >= part.items()
    assert record(work, tmp_path, capsys) == (0, "")
    hardware = [line for line in page.splitlines() if "Hardware" in line]
    assert hardware[0] in pages(tmp_path)


def test_no_process_holds_a_folder_that_has_failed(work):
    with pytest.raises(OSError), RunFolder.open(work, _config(work), command=[]) as run:
        with pytest.MonkeyPatch.context() as patch:
            full_at("a.txt")(patch)
            run.write_text("a.txt", "a")
    RunFolder.open(work, _config(work), command=[]).close()


def _config(run):
    return json.loads((run / "config.json").read_text())
