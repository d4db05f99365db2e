"""Runs that are ended at random moments; benchmarks/interruptions.py tries more."""

import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "interruptions.py"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["signal", "kill"])
def test_a_run_that_is_ended_at_random_moments_gives_the_same(kind, tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), f"--kind={kind}"]
    done = subprocess.run([*command, "--moments=4"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 moments, 0 of them wrong; files that differ: none" in done.stdout
