"""Bars of accuracy in balls of several norms, and in their unions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.columns import column_heads, column_of
from robust_manifold.reporting.figures.canvas import (
    FAINT_TEXT,
    INK,
    LINES,
    WRONG,
    laid_out,
    new_figure,
    styled,
)
from robust_manifold.reporting.labels import union_labels
from robust_manifold.reporting.tables import lines_of

_DARK = (INK, WRONG)
"""Of unions, beside the colours of balls."""


@styled
def union_bars(
    lines: pd.DataFrame,
    *,
    labels: Mapping[str, str] | None = None,
    beside: Mapping[str, float] | None = None,
) -> Figure:
    """Returns a group of bars for each column: one a ball, and last one a union.

    Args:
      lines: those of unions.csv.
      labels: names to print instead of the derived ones, by classifier or defence.
      beside: accuracies to draw across the figure, by the words beside them.

    Raises:
      UsageError: for no lines.
    """
    rows = lines_of(lines)
    if not rows:
        raise UsageError("unions hold no line; allowed: 1 or more.")
    heads = column_heads((column_of(row) for row in rows), labels)
    kinds: dict[str, dict[Any, Any]] = {}
    for name, row in zip(union_labels(rows), rows, strict=True):
        kinds.setdefault(name, {})[column_of(row)] = row
    is_union = {name: not next(iter(own.values())).norm for name, own in kinds.items()}
    names = sorted(kinds, key=is_union.__getitem__)
    balls = [name for name in names if not is_union[name]]
    width = 0.84 / len(names)
    figure = new_figure(
        max(6.4, 0.9 + 0.34 * len(names) * len(heads)), 4.2, layout="constrained"
    )
    axes = figure.subplots()
    for place, name in enumerate(names):
        own = kinds[name]
        at = [i for i, column in enumerate(heads) if column in own]
        cells = [own[column] for column in heads if column in own]
        height = np.array([cell.accuracy for cell in cells])
        ends = np.array([(cell.accuracy_low, cell.accuracy_high) for cell in cells]).T
        if is_union[name]:
            colour = _DARK[(place - len(balls)) % len(_DARK)]
        else:
            colour = LINES[1 + place % (len(LINES) - 1)]
        axes.bar(
            np.array(at) + (place - (len(names) - 1) / 2) * width,
            height,
            0.92 * width,
            yerr=np.maximum(0, [height - ends[0], ends[1] - height]),
            error_kw={"elinewidth": 0.9, "ecolor": FAINT_TEXT, "capsize": 1.5},
            color=colour,
            label=name,
        )
    for words, accuracy in (beside or {}).items():
        axes.axhline(accuracy, color=FAINT_TEXT, linewidth=0.9, linestyle="--")
        axes.annotate(
            words,
            (1, accuracy),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=FAINT_TEXT,
        )
    axes.set_xticks(range(len(heads)), [_broken(head) for head in heads.values()])
    axes.tick_params(axis="x", labelsize=8.5)
    axes.grid(visible=False, axis="x")
    axes.set(ylim=(0, 1), ylabel="accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.legend(loc="outside lower center", ncols=min(len(names), 4), fontsize=9)
    return laid_out(figure)


def _broken(head: str) -> str:
    """Returns a head with a line for each of its parts."""
    return "\n".join(head.split(", "))
