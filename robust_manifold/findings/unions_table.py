"""The table of unions of balls."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import Table
from robust_manifold.reporting.columns import column_heads, column_of
from robust_manifold.reporting.labels import union_labels
from robust_manifold.reporting.tables import (
    accuracy_numbers,
    accuracy_text,
    images_text,
    lines_of,
)

_MEASURES = ("accuracy", "accuracy_low", "accuracy_high", "n")


def unions_table(
    lines: pd.DataFrame,
    *,
    confidence: float = 0.95,
    labels: Mapping[str, str] | None = None,
) -> Table:
    """Returns what is left in each ball, then in each union of them, by column.

    Args:
      lines: those of unions.csv.
      confidence: coverage of the intervals in `lines`, for the caption.
      labels: names to print instead of the derived ones, by classifier or defence.

    Raises:
      UsageError: for no lines.
    """
    rows = lines_of(lines)
    if not rows:
        raise UsageError("unions hold no line; allowed: 1 or more.")
    columns = column_heads((column_of(row) for row in rows), labels)
    cells: dict[str, dict[Any, Any]] = {}
    for name, row in zip(union_labels(rows), rows, strict=True):
        cells.setdefault(name, {})[column_of(row)] = row
    # A ball of several unions is one line, and unions come last.
    names = sorted(cells, key=lambda name: not next(iter(cells[name].values())).norm)
    found = {name: [cells[name].get(column) for column in columns] for name in names}
    caption = (
        f"Accuracy with its {100 * confidence:g} % Wilson interval, "
        f"{images_text(rows)}: an image is right in a ball if it is right untouched "
        "and under every stored attack whose perturbation of it lies inside, and in a "
        "union if it is so in every ball of it. The attacker picks the norm after "
        "seeing image and defence."
    )
    return Table(
        "Accuracy where any of several norms may be used",
        caption,
        pd.DataFrame(
            [[name, *map(accuracy_text, own)] for name, own in found.items()],
            columns=["Budget", *columns.values()],
        ),
        pd.DataFrame(
            [
                [name, *(number for cell in own for number in accuracy_numbers(cell))]
                for name, own in found.items()
            ],
            columns=[
                "Budget",
                *(f"{head} {m}" for head in columns.values() for m in _MEASURES),
            ],
        ),
    )
