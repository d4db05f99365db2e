r"""Ends a run at random moments, again and again, and compares what it gives.

  python benchmarks/interruptions.py FOLDER [--kind=signal|kill] [--moments=20]
    [--processes=1] [--round=8] [--longest=SECONDS] [--seed=0]

A mini run of every stage is made without an interruption, in FOLDER/whole, and another
one is ended at random moments and started anew, until it finishes, and then another
one, until there were so many moments.  A moment is a delay
after the start of a process, or after a job's processes have met, drawn uniformly up to
--longest, by default a quarter of what the whole run took: so moments lie in every
stage, in the start of the program and in compilations.  `signal` sends TERM, INT, USR1,
USR2 or HUP to one of the processes, and `kill` sends KILL.  --round is the number of
images that are attacked, in one round.

A line tells of each moment: the stage, the time from the signal to the end of the last
process, the exit codes.  In the end all files of the two folders are compared to the
byte, but for times, and all trained parameters.  The exit code is 1 if any differ, if a
signal had another code than 128 + its number, or if an end took longer than ten seconds
(that of a job of which one was killed, thirty).
"""

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(f"{ROOT}")

from robust_manifold.runtime import load_params  # noqa: E402
from tests.support import CONFIG, write_digits  # noqa: E402

SIGNALS = [
    signal.Signals(number)
    for number in (
        *(signal.SIGTERM, signal.SIGINT),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP),
    )
]
LONGEST_SECONDS = 10.0
TIMED = ("status.json", "checksums.json", "lock", "report/report.html")
"""Files that tell of times; what else is in the report is compared by itself."""
MINI = """
    config.stages = default_config().stages
    config.diagnostics.examples = 4
    config.diagnostics.solvers = ("adam(steps=3)", "levenberg_marquardt(steps=2)")
    config.diagnostics.restarts = "2"
    config.diagnostics.recoveries = 4
    config.evaluation.attacks = ("fgsm(epsilon=0.1)", "pgd(epsilon=0.1, steps=3)")
    config.evaluation.adversaries = ("oblivious", "straight_through")
    config.overpowered.pairs = 4
    config.overpowered.searches = ("overpowered(4.0, steps=3, restarts=2)",)
    config.audit.examples = 4
    # Each of them compiles an attack of its own.
    config.audit.left_out = (
        *("more steps", "more restarts", "scores against white box"),
        *("scale of the logits", "silent success", "unfinished search"),
        *("unbounded budget", "stronger pass", "active test"),
    )
    return config
"""
"""What the config of the tests has beside: all stages and findings, made small."""


