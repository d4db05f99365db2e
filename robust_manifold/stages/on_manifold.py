"""Whether images found in the generator's range still read as one class.

Part of stage `evaluate`, for the rows of the adversary `latent`.  Such a search may
walk from one digit to another, and an image that has become a seven is no adversarial
example of a one.  Judges that know nothing of the attacked classifier tell.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from robust_manifold import data, evaluation
from robust_manifold.config import Column
from robust_manifold.stages.context import Context
from robust_manifold.stages.judges import judges_of, told
from robust_manifold.stages.rounds import read_rounds
from robust_manifold.stages.rows import (
    LATENT,
    Row,
    adversarial_folder,
    kind_of,
    outcome_folder,
    rows_of,
)

SUMMARY = "on_manifold.json"


def judge(context: Context) -> list[str]:
    """Writes `on_manifold/...` for each row of the latent adversary, and a summary.

    Returns:
      The files; none where the run has no such row.
    """
    cells = list(judged_cells(context))
    if not cells:
        return []
    lines = [
        _judged(context, column, row, judges_of(context, column.classifier))
        for column, row in cells
    ]
    context.folder.write_json(SUMMARY, lines)
    return [SUMMARY, *(file_of(row) for _, row in cells)]


def judged_cells(context: Context) -> Iterator[tuple[Column, Row]]:
    """Yields the columns and rows of the latent adversary."""
    for column in context.columns:
        for row in rows_of(column, context.experiment.evaluation):
            if kind_of(row.adversary) == LATENT:
                yield column, row


def file_of(row: Row) -> str:
    """Returns where the verdicts on a row's images lie."""
    return f"on_manifold/{row.folder}.npz"


def _judged(
    context: Context, column: Column, row: Row, judges: list[evaluation.Judge]
) -> dict[str, Any]:
    """Stores the verdicts on the images that a row breaks, and returns their line."""
    clean = rows_of(column, context.experiment.evaluation)[0]
    before, after = (
        read_rounds(context, outcome_folder(column, each)) for each in (clean, row)
    )
    labels = after["labels"]
    broken = (_predicted(before) == labels) & (_predicted(after) != labels)
    places = np.flatnonzero(broken)
    images = data.to_float(context.test.images[places])
    found = read_rounds(context, adversarial_folder(row))["images"][places]
    assert row.attack is not None
    line: dict[str, Any] = {
        "column": column.text,
        "adversary": row.adversary,
        "norm": row.attack.norm,
        "epsilon": row.budget,
        "n": len(labels),
        "broken": len(places),
        "judges": [],
    }
    verdicts = np.empty(0, str)
    if len(places):
        confidence = context.experiment.evaluation.confidence
        judgement = evaluation.judge_pairs(judges, images, found, confidence=confidence)
        verdicts = judgement.verdicts[evaluation.TOGETHER]
        line["judges"] = told(judgement)
    context.folder.write_npz(
        file_of(row), {"places": places, "verdicts": verdicts.astype("U16")}
    )
    return line


def _predicted(outcomes: dict[str, np.ndarray]) -> np.ndarray:
    return evaluation.predictions_of(outcomes["logits"])
