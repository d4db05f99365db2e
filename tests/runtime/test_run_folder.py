import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import devices, provenance
from robust_manifold.runtime.artefacts import Artefacts, DamagedArtefact
from robust_manifold.runtime.metrics import MetricsWriter
from robust_manifold.runtime.run_folder import (
    RunFolder,
    config_differences,
    read_config,
    read_status,
)
from robust_manifold.runtime.stopping import Diverged, Interrupted

CONFIG = {"name": "quick", "classifier": {"epochs": 3, "rates": (0.1, 0.2)}, "f": {}}
COMMAND = ["python", "-m", "robust_manifold.main"]


def open_folder(path, config=CONFIG, **kwargs):
    return RunFolder.open(path, config, command=COMMAND, **kwargs)


def status(path):
    return json.loads((path / "status.json").read_text())


def test_first_open_writes_config_and_status(tmp_path):
    path = tmp_path / "runs" / "one"
    with open_folder(path) as run:
        assert status(path)["state"] == "running"
        run.begin_stage("fit_generator")
        assert status(path)["stage"] == "fit_generator" == run.status["stage"]
    assert json.loads((path / "config.json").read_text())["classifier"]["epochs"] == 3
    stored = status(path)
    assert stored["state"] == "finished"
    (part,) = stored["ran"]["fit_generator"]
    assert part["command"] == COMMAND
    assert part["devices"]["platform"] == "cpu"
    names = {"python", "jax", "jaxlib", "flax", "optax", "numpy", "robust_manifold"}
    assert part["versions"].keys() == names
    assert part["versions"]["numpy"] == np.__version__


def test_reopening_keeps_what_was_done(tmp_path):
    with open_folder(tmp_path) as run:
        started = run.status["started"]
        run.write_text("a.txt", "a")
        assert not run.stage_done("fit")
        run.finish_stage("fit", ["a.txt"])
    with open_folder(tmp_path) as run:
        assert run.status["started"] == started
        assert run.stage_done("fit") and not run.stage_done("attack")
        assert run.read_text("a.txt") == "a"


def test_a_stage_whose_output_was_deleted_is_not_done(tmp_path):
    with open_folder(tmp_path) as run:
        run.write_text("a.txt", "a")
        run.finish_stage("fit", ["a.txt"])
        assert run.stage_done("fit")
        (tmp_path / "a.txt").unlink()
        assert not run.stage_done("fit")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ValueError("no"), "failed"),
        (UsageError("no"), "failed"),
        (KeyboardInterrupt("no"), "interrupted"),
        (Interrupted("no"), "interrupted"),
        (Diverged("no"), "diverged"),
    ],
)
def test_an_exception_sets_the_status_and_frees_the_folder(tmp_path, error, state):
    with pytest.raises(type(error)), open_folder(tmp_path):
        raise error
    assert status(tmp_path)["state"] == state
    assert status(tmp_path)["error"] == f"{type(error).__name__}: no"
    with open_folder(tmp_path):
        assert "error" not in status(tmp_path)


def test_an_unknown_state_is_refused(tmp_path):
    with open_folder(tmp_path) as run, pytest.raises(ValueError, match="is 'done'; al"):
        run.set_status("done")


def test_a_folder_in_use_is_refused(tmp_path):
    with open_folder(tmp_path):
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()} on"):
            open_folder(tmp_path)
        assert status(tmp_path)["state"] == "running"


def open_and_work(path, config=CONFIG):
    """Opens a folder for the first time and computes something with its config."""
    with open_folder(path, config) as folder:
        folder.write_text("data.txt", "1")


def test_a_config_that_computed_nothing_makes_way(tmp_path):
    open_folder(tmp_path).close()
    open_folder(tmp_path, {"name": "other"}).close()
    assert json.loads((tmp_path / "config.json").read_text()) == {"name": "other"}


def test_a_differing_config_is_refused_key_by_key(tmp_path):
    open_and_work(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = {"name": "quick", "classifier": {"epochs": 5, "rates": (0.1, 0.2)}, "g": 1}
    with pytest.raises(UsageError) as error:
        open_folder(tmp_path, other)
    assert str(error.value) == (
        f"{tmp_path} holds a run of another config (classifier.epochs is 5, stored 3; "
        "f is absent, stored {}; g is 1, stored absent): choose another --workdir, or "
        "give the stored values."
    )
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    open_folder(tmp_path).close()


def test_many_differences_are_counted(tmp_path):
    open_and_work(tmp_path, {f"k{i}": i for i in range(9)})
    with pytest.raises(UsageError, match="k4 is 5, stored 4; and 4 more"):
        open_folder(tmp_path, {f"k{i}": i + 1 for i in range(9)})


def test_equal_configs_have_no_differences():
    stored = {"a": [1, 2], "b": float("nan"), "c": {"d": True}}
    assert config_differences({"a": (1, 2), **stored}, stored) == []
    assert config_differences({"x": 1}, {"x": True}) == ["x is 1, stored true"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", ""),
        ("config.json", '{"name": "qui'),
        ("config.json", "[]"),
        ("config.json", b"\xff\xfe"),
        ("status.json", "{"),
        ("status.json", '{"finished_stages": 3}'),
        ("status.json", '{"finished_stages": {"attack": 5}}'),
        ("checksums.json", "{}"),
    ],
)
def test_damaged_files_of_its_own_are_named_and_kept(tmp_path, name, text):
    open_folder(tmp_path).close()
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(data)
    for _ in range(2):  # the first refusal leaves no lock behind
        with pytest.raises(DamagedArtefact, match=f"{name} is damaged"):
            open_folder(tmp_path)
    assert (tmp_path / name).read_bytes() == data


