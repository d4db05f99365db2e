"""The table of latent pairs, and what judges say of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.labels import label_of, norm_label
from robust_manifold.reporting.on_manifold import TOGETHER, VERDICTS, share_text
from robust_manifold.reporting.tables import MISSING, Table


def pairs_table(
    lines: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns how often two near images of the generator are classified apart.

    Args:
      lines: what pairs.json holds: each with the "classifier" as results.csv writes
        it, the "search" as a config does, its "norm" and "eta", the numbers "n" and
        "found", the "interval" of the share found, "distance_median" and
        "outputs_mean" (either may be None), and "judges": each with its name "judge",
        a "verdict", the "pairs" and "n" of all pairs, their "share" and its
        "interval".
      confidence: coverage of all intervals.

    Raises:
      UsageError: for no lines.
    """
    if not lines:
        raise UsageError("lines hold 0 searches; allowed: 1 or more.")
    heads = {
        "Classifier": [label_of(line["classifier"]) for line in lines],
        "Bound": [f"{norm_label(line['norm'])} ≤ {line['eta']:g}" for line in lines],
        "Found": [_found(line) for line in lines],
        "Distance": [_number(line["distance_median"]) for line in lines],
        "Outputs apart": [_number(line["outputs_mean"]) for line in lines],
    }
    for verdict, head in VERDICTS.items():
        heads[head] = [share_text(line, TOGETHER, verdict) for line in lines]
    names = dict.fromkeys(j["judge"] for line in lines for j in line["judges"])
    single = [judge for judge in names if judge != TOGETHER]
    if len(single) > 1:
        for judge in single:
            heads[f"Another, {judge}"] = [
                share_text(line, judge, "changed", interval=False) for line in lines
            ]
    searches = "; ".join(dict.fromkeys(line["search"] for line in lines))
    caption = (
        "Pairs of the generator's images. Found: share "
        "of the searches that end with two images within the bound and of different "
        "predicted classes, by the bare classifier. Distance: median of the found "
        "pairs, plain and over all pixels. Outputs apart: mean squared ℓ2 distance of "
        "the two outputs (probabilities) of all pairs within the bound, 0 to 2. Still "
        "one class, another class: share of the found pairs of which all judges say "
        "so; of the rest they are unsure or disagree. Wilson intervals of "
        f"{100 * confidence:g} %. Judges: {', '.join(single) or 'none was asked'}. "
        "A pair that reads as two classes is no mistake of the classifier. "
        f"Searches: {searches}."
    )
    numbers = pd.DataFrame(
        [
            {
                **{k: v for k, v in line.items() if k not in ("judges", "interval")},
                **{f"{j['judge']} {j['verdict']}": j["pairs"] for j in line["judges"]},
            }
            for line in lines
        ]
    )
    title = "Latent pairs found by the overpowered attack"
    return Table(title, caption, pd.DataFrame(heads), numbers, names=2)


def _found(line: Mapping[str, Any]) -> str:
    low, high = line["interval"]
    share = 100 * line["found"] / line["n"]
    interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
    return f"{line['found']:,} of {line['n']:,}, {share:.1f} % {interval}"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g}"
