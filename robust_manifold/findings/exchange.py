"""A second pass of a cascade: what it left meets the images of the other columns.

A column's figure must not depend on which columns stand beside it, so this is shown
apart and counts in no other table.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robust_manifold import data
from robust_manifold.config import Experiment
from robust_manifold.evaluation import Budget, cascades
from robust_manifold.findings import columns
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import Table
from robust_manifold.reporting.columns import target_labels
from robust_manifold.reporting.labels import budget_label
from robust_manifold.reporting.tables import MISSING
from robust_manifold.stages import Context
from robust_manifold.stages.table.cascading import piloted
from robust_manifold.stages.table.judged import judged_of
from robust_manifold.stages.table.pace import Pace, Part, cost_of_row
from robust_manifold.stages.table.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)
from robust_manifold.stages.table.rows import (
    CASCADE,
    Row,
    adversarial_folder,
    kind_of,
    rows,
)

SUMMARY = "exchange.json"


def find(context: Context) -> list[str]:
    """Writes `exchange/<row>/round-NNN.npz`, and a summary."""
    met = _met(context.experiment)
    parts = {
        row: Part(
            context.data.test.size,
            cost_of_row(context, row),
            stored_images(context, [_folder(row)]),
        )
        for row in met
    }
    with Pace("exchange", "images", parts) as pace:
        for row, others in met.items():
            compute_rounds(
                context,
                _folder(row),
                _exchanging(context, row, others),
                pace.teller(row, show=("row", f"{row.target.text} {row.name}")),
            )
    context.folder.write_json(SUMMARY, [_line(context, row) for row in met])
    return [SUMMARY, *round_paths(context, [*map(_folder, met)])]


def _met(experiment: Experiment) -> dict[Row, list[Row]]:
    """Returns the rows of cascades that know the keys, each with those of others.

    Others are the rows of the same ball that were made against another column.
    """
    block = experiment.evaluation
    if not block.exchange:
        return {}
    known = [
        row
        for row in rows(block)
        if kind_of(row.adversary) == CASCADE and row.spec.keys == "fixed"
    ]
    found = {
        row: [o for o in known if o.attack == row.attack and o.target != row.target]
        for row in known
    }
    return {row: others for row, others in found.items() if others}


def _folder(row: Row) -> str:
    return f"exchange/{row.folder}"


def _exchanging(
    context: Context, row: Row, others: Sequence[Row]
) -> Callable[[slice, data.Split], Mapping[str, np.ndarray]]:
    """Returns what makes one round of a row."""
    column, attack = row.target, row.attack
    assert attack is not None and row.budget is not None
    ball = Budget(attack.norm, row.budget)
    views = piloted(context, column) or row.spec.views_of(column.defence)
    rate = read_rounds(context, adversarial_folder(row))["rate"]
    offered = {
        columns.title_of(other.target): read_rounds(context, adversarial_folder(other))
        for other in others
    }

    def exchange(place: slice, part: data.Split) -> Mapping[str, np.ndarray]:
        before = rate[place] < 1
        after, by = before.copy(), np.full(part.size, "", object)
        images = data.to_float(part.images)
        left = np.flatnonzero(before)
        if left.size:
            found = cascades.exchange(
                judged_of(context, column, part.ids[left]),
                images[left],
                part.labels[left],
                ball,
                {name: made["images"][place][left] for name, made in offered.items()},
                key=context.stream(f"exchange {row.stream_name}"),
                view=views[0],
                effort=row.spec.size,
                ids=part.ids[left],
            )
            after[left] = ~found.broken
            names = np.array([share.member for share in found.shares], object)
            by[left] = np.where(found.broken, names[found.member], "")
            images[left] = found.images
        return {
            "before": before,
            "after": after,
            "by": by.astype(str),
            "images": images,
        }

    return exchange


def _line(context: Context, row: Row) -> dict[str, Any]:
    found = read_rounds(context, _folder(row))
    assert row.attack is not None
    return {
        "column": row.target.text,
        "norm": row.attack.norm,
        "epsilon": row.budget,
        "n": len(found["before"]),
        "before": int(found["before"].sum()),
        "after": int(found["after"].sum()),
        "by": dict(collections.Counter(found["by"][found["by"] != ""].tolist())),
    }


def _show(context: Context) -> Shown:
    return Shown([exchange_table(context.folder.read_json(SUMMARY))])


def _results(group: Group) -> Iterator[Passage]:
    if tables := [*group.tables_by_seed(SUMMARY, exchange_table)]:
        yield Passage("What columns lend each other", tables)


def exchange_table(
    lines: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns what is left of each column before and after the exchange.

    Args:
      lines: what exchange.json holds: each with its "column", "norm", "epsilon" and the
        numbers "n", "before", "after" and "by" (a number by member).
      confidence: of the page; here are counts alone.
    """
    del confidence
    texts = list(dict.fromkeys(line["column"] for line in lines))
    names = dict(zip(texts, target_labels(texts), strict=True))
    text = pd.DataFrame(
        {
            "Column": [names[line["column"]] for line in lines],
            "Budget": [budget_label(line["norm"], line["epsilon"]) for line in lines],
            "Before": [f"{line['before']:,} of {line['n']:,}" for line in lines],
            "After": [f"{line['after']:,}" for line in lines],
            "Broken by": [_told(line["by"]) for line in lines],
        }
    )
    caption = (
        "Images that the cascade left of each column, before and after they met those "
        "that it had made against the other columns: first as they are, then one more "
        "climb from the worst of them. No other table counts it, since a figure must "
        "not depend on the columns beside it."
    )
    numbers = pd.DataFrame([{**line, "by": _told(line["by"])} for line in lines])
    title = "What columns lend each other"
    return Table(title, caption, text, numbers, names=2, prose=True)


def _told(by: Mapping[str, int]) -> str:
    ordered = sorted(by.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(f"{name} ({count:,})" for name, count in ordered) or MISSING


FINDING = Finding(
    name="exchange",
    after="evaluate",
    wanted=lambda experiment: bool(_met(experiment)),
    find=find,
    writes=(SUMMARY, "exchange/"),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
)
