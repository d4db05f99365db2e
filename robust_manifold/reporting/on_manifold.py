"""The table of images found in the generator's range, and what judges say of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.columns import target_labels
from robust_manifold.reporting.labels import adversary_label, budget_label
from robust_manifold.reporting.tables import MISSING, Table

TOGETHER = "all judges"
"""The judge that stands for all of them."""
VERDICTS = {"unchanged": "Still one class", "changed": "Another class"}
"""Heads of the columns, by the verdict whose share they hold."""


def on_manifold_table(
    lines: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns what a search in the generator's range broke, and whether it counts.

    Args:
      lines: what on_manifold.json holds: each with the "column" and "adversary" as a
        config writes them, "norm", "epsilon", the numbers "n" and "broken", and
        "judges": each with its name "judge", a "verdict", the "pairs" and "n" of all
        pairs, their "share" and its "interval".
      confidence: coverage of the intervals in `lines`, for the caption.

    Raises:
      UsageError: for no lines.
    """
    if not lines:
        raise UsageError("lines hold 0 searches; allowed: 1 or more.")
    texts = list(dict.fromkeys(line["column"] for line in lines))
    names = dict(zip(texts, target_labels(texts), strict=True))
    heads = {
        "Defence": [names[line["column"]] for line in lines],
        "Adversary": [adversary_label(line["adversary"]) for line in lines],
        "Budget": [budget_label(line["norm"], line["epsilon"]) for line in lines],
        "Broken": [f"{line['broken']:,} of {line['n']:,}" for line in lines],
    }
    for verdict, head in VERDICTS.items():
        heads[head] = [share_text(line, TOGETHER, verdict) for line in lines]
    judges = list(dict.fromkeys(j["judge"] for line in lines for j in line["judges"]))
    single = [judge for judge in judges if judge != TOGETHER]
    if len(single) > 1:
        for judge in single:
            heads[f"Another, {judge}"] = [
                share_text(line, judge, "changed", interval=False) for line in lines
            ]
    if len(set(heads["Adversary"])) == 1:
        del heads["Adversary"]
    caption = (
        "Broken: right before, wrong after. "
        "Still one class, another class: share of the broken ones of which all judges "
        f"say so, with its {100 * confidence:g} % Wilson interval; of the rest they "
        f"are unsure or disagree. Judges: {', '.join(single) or 'none was asked'}. "
        "What reads as another class is no adversarial example: the classifier may be "
        "right."
    )
    numbers = pd.DataFrame(
        [
            {**{k: v for k, v in line.items() if k != "judges"}, **_counts(line)}
            for line in lines
        ]
    )
    names_of = list(heads).index("Broken")
    title = "Images found by a search over latents"
    return Table(title, caption, pd.DataFrame(heads), numbers, names=names_of)


def _counts(line: Mapping[str, Any]) -> dict[str, int]:
    return {f"{j['judge']} {j['verdict']}": j["pairs"] for j in line["judges"]}


def share_text(
    line: Mapping[str, Any], judge: str, verdict: str, *, interval: bool = True
) -> str:
    """Returns the share of a verdict, as a judge gives it, for a cell of a table."""
    for found in line["judges"]:
        if (found["judge"], found["verdict"]) == (judge, verdict):
            low, high = (100 * end for end in found["interval"])
            text = f"{100 * found['share']:.1f} %"
            return f"{text} [{low:.1f}, {high:.1f}]" if interval else text
    return MISSING