class Run:
    """A run folder, and the processes that work in it."""

    def __init__(self, config: Path, folder: Path, processes: int):
        self.folder = folder
        self._config, self._processes = config, processes
        self._log = open(f"{folder}.log", "a")

    def start(self) -> list[subprocess.Popen]:
        """Starts the processes of a job."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        command = [sys.executable, "-m", "robust_manifold.main"]
        command += [f"--config={self._config}", f"--workdir={self.folder}"]
        started = []
        for number in range(self._processes):
            environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{ROOT}"}
            if self._processes > 1:
                environment |= {
                    "JAX_COORDINATOR_ADDRESS": address,
                    "JAX_NUM_PROCESSES": f"{self._processes}",
                    "JAX_PROCESS_ID": f"{number}",
                }
            started.append(
                subprocess.Popen(
                    command,
                    env=os.environ | environment,
                    stdout=self._log,
                    stderr=subprocess.STDOUT,
                    # A shell's background would have INT ignored.
                    preexec_fn=lambda: [
                        signal.signal(n, signal.SIG_DFL) for n in SIGNALS
                    ],
                )
            )
        return started

    def whole(self) -> float:
        """Runs to the end, and returns the seconds that it took."""
        start = time.monotonic()
        codes = [process.wait() for process in self.start()]
        if any(codes):
            raise SystemExit(f"{self.folder} ended with {codes}; see its .log")
        return time.monotonic() - start

    def interrupted(self, delay: float, number: int, place: int) -> dict:
        """Starts the run, ends it, and tells of it; nothing if it had finished."""
        before = self._changed()
        processes = self.start()
        while len(processes) > 1 and self._changed() == before:
            # Whoever is ended before they have met is waited for.
            time.sleep(0.05)
        end = time.monotonic() + delay
        while time.monotonic() < end and processes[place].poll() is None:
            time.sleep(0.05)
        if processes[place].poll() is not None:
            return {}
        stage, sent = self._stage(), time.monotonic()
        processes[place].send_signal(number)
        codes = [_code(process.wait()) for process in processes]
        return {
            "stage": stage,
            "delay": round(delay, 1),
            "signal": signal.Signals(number).name,
            "seconds": round(time.monotonic() - sent, 2),
            "codes": codes,
        }

    def _changed(self) -> float:
        path = self.folder / "status.json"
        return path.stat().st_mtime if path.exists() else 0.0

    def _stage(self) -> str:
        path = self.folder / "status.json"
        return json.loads(path.read_text()).get("stage", "") if path.exists() else ""


def _code(code: int) -> int:
    """Returns the exit code of a process as a shell has it."""
    return code if code >= 0 else 128 - code


def mini(folder: Path, together: int) -> Path:
    """Writes the mini config, of so many images to a round, and returns its file."""
    write_digits(folder / "digits.npz", n=max(120, 3 * together))
    text = CONFIG.format(data=folder / "digits.npz")
    file = folder / "mini.py"
    text = text.replace("    return config\n", MINI.lstrip("\n"))
    for name in ("data.test_examples", "evaluation.examples", "evaluation.round_size"):
        text = re.sub(f"(config.{name}) = .*", rf"\1 = {together}", text)
    file.write_text(text)
    return file


def contents(run: Path) -> Iterator[tuple[str, Any]]:
    """Yields the name of each file, and what in it does not depend on a clock."""
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_dir() or name.startswith("checkpoints/"):
            continue
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                kept = {k: stored[k].tobytes() for k in stored if k != "seconds"}
            yield name, kept
        elif path.suffix == ".csv" and "seconds" in _columns(path):
            yield name, pd.read_csv(path, dtype=str).drop(columns="seconds").to_csv()
        elif name not in TIMED:
            yield name, path.read_bytes()
    for path in sorted(run.glob("checkpoints/*/params")):
        params = load_params(path)
        yield path.parent.name, [leaf.tobytes() for leaf in jax.tree.leaves(params)]


def _columns(path: Path) -> list[str]:
    return path.read_text().partition("\n")[0].split(",")


def differing(one: Path, other: Path) -> list[str]:
    """Returns the names of files that two runs do not have alike."""
    a, b = dict(contents(one)), dict(contents(other))
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def main() -> int:
    """Interrupts a run, and returns 1 if it was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=("signal", "kill"), default="signal")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--round", type=int, default=8)
    parser.add_argument("--longest", type=float)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder, draw = given.folder.resolve(), random.Random(given.seed)
    folder.mkdir(parents=True, exist_ok=True)
    config = mini(folder, given.round)
    whole = Run(config, folder / "whole", given.processes)
    took = whole.whole()
    print(f"without an interruption: {took:.0f} s", flush=True)
    longest = given.longest or took / 4
    bad, seen, names = 0, 0, []
    while seen < given.moments:
        run = Run(config, folder / f"{given.kind}-from-{seen}", given.processes)
        while seen < given.moments:
            number = draw.choice(SIGNALS) if given.kind == "signal" else signal.SIGKILL
            place = draw.randrange(given.processes)
            found = run.interrupted(draw.uniform(0, longest), number, place)
            if not found:
                break
            seen += 1
            bad += not _as_it_should_be(found, number, given.processes)
            print(json.dumps(found), flush=True)
        run.whole()
        names += differing(whole.folder, run.folder)
    print(f"{seen} moments, {bad} of them wrong; files that differ: {names or 'none'}")
    return int(bool(bad or names))


def _as_it_should_be(found: dict[str, Any], number: int, processes: int) -> bool:
    if number == signal.SIGKILL:
        # The others of a job notice that it is gone after 20 seconds without a sign.
        return found["seconds"] <= (1 if processes == 1 else 30)
    codes = set(found["codes"])
    return codes == {128 + number} and found["seconds"] <= LONGEST_SECONDS


if __name__ == "__main__":
    sys.exit(main())
