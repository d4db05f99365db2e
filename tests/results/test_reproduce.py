"""`make reproduce`, as a dry run: what is run, and what is refused before it is."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


def dry_run(*settings):
    # Whatever has been run here before, and whoever runs the tests.
    apart = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUDGET", "SEEDS", "EXPERIMENTS")
    kept = {name: text for name, text in os.environ.items() if name not in apart}
    ended = subprocess.run(
        ["make", "--dry-run", "--always-make", "reproduce", *settings],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


def test_every_run_is_made_once_and_recorded():
    code, lines, error = dry_run(
        "SEEDS=1 0 1", "BUDGET=full", "EXPERIMENTS=gan_1d mnist overpowered gan_1d"
    )
    assert (code, error) == (0, "")
    assert [line.partition(".main ")[2] for line in lines if ".main" in line] == [
        "--workdir=runs/mnist-1 --config=experiments/mnist.py --config.seed=1",
        "--workdir=runs/mnist-0 --config=experiments/mnist.py --config.seed=0",
        "--workdir=runs/gan_1d-0 --config=experiments/gan_1d.py --config.seed=0",
        "--workdir=runs/overpowered-full-0 --config=experiments/overpowered.py:full "
        "--config.seed=0",
    ]
    assert lines[-1].split()[-5:] == [
        *("--record", "runs/mnist-1", "runs/mnist-0", "runs/gan_1d-0"),
        "runs/overpowered-full-0",
    ]


def test_all_that_is_run_by_default_is_there():
    code, lines, _ = dry_run()
    assert code == 0
    files = [
        line.partition("--config=")[2].split()[0] for line in lines if ".main" in line
    ]
    assert (
        len(files) == len(set(files)) + 2 and files[:3] == ["experiments/mnist.py"] * 3
    )
    assert all((ROOT / file.partition(":")[0]).is_file() for file in files)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["BUDGET=huge"], "BUDGET is 'huge'; allowed: small or full"),
        (["BUDGET="], "BUDGET is ''; allowed: small or full"),
        (["EXPERIMENTS=gan_1d gan_2d:x"], "EXPERIMENTS has 'gan_2d:x'; allowed: files"),
        (["EXPERIMENTS=", "SEEDS="], "both empty; allowed: at least one run"),
    ],
)
def test_what_would_stop_it_after_hours_stops_it_at_once(settings, told):
    code, lines, error = dry_run(*settings)
    assert code == 2 and told in error and not lines
