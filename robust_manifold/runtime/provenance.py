"""Where results come from: the command, the versions and the devices of each stage.

They belong to the process that ran the stage.  A stage that was stopped and went on
elsewhere has several parts, in order; a later call that finds it finished adds none.
"""

import functools
import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robust_manifold.runtime import devices
from robust_manifold.version import __version__

NOT_RESULTS = ("report",)
"""Stages whose place of work no result depends on."""

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
_FIELDS = ("command", "versions", "devices")

Part = Mapping[str, Any]
"""What one process did of a stage: `command`, `versions`, `devices`, `seconds`."""

UNKNOWN: Part = {"command": [], "versions": {}, "devices": {}, "seconds": 0.0}
"""Stands first, for the parts that a deleted status knew of."""


def here(command: Sequence[str]) -> dict[str, Any]:
    """Returns the part that this process is about to do, by its command line."""
    return {
        "command": list(command),
        "versions": dict(_versions()),
        "devices": devices.describe(),
        "seconds": 0.0,
    }


def joined(parts: Sequence[Part], part: Part) -> list[Part]:
    """Returns the parts with one more, unless the last one is of the same place."""
    if parts and all(parts[-1].get(name) == part[name] for name in _FIELDS):
        return list(parts)
    return [*parts, part]


def parts_of(status: Mapping[str, Any]) -> dict[str, list[Part]]:
    """Returns the parts of each stage, by a run's status or that of its record.

    A status of an older version knows of its last process alone: it counts for all.
    """
    if "ran" in status:
        return dict(status["ran"])
    if not all(name in status for name in _FIELDS):
        return {}
    told = {name: status[name] for name in _FIELDS}
    seconds = status.get("stage_seconds", {})
    stages = {**seconds, **status.get("finished_stages", {})}
    return {stage: [{**told, "seconds": seconds.get(stage, 0.0)}] for stage in stages}


def results_of(status: Mapping[str, Any]) -> dict[str, list[Part]]:
    """Returns the parts of the stages that results depend on; of all if none does."""
    parts = parts_of(status)
    return {s: each for s, each in parts.items() if s not in NOT_RESULTS} or parts


def told(parts: Mapping[str, Sequence[Part]], of: Callable[[Part], str]) -> str:
    """Returns a fact once if all parts share it, else with the stages it is true of.

    >>> a, b = ({"kind": kind} for kind in "ab")
    >>> told({"fit": [a], "attack": [a, b]}, lambda part: part["kind"])
    'a (fit, part 1 of attack); b (part 2 of attack)'
    """
    # Of each text the stages, by which of their parts it is true of.
    texts: dict[str, dict[str, list[str]]] = {}
    for stage, own in parts.items():
        found: dict[str, list[int]] = {}
        for number, part in enumerate(own, start=1):
            text = "not known" if part == UNKNOWN else of(part)
            found.setdefault(text, []).append(number)
        for text, numbers in found.items():
            which = f"part {' and '.join(map(str, numbers))} of "
            which = which if len(found) > 1 else ""
            texts.setdefault(text, {}).setdefault(which, []).append(stage)
    if len(texts) <= 1:
        return next(iter(texts), "")
    named = {
        text: ", ".join(which + ", ".join(stages) for which, stages in where.items())
        for text, where in texts.items()
    }
    return "; ".join(f"{text} ({names})" for text, names in named.items())


def commands_of(parts: Mapping[str, Sequence[Part]]) -> list[list[str]]:
    """Returns the command lines of the parts, each once, in order."""
    found: list[list[str]] = []
    for part in (part for own in parts.values() for part in own):
        if part["command"] and part["command"] not in found:
            found.append(part["command"])
    return found


def of_stage(status: Mapping[str, Any], stage: str) -> list[Part]:
    """Returns the parts of one stage; none if it is not known."""
    if "ran" not in status and all(name in status for name in _FIELDS):
        return [{name: status[name] for name in _FIELDS}]
    return parts_of(status).get(stage, [])


def environment_of(parts: Mapping[str, Sequence[Part]]) -> dict[str, str]:
    """Returns versions and devices by name, each with the stages it is true of."""
    every = [part for own in parts.values() for part in own]
    names = dict.fromkeys(name for part in every for name in part["versions"])
    facts: dict[str, Callable[[Part], str]] = {
        name: lambda part, name=name: part["versions"].get(name, "not known")
        for name in names
    }
    return {name: told(parts, of) for name, of in facts.items()} | {
        "devices": told(parts, device_text)
    }


def device_text(part: Part) -> str:
    """Returns the devices of a part in words."""
    device = part["devices"]
    text = f"{device['devices']} x {device['kind']}, {device['processes']} process(es)"
    cores = device.get("cores")  # Not of runs of older versions.
    return f"{text}, {cores} CPU core(s)" if cores else text


def versions_text(part: Part) -> str:
    """Returns the versions of a part in words."""
    return ", ".join(f"{name} {text}" for name, text in part["versions"].items())


@functools.cache
def _versions() -> dict[str, str]:
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    own = {"robust_manifold": __version__}
    return {"python": platform.python_version(), **packages, **own}
