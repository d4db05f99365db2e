"""Sweeps: all runs that a config yields, one after the other or as an array of jobs."""

import pathlib
import subprocess
import sys
import types

import pytest

from robust_manifold import sweep

CONFIG = """
from robust_manifold.config import default_config

get_config = default_config


def sweep():
    for seed in range(2):
        for flip in (False, True):
            yield {"seed": seed, "data.flip": flip}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CONFIG)
    return f"--config={tmp_path / 'mine.py'}"


@pytest.fixture
def launched(monkeypatch):
    """Has a small program in place of runs, and returns its command lines."""
    seen = pathlib.Path("seen")
    code = (
        "import sys; print(*sys.argv[1:], file=open('seen', 'a'));"
        "sys.exit(3 * ('--sweep_index=1' in sys.argv))"
    )
    monkeypatch.setattr(sweep, "_MAIN", ("-c", code))
    return lambda: seen.read_text().splitlines() if seen.exists() else []


def test_runs_follow_each_other_and_one_that_fails_ends_no_other(
    config, launched, capsys
):
    assert sweep.main([config, "--stages=report"]) == 3
    assert launched() == [
        f"{config} --stages=report --sweep_index={index}" for index in range(4)
    ]
    told = capsys.readouterr().err
    assert "run 1 ended with code 3: runs/mine-data.flip=True-seed=0" in told


def test_the_printed_script_is_an_array_of_all_runs(config, capsys):
    arguments = ["--launcher=print", "--slurm", "partition=gpu", "--stages=report"]
    assert sweep.main([config, *arguments]) == 0
    script = capsys.readouterr().out
    assert "#SBATCH --array=0-3\n" in script
    assert "#SBATCH --partition=gpu\n" in script
    assert f"{config} --stages=report --sweep_index=$SLURM_ARRAY_TASK_ID\n" in script
    checked = subprocess.run(["bash", "-n"], input=script, text=True)
    assert checked.returncode == 0


def test_the_script_to_copy_is_what_is_printed(capsys):
    options = ["--launcher=print", "--slurm", "time=12:00:00"]
    assert sweep.main(["--config=tiny", *options]) == 0
    shown = pathlib.Path(__file__).parents[1] / "cluster" / "array.sbatch"
    assert capsys.readouterr().out == shown.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workdir=here"], "would share one folder"),
        (["--config.seed=1"], "would share one folder"),
        (["--slurm", "partition"], "allowed: an option of sbatch"),
        (["--config.sede=1"], "seed"),
        (["--stages=attak"], "attack"),
    ],
)
def test_mistakes_are_one_sentence_before_any_run(
    arguments, words, config, launched, capsys
):
    assert sweep.main([config, *arguments]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1
    assert not launched()


def test_a_config_without_a_sweep_is_one_sentence(tmp_path, capsys):
    (tmp_path / "plain.py").write_text(CONFIG.partition("def sweep")[0])
    assert sweep.main([f"--config={tmp_path / 'plain.py'}"]) == 2
    assert "defines no sweep()" in capsys.readouterr().err


def test_without_submitit_it_says_what_to_install(
    config, launched, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert sweep.main([config, "--launcher=slurm"]) == 2
    assert "robust-manifold[cluster]" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "requeued"), [(143, "requeue 7\n"), (3, "")])
def test_a_job_of_submitits_that_is_told_to_end_goes_on(
    code, requeued, tmp_path, monkeypatch
):
    told, program = tmp_path / "told", tmp_path / "scontrol"
    told.touch()
    program.write_text(f'#!/bin/sh\necho "$@" >>{told}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}", prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(sweep, "_MAIN", ("-c", f"import sys; sys.exit({code})"))
    with pytest.raises(RuntimeError, match=f"run 0 ended with code {code}"):
        sweep._Run([])(0)
    assert told.read_text() == requeued


def test_what_is_submitted_has_twelve_hours_and_as_many_jobs_as_it_takes(
    config, monkeypatch
):
    seen = {}

    class Executor:
        def __init__(self, folder, **given):
            seen.update(given)

        def update_parameters(self, **given):
            seen.update(given)

        def map_array(self, function, places):
            return [types.SimpleNamespace(job_id=f"1_{place}") for place in places]

    submitit = types.SimpleNamespace(AutoExecutor=Executor)
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    assert sweep.main([config, "--launcher=slurm", "--slurm", "partition=gpu"]) == 0
    assert seen["slurm_additional_parameters"] == {
        "time": "12:00:00",
        "partition": "gpu",
    }
    assert seen["slurm_max_num_timeout"] > 1000
