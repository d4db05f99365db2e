"""Files of one kind of record: fixed text of a header, then one line a record."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from robust_manifold.core.errors import UsageError

if TYPE_CHECKING:
    from pandas import DataFrame
else:
    # pandas is slow to import, and who evaluates in memory has no need of it.
    DataFrame = Any

_DEFAULT_FORMAT = ".6f"


class RecordFile(NamedTuple):
    """How records of one NamedTuple are written as CSV and read back.

    Attributes:
      name: of the file, for messages ("results.csv").
      columns: the record's fields, in order.
      texts: those that hold texts.
      counts: those that hold whole numbers; all others hold numbers, or nothing.
      required: those of the numbers that may not be empty.
      formats: of the numbers that are not written as ".6f".
    """

    name: str
    columns: tuple[str, ...]
    texts: tuple[str, ...]
    counts: tuple[str, ...]
    required: tuple[str, ...]
    formats: Mapping[str, str]

    def to_csv(self, records: Iterable[Any]) -> str:
        """Returns the file's text; None is written as nothing."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        for record in records:
            values = record._asdict().items()
            writer.writerow(self._format(name, value) for name, value in values)
        return stream.getvalue()

    def read(self, text: str) -> DataFrame:
        """Returns the frame that the file's text describes, NaN where it is empty.

        Raises:
          UsageError: if the columns are others, or a value cannot be read.
        """
        import pandas as pd

        lines = list(csv.reader(io.StringIO(text)))
        header = tuple(lines[0]) if lines else ()
        if header != self.columns:
            raise UsageError(
                f"{self.name} has the columns {', '.join(header) or '(none)'}; "
                f"allowed: {', '.join(self.columns)}."
            )
        rows = [self._read_line(number, line) for number, line in enumerate(lines[1:])]
        frame = pd.DataFrame(rows, columns=list(self.columns))
        kinds = dict.fromkeys(self.columns, float)
        kinds |= dict.fromkeys(self.counts, np.int64)
        kinds |= dict.fromkeys(self.texts, object)
        return frame.astype(kinds)

    def _format(self, name: str, value: str | int | float | None) -> str:
        if value is None:
            return ""
        if name in self.texts or name in self.counts:
            return str(value)
        return format(value, self.formats.get(name, _DEFAULT_FORMAT))

    def _read_line(self, place: int, line: list[str]) -> list[Any]:
        number = place + 2  # as an editor counts, below the header
        if len(line) != len(self.columns):
            raise UsageError(
                f"line {number} of {self.name} has {len(line)} values; "
                f"allowed: {len(self.columns)}."
            )
        return [
            text if name in self.texts else self._read_number(number, name, text)
            for name, text in zip(self.columns, line, strict=True)
        ]

    def _read_number(self, number: int, name: str, text: str) -> int | float:
        if not text and name not in self.required:
            return math.nan
        try:
            return int(text) if name in self.counts else float(text)
        except ValueError:
            kind = "a whole number" if name in self.counts else "a number"
            raise UsageError(
                f"{name} in line {number} of {self.name} is {text!r}; allowed: {kind}."
            ) from None
