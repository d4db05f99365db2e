"""Tables of rejection by reconstruction error: what it catches, and what it costs."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from robust_manifold.reporting.columns import column_heads, column_of
from robust_manifold.reporting.labels import (
    CLEAN,
    NO_DEFENCE,
    adversary_label,
    label_of,
)
from robust_manifold.reporting.tables import (
    MISSING,
    Table,
    accuracy_text,
    images_text,
    lines_of,
    lines_where,
    with_threat,
)


def detection_tables(
    lines: pd.DataFrame,
    *,
    confidence: float = 0.95,
    labels: Mapping[str, str] | None = None,
) -> Iterator[Table]:
    """Yields a table for each defence that rejects, a line a row of images.

    Args:
      lines: those of detection.csv.
      confidence: coverage of the intervals in `lines`, for the caption.
      labels: names to print instead of the derived ones, by attack, classifier or
        defence.
    """
    rows = lines_of(lines)
    for column, head in column_heads((column_of(row) for row in rows), labels).items():
        own = [row for row in rows if column_of(row) == column]
        here = lines_where(lines, lambda row, of=column: column_of(row) == of)
        yield _table(own, head, here, confidence, labels)


def _table(
    rows: list[Any],
    head: str,
    numbers: pd.DataFrame,
    confidence: float,
    labels: Mapping[str, str] | None,
) -> Table:
    first = rows[0]
    heads = {
        "Attack": [label_of(row.attack, labels, row.norm) for row in rows],
        "Adversary": [_adversary(row) for row in rows],
        "Rejected": [_rejected(row) for row in rows],
        "Ends well": [accuracy_text(row) for row in rows],
        "AUC": [_auc(row) for row in rows],
    }
    several = len({row.adversary for row in rows} - {NO_DEFENCE}) > 1
    if not several:
        del heads["Adversary"]
    achieved = next((row for row in rows if row.attack == CLEAN), None)
    caption = (
        "Images with an error above "
        f"{first.threshold:.3g} are rejected: {100 * first.false_positive_rate:g} % "
        f"or less of {first.validation:,} clean validation images. "
        f"{images_text(rows)}; intervals of {100 * confidence:g} %. "
        "Ends well: clean images accepted and classified right, attacked ones rejected "
        "or classified right. AUC: probability that an image of the row has a larger "
        "error than a clean test image. No attack here tried to keep the error small: "
        "what is rejected is no evidence against one that does."
    )
    if achieved is not None:
        caption += (
            f" Of the clean test images {100 * achieved.rejected_share:.1f} % are "
            "rejected."
        )
    title = with_threat(f"Rejection by reconstruction error: {head}", rows)
    names = 2 if several else 1
    return Table(title, caption, pd.DataFrame(heads), numbers, names=names)


def _adversary(row: Any) -> str:
    known = row.adversary != NO_DEFENCE
    return adversary_label(row.adversary) if known else MISSING


def _rejected(row: Any) -> str:
    low, high = 100 * row.rejected_low, 100 * row.rejected_high
    return f"{100 * row.rejected_share:.1f} % [{low:.1f}, {high:.1f}]"


def _auc(row: Any) -> str:
    if math.isnan(row.auc):
        return MISSING
    return f"{row.auc:.3f} [{row.auc_low:.3f}, {row.auc_high:.3f}]"
