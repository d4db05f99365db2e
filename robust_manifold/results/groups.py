"""Runs of one experiment brought together, and their lines averaged over seeds."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robust_manifold.config import FREE, default_config
from robust_manifold.core.errors import UsageError
from robust_manifold.findings import Group, Run
from robust_manifold.results.origins import trained_config
from robust_manifold.runtime import json_text
from robust_manifold.runtime.run_folder import config_differences

_SAME_WHATEVER = {"seed", *FREE} - {"title"}


def group_runs(runs: Iterable[Run], order: Sequence[str] = ()) -> list[Group]:
    """Returns the runs by experiment and config, in the document's order.

    Two runs belong together if their configs differ in nothing but the seed, the run
    that networks came from, and what no stored result depends on.  A network that was
    taken over counts by how it was trained, as far as that is known.

    Args:
      runs: of any experiments.
      order: names of experiments; all others follow by name.

    Raises:
      UsageError: if two runs of a group have one seed.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(_key(run, order), []).append(run)
    made = []
    for key in sorted(groups):
        own = sorted(groups[key], key=lambda run: run.seed)
        for one, other in zip(own, own[1:], strict=False):
            if one.seed == other.seed:
                raise UsageError(
                    f"{one.folder} and {other.folder} hold the same experiment with "
                    f"the seed {one.seed}; allowed: each seed once."
                )
        made.append(Group(tuple(own)))
    return made


def differences(group: Group, other: Group) -> list[str]:
    """Returns one phrase for each key on which the configs of two groups differ."""
    given, stored = (
        _settled(_completed(trained_config(each.first))) for each in (group, other)
    )
    return [
        phrase.replace(", stored ", ", there ")
        for phrase in config_differences(given, stored)
    ]


def _key(run: Run, order: Sequence[str]) -> tuple[Any, ...]:
    """Returns what runs of one group share; sorts as the document does."""
    known = order.index(run.experiment) if run.experiment in order else len(order)
    settled = json.dumps(_settled(_completed(trained_config(run))), sort_keys=True)
    return known, run.experiment, run.argument, settled


def _settled(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a config without what may differ between runs that are averaged."""
    settled = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            settled[name] = _settled(value, f"{key}.")
        elif name == "from_run":
            settled[name] = bool(value)
        elif key not in _SAME_WHATEVER:
            settled[name] = value
    return settled


@functools.cache
def _defaults() -> dict[str, Any]:
    """Returns the default config as it is read from a file."""
    return json_text.loads(json_text.dumps(default_config().to_dict()))


def _completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config with the defaults of keys that are younger than it is."""
    defaults = _defaults()
    classifier = defaults["classifier"] | {"start": ""}
    whole = {**defaults, **config}
    for name, value in config.items():
        if name == "classifiers":
            whole[name] = {other: classifier | block for other, block in value.items()}
        elif isinstance(value, Mapping):
            whole[name] = {**defaults.get(name, {}), **value}
    return whole
