"""The table of attacked images that a file gives, and what judges say of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.columns import target_labels
from robust_manifold.reporting.on_manifold import TOGETHER, VERDICTS, share_text
from robust_manifold.reporting.tables import Table


def given_table(
    lines: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns what columns make of given images, and whether what broke them counts.

    Args:
      lines: what given.json holds: each with "file", "column" as a config writes it,
        "n", "originals" and "images" (each how many are "right", and the "interval" of
        their share), the number "broken", "l2_mean", "l2_max", "linf_max", and
        "judges" as for `on_manifold_table`.
      confidence: coverage of the intervals in `lines`, for the caption.

    Raises:
      UsageError: for no lines.
    """
    if not lines:
        raise UsageError("lines hold 0 files; allowed: 1 or more.")
    texts = list(dict.fromkeys(line["column"] for line in lines))
    names = dict(zip(texts, target_labels(texts), strict=True))
    heads = {
        "File": [line["file"] for line in lines],
        "Defence": [names[line["column"]] for line in lines],
        "Originals right": [_accuracy(line, "originals") for line in lines],
        "Attacked right": [_accuracy(line, "images") for line in lines],
        "Broken": [f"{line['broken']:,} of {line['n']:,}" for line in lines],
    }
    for verdict, head in VERDICTS.items():
        heads[head] = [share_text(line, TOGETHER, verdict) for line in lines]
    sizes = {
        line["file"]: f"{line['file']}: {line['n']:,} images, mean ℓ2 distance "
        f"{line['l2_mean']:.3g}, largest {line['l2_max']:.3g}, largest ℓ∞ distance "
        f"{line['linf_max']:.3g}"
        for line in lines
    }
    if len(sizes) == 1:
        del heads["File"]
    caption = (
        f"{'; '.join(sizes.values())}. They were made "
        "against other networks and no attack was made here, so what stays right is no "
        f"robustness. Intervals: {100 * confidence:g} % Wilson. Broken: right before, "
        "wrong after. Still one class, another class: share of the broken ones of "
        f"which {_judges(lines)} says so; of the rest it is unsure."
    )
    numbers = pd.json_normalize(
        [{k: v for k, v in line.items() if k != "judges"} for line in lines], sep="_"
    )
    names_of = list(heads).index("Originals right")
    title = "Attacked images that were given"
    return Table(title, caption, pd.DataFrame(heads), numbers, names=names_of)


def _judges(lines: Sequence[Mapping[str, Any]]) -> str:
    """Returns who judged: one, or all together."""
    names = {found["judge"] for line in lines for found in line["judges"]} - {TOGETHER}
    return f"the {names.pop()}" if len(names) == 1 else "every judge"


def _accuracy(line: Mapping[str, Any], name: str) -> str:
    found = line[name]
    low, high = (100 * end for end in found["interval"])
    return f"{100 * found['right'] / line['n']:.1f} % [{low:.1f}, {high:.1f}]"
