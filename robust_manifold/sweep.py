r"""Runs all runs that a config's `sweep()` yields, here or as an array of SLURM's.

  robust-manifold sweep --config=experiments/mine.py --launcher=local

Beside get_config() the config file defines sweep(), which yields the keys that each run
changes, such as {"seed": 1}.  Each run has a folder of its own, runs/NAME-seed=1, and
what has finished is not run again.  --launcher is one of

  local  one run after the other, on this machine
  slurm  an array of jobs, submitted through submitit; --slurm KEY=VALUE gives options
         of sbatch, as in --slurm partition=gpu --slurm gpus_per_node=1; without
         --slurm time=... a job has 12 hours, and goes on in another one
  print  the script of that array, for sbatch

All other flags are those of robust-manifold run.  Exit codes: 0 done, or submitted; 2
a mistake in the command or the files; else that of the first run that failed.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from robust_manifold import command_line
from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import GracefulStop, console
from robust_manifold.runtime.arguments import Parser

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
{options}#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
srun {command} --sweep_index=$SLURM_ARRAY_TASK_ID
code=$?
# It was stopped and has saved: the same task goes on, in another job.
if [ $code -eq 143 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit $code
"""

_MAIN = ("-m", "robust_manifold.main")


def checked(given: Sequence[str]) -> list[command_line.Arguments]:
    """Returns the runs of a sweep, having checked the config of each.

    Args:
      given: the flags of `robust_manifold.main`.

    Raises:
      UsageError: for a mistake in them, and for runs that would meet in one folder.
    """
    runs = [_parsed(given, 0)]
    _, count = command_line.sweep_of(given)
    runs += [_parsed(given, index) for index in range(1, count)]
    if len({run.workdir for run in runs}) < len(runs):
        raise UsageError(
            f"{len(runs)} runs would share one folder; allowed: no --workdir, and no "
            "--config.KEY that the sweep changes, so that each has one of its own."
        )
    return runs


def _parsed(given: Sequence[str], index: int) -> command_line.Arguments:
    values = flags.FlagValues()
    command_line.define_flags(values)
    command_line.parse([sys.argv[0], *given, f"--sweep_index={index}"], values)
    return command_line.arguments(values)


def main(argv: Sequence[str] | None = None) -> int:
    """Launches the runs and returns the exit code."""
    parser = Parser(prog="robust-manifold sweep", description=__doc__)
    parser.add_argument(
        "--launcher", choices=("local", "slurm", "print"), default="local"
    )
    parser.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE")
    arguments, given = parser.parse_known_args(argv)
    console.setup()
    try:
        options = _options(arguments.slurm)
        runs = checked(given)
        if arguments.launcher == "print":
            print(script(given, runs, options), end="")
            return 0
        if arguments.launcher == "slurm":
            return _submit(given, runs, options)
        return _run(given, runs)
    except UsageError as error:
        print(f"robust_manifold: {error}", file=sys.stderr)
        return 2


def script(
    given: Sequence[str],
    runs: Sequence[command_line.Arguments],
    options: Mapping[str, str],
) -> str:
    """Returns the text of a script that sbatch takes, an array of all runs."""
    lines = (f"#SBATCH --{k.replace('_', '-')}={v}\n" for k, v in options.items())
    return SCRIPT.format(
        name=command_line.sweep_of(given)[0],
        last=len(runs) - 1,
        options="".join(lines),
        command=shlex.join(["python", *_MAIN, *given]),
    )


def _options(given: Sequence[str]) -> dict[str, str]:
    options = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals and value):
            raise UsageError(
                f"--slurm is {text!r}; allowed: an option of sbatch with its value, "
                "such as partition=gpu."
            )
        options[name] = value
    return options


def _run(given: Sequence[str], runs: Sequence[command_line.Arguments]) -> int:
    """Runs all runs in turn, and returns the first code of those that failed."""
    failed: dict[int, int] = {}
    with GracefulStop() as stop:
        for index, run in enumerate(runs):
            console.info(f"sweep  run {index} of 0 to {len(runs) - 1}: {run.workdir}")
            child = _Run(given).start(index)
            while child.poll() is None:
                time.sleep(0.2)
                if stop.signal is not None:
                    child.send_signal(stop.signal)
                    return _code(child.wait())
            if child.returncode:
                failed[index] = _code(child.returncode)
    for index, code in failed.items():
        console.error(f"run {index} ended with code {code}: {runs[index].workdir}")
    return next(iter(failed.values()), 0)


def _code(code: int) -> int:
    """Returns the exit code of a process as a shell has it."""
    return code if code >= 0 else 128 - code


def _submit(
    given: Sequence[str],
    runs: Sequence[command_line.Arguments],
    options: Mapping[str, str],
) -> int:
    try:
        import submitit  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError(
            "--launcher=slurm needs the package submitit; install it with: pip "
            "install 'robust-manifold[cluster]'."
        ) from None
    # It has three times of five minutes where nothing is said.
    executor = submitit.AutoExecutor(
        "runs/slurm", cluster="slurm", slurm_max_num_timeout=10**6
    )
    executor.update_parameters(
        name=command_line.sweep_of(given)[0],
        slurm_signal_delay_s=120,
        slurm_additional_parameters={"time": "12:00:00", **options},
    )
    jobs = executor.map_array(_Run(given), range(len(runs)))
    for job, run in zip(jobs, runs, strict=True):
        console.info(f"sweep  job {job.job_id}: {run.workdir}")
    return 0


class _Run:
    """One run as a process of its own; what submitit calls in a job."""

    def __init__(self, given: Sequence[str]):
        self._given = list(given)
        self._child: subprocess.Popen | None = None

    def start(self, index: int) -> subprocess.Popen:
        """Starts a run."""
        command = [sys.executable, *_MAIN, *self._given, f"--sweep_index={index}"]
        self._child = subprocess.Popen(command)
        return self._child

    def __call__(self, index: int) -> int:
        """Returns the exit code of a run.

        Raises:
          RuntimeError: if it failed, so that the job counts as failed.
        """
        code = self.start(index).wait()
        job = os.environ.get("SLURM_JOB_ID")
        if code == 128 + signal.SIGTERM and job:
            # It has saved, and submitit answers to its own signal alone.
            subprocess.run(["scontrol", "requeue", job])
        if code:
            raise RuntimeError(f"run {index} ended with code {code}")
        return code

    def checkpoint(self, index: int) -> Any:
        """Returns what goes on with the run, once this job is to end."""
        from submitit.helpers import (  # pyright: ignore[reportMissingImports]
            DelayedSubmission,
        )

        if self._child is not None:
            # It has got the signal, too.  `wait` would lock: the call below is in it.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(_Run(self._given), index)


if __name__ == "__main__":
    sys.exit(main())
