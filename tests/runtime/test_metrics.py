import errno
import json
import os
import sys
import types

import jax.numpy as jnp
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime.artefacts import Artefacts, DamagedArtefact
from robust_manifold.runtime.metrics import MetricsWriter, read_metrics


def test_lines_are_there_at_once_and_valid_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as metrics:
        metrics.write("fit", 100, loss=jnp.float32(0.5), bad=float("nan"))
        (line,) = path.read_text().splitlines()
    assert json.loads(line) == {"stage": "fit", "step": 100, "loss": 0.5, "bad": "NaN"}
    (back,) = read_metrics(path)
    assert back["bad"] != back["bad"]


def test_an_interrupted_run_leaves_the_lines_of_an_uninterrupted_one(tmp_path):
    def run(metrics, steps):
        for step in steps:
            metrics.write("fit", step, loss=1 / step)

    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    with MetricsWriter(whole) as metrics:
        metrics.write("classifier", 50, loss=0.1)
        run(metrics, range(1, 10))
    with MetricsWriter(resumed) as metrics:
        metrics.write("classifier", 50, loss=0.1)
        run(metrics, range(1, 8))
    with open(resumed, "ab") as file:
        file.write(b'{"stage": "fit", "st')  # killed while writing
    with MetricsWriter(resumed) as metrics:
        metrics.rewind("fit", 4)  # the last checkpoint
        run(metrics, range(5, 10))
    assert resumed.read_bytes() == whole.read_bytes()


def test_rewind_to_the_start_drops_the_stage_alone(tmp_path):
    with MetricsWriter(tmp_path / "m") as metrics:
        metrics.write("a", 0, x=1)
        metrics.write("b", 0, x=2)
        metrics.rewind("b")
        metrics.write("b", 1, x=3)
    lines = read_metrics(tmp_path / "m")
    assert [(line["stage"], line["step"]) for line in lines] == [("a", 0), ("b", 1)]


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "m"
    path.write_text('{"stage": "a", "step": 1}\n{"stage": "a", "st')
    assert read_metrics(path) == [{"stage": "a", "step": 1}]
    MetricsWriter(path).close()
    assert path.read_text() == '{"stage": "a", "step": 1}\n'


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="m has not been written"):
        read_metrics(tmp_path / "m")


@pytest.mark.parametrize("bad", ["{", "[1]", '{"step": 1}', ""])
def test_damage_before_the_last_line_is_named(tmp_path, bad):
    path = tmp_path / "m"
    path.write_text(
        f'{{"stage": "a", "step": 1}}\n{bad}\n{{"stage": "a", "step": 2}}\n'
    )
    with pytest.raises(DamagedArtefact, match=r"m is damaged \(line 2 is not"):
        MetricsWriter(path)


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path):
    with MetricsWriter(tmp_path / "m", primary=False) as metrics:
        metrics.write("a", 1, x=1)
        metrics.rewind("a")
    assert not (tmp_path / "m").exists()


def test_tensorboard_without_its_package_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match=r"pip install 'tensorboardX"):
        MetricsWriter(tmp_path / "m", tensorboard=True)


def test_tensorboard_gets_every_scalar(tmp_path, monkeypatch):
    class SummaryWriter:
        def __init__(self, folder):
            self.folder, self.scalars, self.closed = folder, [], False
            made.append(self)

        def add_scalar(self, tag, value, step):
            self.scalars.append((tag, value, step))

        def close(self):
            self.closed = True

    made = []
    module = types.ModuleType("tensorboardX")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    with MetricsWriter(tmp_path / "m", tensorboard=True) as metrics:
        metrics.write("fit", 7, loss=jnp.float32(0.5))
    (board,) = made
    assert board.folder == str(tmp_path / "tensorboard")
    assert board.scalars == [("fit/loss", 0.5, 7)] and board.closed


def test_lines_that_were_entered_stay_as_they_are(tmp_path):
    path, stored = tmp_path / "m", Artefacts(tmp_path)
    with MetricsWriter(path, entered=stored) as metrics:
        metrics.write("fit", 1, loss=0.5)
        metrics.enter()
        metrics.write("fit", 2, loss=0.25)
    stored.verify()
    whole = path.read_text()
    # What was appended since may be cut short, and is dropped.
    path.write_text(whole[:-3])
    MetricsWriter(path, entered=Artefacts(tmp_path)).close()
    assert len(read_metrics(path)) == 1
    path.write_text(whole.replace("0.5", "0.1"))
    with pytest.raises(DamagedArtefact, match=r"m is damaged .*or delete it and run"):
        MetricsWriter(path, entered=Artefacts(tmp_path))
    with pytest.raises(DamagedArtefact, match="m is damaged"):
        Artefacts(tmp_path).check_log("m")
    # The remedy works.
    path.unlink()
    with MetricsWriter(path, entered=Artefacts(tmp_path)) as metrics:
        metrics.write("fit", 3, loss=0.125)
        metrics.enter()
    Artefacts(tmp_path).verify()


class Full:
    """A file on a full disk: takes the beginning of a line, and then no more."""

    def __init__(self, file):
        self._file, self._taken = file, False

    def write(self, data):
        if self._taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._taken = True
        return self._file.write(data[:5])

    def close(self):
        self._file.close()


def test_a_full_disk_names_the_file_and_leaves_whole_lines(tmp_path):
    path = tmp_path / "m"
    with MetricsWriter(path) as metrics:
        metrics.write("fit", 1, loss=0.5)
        metrics._file = Full(metrics._file)
        with pytest.raises(OSError) as error:
            metrics.write("fit", 2, loss=0.25)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
    with MetricsWriter(path) as metrics:
        metrics.write("fit", 2, loss=0.25)
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