def test_a_missing_config_beside_results_is_named(tmp_path):
    with open_folder(tmp_path) as run:
        run.write_text("a.txt", "a")
    data = (tmp_path / "config.json").read_bytes()
    (tmp_path / "config.json").unlink()
    missing = r"config\.json is missing although .*: put it back, or give the command"
    with pytest.raises(DamagedArtefact, match=missing):
        open_folder(tmp_path, {"name": "other"})
    # The one that was entered is as good as the file.
    open_folder(tmp_path).close()
    assert (tmp_path / "config.json").read_bytes() == data


@pytest.mark.parametrize("relative", ["file", "file/below"])
def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path, relative):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="^workdir is .* which cannot be used"):
        open_folder(tmp_path / relative)


def test_partial_files_of_a_dead_run_are_removed(tmp_path):
    (tmp_path / "rounds").mkdir()
    stray = tmp_path / "rounds" / ".x.npz.partial"
    stray.write_bytes(b"half")
    open_folder(tmp_path).close()
    assert stray.exists()  # it was no run folder yet
    open_folder(tmp_path).close()
    assert not stray.exists()


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path):
    with open_folder(tmp_path) as run:
        before = (tmp_path / "status.json").read_bytes()
        with open_folder(tmp_path, primary=False) as other:
            other.finish_stage("fit")
            other.write_text("a.txt", "a")
        assert (tmp_path / "status.json").read_bytes() == before
        assert not run.has("a.txt")


