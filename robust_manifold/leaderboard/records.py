"""What is known of an entry, image by image; its rows only fall."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_manifold.core.errors import UsageError
from robust_manifold.leaderboard import rules
from robust_manifold.leaderboard.entry import Stated
from robust_manifold.runtime import json_text
from robust_manifold.runtime.artefacts import write_atomically


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """An entry and its figures.

    Attributes:
      name: of its file.
      title: what the page calls it.
      text: what it does, a paragraph.
      source: where it comes from.
      claimed: percent by row, as its authors say.
      checksum: SHA-256 of its file.
      weights: SHA-256 of the files beside it.
      n: digits that were attacked.
      minutes: that this took.
      gradients: of the defended classifier that a digit took.
      outputs: likewise.
      wrong: by row, under how many of `rules.KEYS` keys each digit is lost.
      by: by row, the members that broke most, each with how many.
      audit: [name, verdict, sentence] of each check.
      notes: sentences that a reader has to know.
      challenges: [from, SHA-256 of the images, {row: digits that fell}, salt].
      versions: of what scored it.
    """

    name: str
    title: str
    text: str
    source: str
    claimed: Mapping[str, float]
    checksum: str
    weights: Mapping[str, str]
    n: int
    minutes: float
    gradients: int
    outputs: int
    wrong: Mapping[str, Sequence[int]]
    by: Mapping[str, Sequence[Sequence[Any]]]
    audit: Sequence[Sequence[str]]
    notes: Sequence[str]
    versions: Mapping[str, str]
    challenges: Sequence[Sequence[Any]] = ()

    @property
    def flags(self) -> list[Sequence[str]]:
        """The checks of the audit that say a figure misleads."""
        return [check for check in self.audit if check[1] == "FLAG"]

    def right(self, row: str) -> float:
        """Returns the share of a row that is left, a mean over keys."""
        return float(1 - np.mean(self.wrong[row]) / rules.KEYS)

    def fallen(self, wrong: Mapping[str, Sequence[int]]) -> "Record":
        """Returns the record with the worse of both for every digit.

        A digit that is lost in a ball is lost in each larger one of the same norm.
        """
        worst = {row: np.array(known) for row, known in self.wrong.items()}
        for row in worst.keys() & wrong.keys():
            other = np.array(wrong[row][: self.n])
            worst[row][: len(other)] = np.maximum(worst[row][: len(other)], other)
        for norm, radii in rules.BALLS.items():
            below = worst["clean"]
            for radius in sorted(radii):
                row = f"{norm} {radius:g}"
                worst[row] = below = np.maximum(below, worst[row])
        found = {row: [int(count) for count in worst[row]] for row in self.wrong}
        return dataclasses.replace(self, wrong=found)


def made(
    stated: Stated, score: Mapping[str, Any], versions: Mapping[str, str]
) -> Record:
    """Returns the record of an entry that was scored."""
    words = {"title": stated.name, "source": "", "claimed": {}}
    fields = {
        "name": stated.name,
        "text": stated.text,
        "checksum": stated.checksum,
        "weights": dict(stated.weights),
        "versions": versions,
    }
    found = Record(**words | dict(score) | fields)
    return found.fallen(found.wrong)


def joined(new: Record, old: Record) -> Record:
    """Returns the record of an entry that was scored again, with what fell before."""
    if old.n > new.n:
        return old.fallen(new.wrong)
    return dataclasses.replace(new.fallen(old.wrong), challenges=old.challenges)


def with_challenges(record: Record, challenges: Sequence[Sequence[Any]]) -> Record:
    """Returns the record with these challenges."""
    return dataclasses.replace(record, challenges=challenges)


def read(path: Path) -> Record:
    """Returns the record of a file.

    Raises:
      UsageError: if it holds none.
    """
    try:
        return Record(**json_text.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, TypeError):
        raise UsageError(
            f"{path} is damaged; allowed: what the leaderboard's evaluate has written."
        ) from None


def read_all(board: Path) -> list[Record]:
    """Returns all records of a board, by name."""
    return [read(path) for path in sorted(board.glob("*.json"))]


def write(record: Record, board: Path) -> None:
    """Writes a record, one line a field, so that its changes can be read."""
    fields = dataclasses.asdict(record)
    lines = (
        f"  {json_text.dumps(name)}: {json_text.dumps(value)}"
        for name, value in fields.items()
    )
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_atomically(board / f"{record.name}.json", text.encode())
