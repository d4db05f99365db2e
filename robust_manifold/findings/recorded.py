"""Finished runs of one experiment, as the page of results reads them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import Table
from robust_manifold.runtime import json_text, provenance

_IDENTITY = ("classifier", "defence", "adversary", "attack", "norm", "epsilon")


class Run(NamedTuple):
    """A finished run, or the record of one.

    Attributes:
      folder: where it was read, for messages.
      experiment: name of the experiment's file, without its ending.
      argument: what was handed to its `get_config`; empty for nothing.
      purpose: first line of the file's docstring; empty where there is no file.
      config: the whole config, as plain values.
      status: see `RunFolder`; `finished_stages` has no outputs.
      files: contents of the small files that results are made from.
      origins: the blocks that networks taken over were trained by.
    """

    folder: Path
    experiment: str
    argument: str
    purpose: str
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    files: Mapping[str, bytes]
    origins: Mapping[str, Mapping[str, Any]] = {}

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.config["seed"]

    @property
    def name(self) -> str:
        """What its record is called: "celeba_gender-small-0"."""
        parts = (self.experiment, self.argument, str(self.seed))
        return re.sub(r"[^\w.=+-]+", "-", "-".join(filter(None, parts)))

    @property
    def computed(self) -> dict[str, list[provenance.Part]]:
        """Where the stages ran that results depend on; see `provenance.parts_of`."""
        return provenance.results_of(self.status)

    @property
    def stages(self) -> list[str]:
        """The stages that have finished."""
        return list(self.status["finished_stages"])

    def text(self, file: str) -> str:
        """Returns the contents of a file as text; empty where there is none."""
        return self.files.get(file, b"").decode()

    def json(self, file: str) -> Any:
        """Returns the value of a JSON file; an empty list where there is none."""
        return json_text.loads(self.files[file]) if file in self.files else []

    def lines(self, file: str, read: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
        """Returns the lines of a file.

        Raises:
          UsageError: if they cannot be read; the message names the run's folder.
        """
        try:
            return read(self.text(file))
        except UsageError as error:
            raise UsageError(f"{self.folder}: {error}") from None


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

    @property
    def confidence(self) -> float:
        """The coverage of the intervals."""
        return self.first.config["evaluation"]["confidence"]

    @property
    def wilson(self) -> str:
        """What the intervals of one run are, in words."""
        return f"{100 * self.confidence:g} % Wilson interval"

    @property
    def interval(self) -> str:
        """What the intervals of the accuracies are, in words.

        Of several seeds they are a spread: their figures are of the same test images,
        so that no interval of one run tells how far apart two of them are.
        """
        if len(self.runs) > 1:
            return "mean over the seeds [least, greatest of them]"
        return self.wilson

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
        return [run.lines(name, read) for run in self.with_file(name)]

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

    def tables_by_seed(
        self, file: str, table_of: Callable[..., Table]
    ) -> Iterator[Table]:
        """Yields the table of each run's JSON file; of several, the seed is named.

        Args:
          file: that the tables are made from.
          table_of: from the value of the file, and `confidence`, to the table.

        Raises:
          UsageError: if a file is not what this version writes.
        """
        for run in self.with_file(file):
            try:
                table = table_of(run.json(file), confidence=self.confidence)
            except (KeyError, TypeError):
                raise UsageError(
                    f"{run.folder / file} is not what this version writes; allowed: a "
                    "run of it, or one that its stage was run again in."
                ) from None
            seed = f"Seed {run.seed}. " if len(self.runs) > 1 else ""
            yield table._replace(caption=f"{seed}{table.caption}")


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