def test_a_killed_run_opens_again(tmp_path):
    code = """
import os, signal, sys
from robust_manifold.runtime import RunFolder
run = RunFolder.open(sys.argv[1], {"a": 1}, command=[])
run.write_text("a.txt", "a")
run.finish_stage("fit", ["a.txt"])
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == -9
    assert status(tmp_path)["state"] == "running"
    with open_folder(tmp_path, {"a": 1}) as run:
        assert run.stage_done("fit") and run.read_text("a.txt") == "a"


@pytest.fixture
def machine(monkeypatch):
    """Returns a function that moves the process to another machine."""

    def move(name):
        there = {"platform": "gpu", "kind": name, "devices": 1, "processes": 1}
        monkeypatch.setattr(devices, "describe", lambda: there)

    return move


def run_stage(folder, name, seconds=1.0, *, anew=False):
    folder.begin_stage(name, anew=anew)
    folder.add_seconds(name, seconds)
    folder.finish_stage(name)


def kinds(path):
    return {
        stage: [(part["devices"]["kind"], part["seconds"]) for part in parts]
        for stage, parts in read_status(path)["ran"].items()
    }


def test_what_computed_a_stage_is_not_rewritten_by_a_later_call(tmp_path, machine):
    machine("A")
    with open_folder(tmp_path) as run:
        run_stage(run, "fit")
        run_stage(run, "report", anew=True)
    machine("B")
    with open_folder(tmp_path) as run:
        run_stage(run, "report", 5.0, anew=True)
    assert kinds(tmp_path) == {"fit": [("A", 1.0)], "report": [("B", 5.0)]}
    assert status(tmp_path)["stage_seconds"] == {"fit": 1.0, "report": 5.0}


def test_a_stage_that_went_on_elsewhere_has_its_parts_in_order(tmp_path, machine):
    for name, seconds in (("A", 1.0), ("A", 2.0), ("B", 4.0)):
        machine(name)
        with pytest.raises(Interrupted), open_folder(tmp_path) as run:
            run.begin_stage("attack")
            run.add_seconds("attack", seconds)
            raise Interrupted("no")
    machine("A")
    with open_folder(tmp_path) as run:
        run_stage(run, "attack", 8.0)
    assert kinds(tmp_path) == {"attack": [("A", 3.0), ("B", 4.0), ("A", 8.0)]}
    assert status(tmp_path)["stage_seconds"] == {"attack": 15.0}
    told = provenance.told(read_status(tmp_path)["ran"], provenance.device_text)
    assert told == (
        "1 x A, 1 process(es) (part 1 and 3 of attack); "
        "1 x B, 1 process(es) (part 2 of attack)"
    )


def test_a_deleted_status_takes_its_knowledge_with_it(tmp_path, machine):
    machine("A")
    with open_folder(tmp_path) as run:
        run.write_text("a.txt", "a")
        run_stage(run, "fit")
    (tmp_path / "status.json").unlink()
    machine("B")
    with open_folder(tmp_path) as run:
        run_stage(run, "fit")
    found = read_status(tmp_path)["ran"]
    assert found["fit"][0] == provenance.UNKNOWN
    told = provenance.told(found, provenance.device_text)
    assert told == "not known (part 1 of fit); 1 x B, 1 process(es) (part 2 of fit)"


OLD = {
    "state": "finished",
    "started": "2026-01-01T00:00:00+00:00",
    "finished_stages": {"fit": ["a.txt"]},
    "stage_seconds": {"fit": 7.0},
    "command": ["main.py", "--config=a.py"],
    "versions": {"jax": "0.1"},
    "devices": {"kind": "old", "devices": 1, "processes": 1},
}


def make_old(path):
    """Makes the folder that an older version left behind, without newer checksums."""
    with open_folder(path) as run:
        run.write_text("a.txt", "a")
    sums = json.loads((path / "checksums.json").read_text())
    files = {"a.txt": sums["files"]["a.txt"]}
    text = json.dumps({"files": files, "trees": {}})
    (path / "checksums.json").write_text(text)
    (path / "status.json").write_text(json.dumps(OLD))


def test_a_folder_of_an_older_version_goes_on(tmp_path, machine):
    make_old(tmp_path)
    assert read_status(tmp_path) == OLD and read_config(tmp_path)["name"] == "quick"
    machine("B")
    with open_folder(tmp_path) as run:
        assert run.stage_done("fit")
        run_stage(run, "attack")
    assert kinds(tmp_path) == {"fit": [("old", 7.0)], "attack": [("B", 1.0)]}
    found = read_status(tmp_path)
    assert found["started"] == OLD["started"]
    assert found["ran"]["fit"][0]["command"] == OLD["command"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("stage_seconds", 7), ("stage_seconds", {"fit": "7"}), ("command", ["a", 5])]
    + [("versions", None), ("devices", "H200"), ("finished_stages", {"fit": [1]})],
)
def test_an_old_status_of_other_kinds_is_damage(tmp_path, name, value):
    make_old(tmp_path)
    (tmp_path / "status.json").write_text(json.dumps(OLD | {name: value}))
    for read in (open_folder, read_status):
        with pytest.raises(DamagedArtefact, match=rf"status\.json is .*\({name}\)"):
            read(tmp_path)


def test_what_else_is_no_longer_there_is_named_with_the_folder(tmp_path):
    with pytest.raises(UsageError, match="or the file lock in it, was removed"):
        with open_folder(tmp_path) as run:
            (tmp_path / "lock").unlink()
            run.finish_stage("fit")
    open_folder(tmp_path).close()


@pytest.mark.parametrize(
    ("old", "new"),
    [('"seconds": 1.0', '"seconds": 2.0'), ('"fit": 1.0', '"fit": 2.0')]
    + [(f'"numpy": "{np.__version__}"', '"numpy": "9.9"'), ("finished", "diverged")]
    + [('"sha256": "', '"sha257": "')],
)
def test_a_status_changed_by_hand_is_damage(tmp_path, old, new):
    with open_folder(tmp_path) as run:
        run_stage(run, "fit")
    file = tmp_path / "status.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    for read in (read_status, open_folder):
        with pytest.raises(
            DamagedArtefact, match=r"status\.json is damaged .*delete it"
        ):
            read(tmp_path)
    file.unlink()
    open_folder(tmp_path).close()


def test_a_config_changed_by_hand_is_damage(tmp_path):
    open_and_work(tmp_path)
    file = tmp_path / "config.json"
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"epochs": 3', b'"epochs": 5'))
    changed = {**CONFIG, "classifier": {"epochs": 5, "rates": (0.1, 0.2)}}
    for read in (read_config, open_folder, lambda path: open_folder(path, changed)):
        with pytest.raises(
            DamagedArtefact, match=r"config\.json is damaged .*delete it"
        ):
            read(tmp_path)
    file.unlink()
    with pytest.raises(DamagedArtefact, match="give the command that it was made with"):
        open_folder(tmp_path, changed)
    open_folder(tmp_path).close()
    assert file.read_bytes() == data


def test_what_is_not_entered_was_not_finished(tmp_path):
    with open_folder(tmp_path) as run:
        run.write_text("a.txt", "a")
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "manifest.json").write_text("{}")
        run.finish_stage("attack", ["a.txt"])
        run.finish_stage("fit", ["checkpoints/manifest.json"])
    (tmp_path / "checksums.json").unlink()
    with open_folder(tmp_path) as run:
        # Checkpoints have checksums of their own.
        assert run.stage_done("fit") and not run.stage_done("attack")
        run.write_text("a.txt", "a")
        assert run.stage_done("attack")


def _remove(path):
    shutil.rmtree(path)


def _move(path):
    path.rename(path.with_name("moved"))


def _replace(path):
    _move(path)
    path.mkdir()
    (path / "lock").touch()


@pytest.mark.parametrize("take", [_remove, _move, _replace])
@pytest.mark.parametrize("error", [None, Interrupted("no"), FileNotFoundError("no")])
def test_a_folder_taken_away_is_no_finished_run(tmp_path, take, error):
    path = tmp_path / "run"
    with (
        pytest.raises(UsageError, match="^workdir .* removed, moved or replaced"),
        open_folder(path) as run,
    ):
        take(path)
        for write in (
            lambda: run.write_text("a.txt", "a"),
            lambda: run.finish_stage("fit"),
            lambda: run.enter_log("metrics.jsonl", b"{}"),
        ):
            with pytest.raises(UsageError, match="removed, moved or replaced"):
                write()
        if error is not None:
            raise error
    # Nothing is put into what stands there now.
    assert not path.exists() or os.listdir(path) == ["lock"]
    if take is not _remove:
        (open_folder(tmp_path / "moved")).close()


class Killed(BaseException):
    """Stands for SIGKILL: from then on nothing is written."""


def kill_at(monkeypatch, number, after):
    """Ends the process before or after it puts its file of a number in place."""
    count = 0

    def replace(source, target, real=os.replace):
        nonlocal count
        count += 1
        if count == number and after:
            real(source, target)
        if count >= number:
            raise Killed
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


def whole_run(path, title):
    with (
        open_folder(path, {"a": 1, "title": title}, free=["title"]) as run,
        MetricsWriter(path / "metrics.jsonl", entered=run) as metrics,
    ):
        for name in ("fit", "fit_more"):
            if not run.stage_done(name):
                run.begin_stage(name)
                metrics.rewind(name)
                metrics.write(name, 1, loss=0.5)
                run.write_text(f"{name}.txt", name)
                metrics.write(name, 2, loss=0.25)
                metrics.enter()
                run.finish_stage(name, [f"{name}.txt"])


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_moment_a_run_goes_on(tmp_path, monkeypatch, after):
    # Only the kernel's death would tell the difference.
    monkeypatch.setattr(os, "fsync", lambda number: None)

    # Both files are written anew in the second half: another title, a stage once more.
    def both_halves(path):
        whole_run(path, "first")
        (path / "fit.txt").unlink(missing_ok=True)
        whole_run(path, "second")

    both_halves(tmp_path / "whole")
    expected = sorted((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())
    for number in range(1, 100):
        path = tmp_path / str(number)
        with monkeypatch.context() as patch:
            kill_at(patch, number, after)
            try:
                both_halves(path)
                break
            except Killed:
                pass
        whole_run(path, "second")
        assert read_config(path)["title"] == "second"
        assert read_status(path)["state"] == "finished"
        assert read_status(path)["finished_stages"].keys() == {"fit", "fit_more"}
        lines = (path / "metrics.jsonl").read_text().splitlines()
        assert sorted(lines) == expected
        Artefacts(path).verify()
        assert Artefacts(path).entered("config.json")
    assert 20 < number < 99


def full(monkeypatch, refuses):
    """Makes a disk on which there is no room for files that `refuses` names."""

    def fsync(number):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{number}"))
        if refuses(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("name", ["config", "checksums", "status"])
def test_a_full_disk_at_the_opening_is_one_sentence(tmp_path, monkeypatch, name):
    with monkeypatch.context() as patch:
        full(patch, lambda file: name in file)
        with pytest.raises(
            UsageError, match=rf"{name}\.json cannot be used \(No space"
        ):
            open_folder(tmp_path)
    assert not list(tmp_path.glob(".*"))
    open_folder(tmp_path).close()


def test_a_full_disk_sets_the_status_where_there_is_room(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(OSError):
        with open_folder(tmp_path) as run:
            full(patch, lambda file: "a.npz" in file)
            run.write_npz("a.npz", {"a": np.zeros(3)})
    told = status(tmp_path)
    assert told["state"] == "failed"
    assert told["error"].startswith(
        f"StorageError: {tmp_path / 'a.npz'} cannot be used"
    )
    with monkeypatch.context() as patch, pytest.raises(OSError, match="status.json"):
        with open_folder(tmp_path):
            # No room for the last word: it does not pass for finished.
            full(patch, lambda file: "status" in file)
    assert status(tmp_path)["state"] == "running"
    assert not list(tmp_path.glob(".*"))
