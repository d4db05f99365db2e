"""The runs of a sweep, as a config file yields them.

Beside `get_config` a config file may define

    def sweep():
        for seed in range(3):
            for training in ("gan()", "vae()"):
                yield {"seed": seed, "generator.training": training}

and `sweep(argument)` where `get_config` takes one.  Each run has the config with these
keys changed, and what a command line changes counts over them.
"""

import hashlib
import inspect
import re
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax._src.clusters import K8sCluster

from robust_manifold.core.errors import UsageError

_FUNCTION = "sweep"
_LONGEST = 100
"""Characters of a folder's name that tell of changes."""


def runs_of(path: Path, argument: str = "") -> list[dict[str, Any]] | None:
    """Returns what each run of a sweep changes, by dotted key; None without a sweep.

    Args:
      path: the config file, which is executed.
      argument: what follows its name after a colon.

    Raises:
      UsageError: if the sweep yields nothing, or anything but changes of keys.
    """
    function = runpy.run_path(str(path)).get(_FUNCTION)
    if function is None:
        return None
    takes = bool(inspect.signature(function).parameters)
    runs = list(function(argument) if argument and takes else function())
    for place, run in enumerate(runs):
        if not isinstance(run, Mapping) or not all(isinstance(key, str) for key in run):
            raise UsageError(
                f"sweep() of {path} yields {run!r}; allowed: a dictionary of keys of "
                'the config, such as {"seed": 1}.'
            )
        if run in runs[:place]:
            raise UsageError(f"sweep() of {path} yields {run!r} twice; allowed: once.")
    if not runs:
        raise UsageError(f"sweep() of {path} yields 0 runs; allowed: 1 or more.")
    return [dict(run) for run in runs]


def chosen(
    path: Path, argument: str, index: int | None, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Returns what the run of this index changes; nothing without one.

    Args:
      path: the config file.
      argument: as for `runs_of`.
      index: as given; by default the environment says it, of a config with a sweep.
      environment: of the process.

    Raises:
      UsageError: if there is no such run.
    """
    place = _index_in(environment) if index is None else index
    if place is None:
        return {}
    if (runs := runs_of(path, argument)) is None:
        if index is None:
            return {}
        raise UsageError(
            f"--sweep_index is {index}, and {path} defines no sweep(); allowed: none."
        )
    if not 0 <= place < len(runs):
        raise UsageError(
            f"--sweep_index is {place}; allowed: 0 to {len(runs) - 1}, as sweep() of "
            f"{path} yields {len(runs)} runs."
        )
    return runs[place]


def _index_in(environment: Mapping[str, str]) -> int | None:
    """Returns the place of this process in an array of jobs; None outside of one."""
    index = environment.get("SLURM_ARRAY_TASK_ID")
    # Where one job is made of the pods, it is the number of a process.
    one = "JAX_COORDINATOR_ADDRESS" in environment or K8sCluster.is_env_present()
    if index is None and not one:
        index = environment.get("JOB_COMPLETION_INDEX")
    return int(index) if index is not None and index.isdecimal() else None


def as_flags(changes: Mapping[str, Any]) -> list[str]:
    """Returns changes as they are given on a command line.

    >>> as_flags({"seed": 1, "evaluation.attacks": ("fgsm(epsilon=0.1)",)})
    ['--config.seed=1', "--config.evaluation.attacks=('fgsm(epsilon=0.1)',)"]
    """
    return [f"--config.{key}={value}" for key, value in changes.items()]


def folder_name(changes: Mapping[str, Any], without: Sequence[str] = ()) -> str:
    """Returns a part of a folder's name, which no other changes have.

    >>> folder_name({"seed": 1, "measures.examples": 5})
    'measures.examples=5-seed=1'
    >>> folder_name({"generator.training": "gan(loss='hinge')"})
    'generator.training=gan_loss=_hinge__-db176ff8'

    Args:
      changes: of a config's keys.
      without: keys that are left out.
    """
    kept = [f"{k}={v}" for k, v in sorted(changes.items()) if k not in without]
    text = "-".join(kept)
    plain = re.sub(r"[^\w.=,+-]", "_", text)[:_LONGEST]
    apart = not any(mark in f"{value}" for value in changes.values() for mark in "-=")
    if plain == text and apart:
        return text
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
