"""Runs of one experiment brought together, and their lines averaged over seeds."""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from robust_manifold.config import default_config
from robust_manifold.core.errors import UsageError
from robust_manifold.experiment import FREE
from robust_manifold.results.records import Run
from robust_manifold.runtime import json_text
from robust_manifold.runtime.run_folder import config_differences

ORDER = (
    *("mnist", "mnist_enhanced", "mnist_adaptive", "mnist_manifolds", "defense_gan"),
    *("overpowered", "mnist_robust", "celeba_gender", "mnist_generators"),
    "mnist_patch",
)
"""Experiments in the order of the document; all others follow by name."""

_IDENTITY = ("classifier", "defence", "adversary", "attack", "norm", "epsilon")
_SAME_WHATEVER = {"seed", *FREE} - {"title"}


class Group(NamedTuple):
    """Runs of one experiment and one config, by seed, which no two share."""

    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run of the least seed."""
        return self.runs[0]

    @property
    def seeds(self) -> list[int]:
        """The seeds, ascending."""
        return [run.seed for run in self.runs]

    def with_file(self, name: str) -> list[Run]:
        """Returns the runs that have a file."""
        return [run for run in self.runs if name in run.files]

    def frames(
        self, name: str, read: Callable[[str], pd.DataFrame]
    ) -> list[pd.DataFrame]:
        """Returns the lines of a file of each run that has it.

        Raises:
          UsageError: if a file cannot be read.
        """
        return [read_lines(run, name, read) for run in self.with_file(name)]

    def averaged(
        self, frames: Sequence[pd.DataFrame], *, ends: bool = False
    ) -> pd.DataFrame:
        """Returns the lines of the seeds as those of one run; see `over_seeds`.

        Raises:
          UsageError: if the seeds have other rows; the message names the experiment.
        """
        try:
            return over_seeds(frames, ends=ends)
        except UsageError as error:
            raise UsageError(f"{self.first.experiment}: {error}") from None


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Returns the runs by experiment and config, in the document's order.

    Two runs belong together if their configs differ in nothing but the seed, the run
    that networks came from, and what no stored result depends on.  A network that was
    taken over counts by how it was trained, as far as that is known.

    Raises:
      UsageError: if two runs of a group have one seed.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
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
        _settled(_completed(each.first.trained_config)) for each in (group, other)
    )
    return [
        phrase.replace(", stored ", ", there ")
        for phrase in config_differences(given, stored)
    ]


def over_seeds(frames: Sequence[pd.DataFrame], *, ends: bool = False) -> pd.DataFrame:
    """Returns the lines of several seeds as those of one run: means over the seeds.

    The interval of an accuracy is the least and the greatest of the seeds' values.

    Args:
      frames: lines of results.csv or worst_cases.csv, of equal rows.
      ends: whether it is the least and the greatest end of their intervals instead.

    Raises:
      UsageError: if the frames have other rows.
    """
    first = frames[0]
    if len(frames) == 1:
        return first
    keys = [name for name in _IDENTITY if name in first.columns]
    every = pd.concat(frames, ignore_index=True)
    cells: Any = every.groupby(keys, sort=False, dropna=False)
    if any(len(frame) != len(first) for frame in frames) or (
        (cells.size() != len(frames)).any()
    ):
        raise UsageError(
            "the seeds have other rows than each other; allowed: equal rows for all "
            "seeds."
        )
    mean = cells.mean()
    mean["accuracy_low"] = cells["accuracy_low" if ends else "accuracy"].min()
    mean["accuracy_high"] = cells["accuracy_high" if ends else "accuracy"].max()
    mean["n"] = cells["n"].first()
    return mean.reset_index()[list(first.columns)]


def read_lines(
    run: Run, name: str, read: Callable[[str], pd.DataFrame]
) -> pd.DataFrame:
    """Returns the lines of a run's file.

    Raises:
      UsageError: if they cannot be read; the message names the run's folder.
    """
    try:
        return read(run.text(name))
    except UsageError as error:
        raise UsageError(f"{run.folder}: {error}") from None


def _key(run: Run) -> tuple[Any, ...]:
    """Returns what runs of one group share; sorts as the document does."""
    known = ORDER.index(run.experiment) if run.experiment in ORDER else len(ORDER)
    settled = json.dumps(_settled(_completed(run.trained_config)), sort_keys=True)
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
