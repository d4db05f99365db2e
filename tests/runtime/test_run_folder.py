import json
import os
import subprocess
import sys

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime.artefacts import DamagedArtefact
from robust_manifold.runtime.run_folder import RunFolder, config_differences
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
        run.set_status("running", stage="fit_generator")
        assert status(path)["stage"] == "fit_generator" == run.status["stage"]
    assert json.loads((path / "config.json").read_text())["classifier"]["epochs"] == 3
    stored = status(path)
    assert stored["state"] == "finished"
    assert stored["command"] == COMMAND
    assert stored["devices"]["platform"] == "cpu"
    names = {"python", "jax", "jaxlib", "flax", "optax", "numpy", "robust_manifold"}
    assert stored["versions"].keys() == names
    assert stored["versions"]["numpy"] == np.__version__


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
    (tmp_path / "config.json").unlink()
    with pytest.raises(DamagedArtefact, match=r"config\.json is missing although"):
        open_folder(tmp_path)


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
