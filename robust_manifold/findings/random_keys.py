"""Random defences as they are used: under fresh keys, which no attack has seen.

One key an image, as in the other tables, is one draw.  Here each image of a cascade
that did not know the keys is classified under twenty of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from robust_manifold import data, evaluation
from robust_manifold.config import Column, Experiment
from robust_manifold.findings import columns
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import Table
from robust_manifold.reporting.columns import target_labels
from robust_manifold.reporting.labels import budget_label
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.defended import defend, predictions_of
from robust_manifold.stages.table.evaluate import images_of
from robust_manifold.stages.table.pace import Pace, Part, cost_of_column
from robust_manifold.stages.table.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)
from robust_manifold.stages.table.rows import CASCADE, Row, kind_of, rows

SUMMARY = "random_keys.json"
KEYS, VOTES = 20, 5
"""Fresh keys an image, and those of them that vote together."""


def find(context: Context) -> list[str]:
    """Writes `random_keys/<column>/<row>/round-NNN.npz`, and a summary."""
    cells = _cells(context.experiment)
    parts = {
        (column, row): Part(
            context.data.test.size,
            KEYS * cost_of_column(context, column),
            stored_images(context, [_folder(column, row)]),
        )
        for column, row in cells
    }
    with Pace("random_keys", "images", parts) as pace:
        for column, row in cells:
            compute_rounds(
                context,
                _folder(column, row),
                _classifying(context, column, row),
                pace.teller((column, row), show=("row", row.name)),
            )
    context.folder.write_json(SUMMARY, [_line(context, *cell) for cell in cells])
    return [SUMMARY, *round_paths(context, [_folder(*cell) for cell in cells])]


def _cells(experiment: Experiment) -> list[tuple[Column, Row]]:
    """Returns the rows that were made for fresh keys, each column's after its clean."""
    clean, *attacked = rows(experiment.evaluation)
    made = [
        row
        for row in attacked
        if kind_of(row.adversary) == CASCADE and row.spec.keys == "fresh"
    ]
    return [
        (column, row)
        for column in dict.fromkeys(row.target for row in made)
        for row in (clean, *(each for each in made if each.target == column))
    ]


def _folder(column: Column, row: Row) -> str:
    return f"random_keys/{columns.file_of(column)}/{row.folder}"


def _classifying(
    context: Context, column: Column, row: Row
) -> Callable[[slice, data.Split], Mapping[str, np.ndarray]]:
    """Returns what classifies one round under each key."""
    params, images = trained.load_column(context, column), images_of(context, row)
    attacked = row.attack is not None
    # The same in every row and in every column of one defence, as the other keys are.
    streams = [context.stream(f"fresh keys {number}") for number in range(KEYS)]

    def classify(place: slice, part: data.Split) -> Mapping[str, np.ndarray]:
        told = []
        for key in streams:
            made = defend(context, column, params, images[place], part.ids, key)
            outcomes = {"labels": part.labels, "logits": np.asarray(made.output)}
            told.append(predictions_of(column, outcomes, attacked=attacked))
        return {"labels": part.labels, "predictions": np.stack(told, 1)}

    return classify


def _line(context: Context, column: Column, row: Row) -> dict[str, Any]:
    found = read_rounds(context, _folder(column, row))
    predictions, labels = found["predictions"], found["labels"]
    right = predictions == labels[:, None]
    n, mean = len(labels), float(right.mean())
    interval = evaluation.wilson_interval(
        round(mean * n), n, context.experiment.evaluation.confidence
    )
    return {
        "column": column.text,
        "norm": row.attack.norm if row.attack else "",
        "epsilon": row.budget,
        "n": n,
        "keys": KEYS,
        "mean": mean,
        "mean_low": interval.low,
        "mean_high": interval.high,
        "always": float(right.all(axis=1).mean()),
        "votes": VOTES,
        "vote": float(voted_right(predictions, labels, VOTES).mean()),
    }


def voted_right(
    predictions: Int[np.ndarray, "n keys"], labels: Int[np.ndarray, " n"], votes: int
) -> np.ndarray:
    """Returns which votes are right, [n, keys // votes]: a tie is not.

    >>> voted_right(np.array([[1, 1, 2, 2, 1, 0]]), np.array([1]), 3)
    array([[ True, False]])

    Args:
      predictions: of each image under each key.
      labels: the true classes.
      votes: keys that vote together; those that are left over do not.
    """
    groups = predictions.shape[1] // votes
    cast = predictions[:, : groups * votes].reshape(len(predictions), groups, votes)
    counts = (cast[..., None] == cast[..., None, :]).sum(-1)
    own = (cast == labels[:, None, None]).sum(-1)
    others = np.where(cast == labels[:, None, None], 0, counts)
    return own > others.max(-1)


def _show(context: Context) -> Shown:
    confidence = context.experiment.evaluation.confidence
    lines = context.folder.read_json(SUMMARY)
    return Shown([random_keys_table(lines, confidence=confidence)])


def _results(group: Group) -> Iterator[Passage]:
    if tables := [*group.tables_by_seed(SUMMARY, random_keys_table)]:
        yield Passage("Random defences under fresh keys", tables)


def random_keys_table(
    lines: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns the accuracy of random defences under keys that no attack has seen.

    Args:
      lines: what random_keys.json holds: each with its "column", "norm", "epsilon"
        (None: clean) and the numbers "n" and "keys"; "mean" with "mean_low" and
        "mean_high"; "always"; and "vote" of "votes" keys.
      confidence: coverage of the intervals in `lines`, for the caption.
    """
    texts = list(dict.fromkeys(line["column"] for line in lines))
    names = dict(zip(texts, target_labels(texts), strict=True))
    first = lines[0]
    text = pd.DataFrame(
        {
            "Column": [names[line["column"]] for line in lines],
            "Budget": [budget_label(line["norm"], line["epsilon"]) for line in lines],
            "Mean": [_mean(line) for line in lines],
            "Always": [f"{100 * line['always']:.1f} %" for line in lines],
            "Vote": [f"{100 * line['vote']:.1f} %" for line in lines],
        }
    )
    caption = (
        f"Accuracy on n = {first['n']:,} test images of the cascade that does not know "
        f"the keys, under {first['keys']} fresh keys for each image. Mean: over images "
        f"and keys, with the {100 * confidence:g} % Wilson interval of as many images "
        "under one key. Always: right under every key. Vote: right by most of "
        f"{first['votes']} keys, a tie being wrong. Other tables classify each image "
        "under one key alone."
    )
    title = "Random defences under fresh keys"
    return Table(title, caption, text, pd.DataFrame(lines), names=2)


def _mean(line: Mapping[str, Any]) -> str:
    low, high = 100 * line["mean_low"], 100 * line["mean_high"]
    return f"{100 * line['mean']:.1f} % [{low:.1f}, {high:.1f}]"


FINDING = Finding(
    name="random_keys",
    after="evaluate",
    wanted=lambda experiment: bool(_cells(experiment)),
    find=find,
    writes=(SUMMARY, "random_keys/"),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
)
