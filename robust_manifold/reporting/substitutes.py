"""The table of substitutes: what each asked of its target, and what it learned."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.columns import target_labels
from robust_manifold.reporting.labels import label_of
from robust_manifold.reporting.tables import Table


def substitutes_table(
    lines: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns the table of substitutes: a row for each target.

    Args:
      lines: what substitutes.json holds, one target each: texts "target" and "model";
        "queries"; "history", a mapping with "queries" and "agreement" for each round;
        "agreement" with "agreement_low" and "agreement_high" on "n" images.
      confidence: coverage of the intervals in `lines`, for the caption.

    Raises:
      UsageError: for no lines.
    """
    if not lines:
        raise UsageError("lines hold 0 substitutes; allowed: 1 or more.")
    columns = {
        "Target": target_labels([line["target"] for line in lines]),
        "Label queries": [f"{line['queries']:,}" for line in lines],
        "Agreement": [_agreement(line) for line in lines],
        "On what it asked": [
            _percent(line["history"][-1]["agreement"]) for line in lines
        ],
    }
    first, seeds = lines[0], lines[0]["history"][0]["queries"]
    rounds = len(first["history"])
    grown = (
        f"{seeds:,} validation images and others made from them, in {rounds} rounds"
        if rounds > 1
        else f"{seeds:,} validation images"
    )
    caption = (
        f"{label_of(first['model'])}, trained on nothing but labels "
        f"of {grown}. Label queries: images whose label the target was asked for. "
        f"Agreement: share of the {first['n']:,} clean test images, about which no "
        "target was asked, that target and substitute take for the same class, with "
        f"its {100 * confidence:g} % Wilson interval; on what it asked: the same share "
        "of its own training images."
    )
    numbers = pd.DataFrame(
        [{k: v for k, v in line.items() if k != "history"} for line in lines]
    )
    return Table("Substitute models", caption, pd.DataFrame(columns), numbers)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _agreement(line: Mapping[str, Any]) -> str:
    low, high = 100 * line["agreement_low"], 100 * line["agreement_high"]
    return f"{_percent(line['agreement'])} [{low:.1f}, {high:.1f}]"
