"""The lines that stage `evaluate` makes of stored outcomes: cells, worst cases, ROC."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from robust_manifold import defenses, evaluation
from robust_manifold.config import Column
from robust_manifold.stages.context import Context
from robust_manifold.stages.rounds import read_rounds
from robust_manifold.stages.rows import validation_folder

RESULTS, WORST_CASES, DETECTION = "results.csv", "worst_cases.csv", "detection.csv"


class Measured(NamedTuple):
    """One cell, and what is known of each of its images."""

    column: Column
    cell: evaluation.Cell
    right: np.ndarray
    """Whether each image is classified right."""
    sizes: Mapping[str, np.ndarray]
    """Of the perturbations, by norm."""
    errors: np.ndarray | None
    """Of the projections."""

    @property
    def outcome(self) -> evaluation.Outcome:
        """The cell as worst cases are made of."""
        cell = self.cell
        return evaluation.Outcome(
            classifier=cell.classifier,
            defence=cell.defence,
            adversary=cell.adversary,
            attack=cell.attack,
            right=self.right,
            norm=cell.norm,
            epsilon=cell.epsilon,
            sizes=self.sizes,
        )


def write(context: Context, measured: Sequence[Measured]) -> list[str]:
    """Writes the lines of all cells, and returns the names of the files.

    `results.csv` ends with the worst cases.  `detection.csv` is there where a column
    projects and validation images say where to reject.
    """
    confidence = context.experiment.evaluation.confidence
    outcomes = [each.outcome for each in measured]
    cells = [each.cell for each in measured]
    worst = [
        cell
        for cell in evaluation.worst_cases(outcomes, confidence=confidence)
        if cell.adversary == evaluation.WORST_CASE
    ]
    lines = evaluation.adversary_lines(outcomes, confidence=confidence)
    context.folder.write_text(RESULTS, evaluation.to_csv([*cells, *worst]))
    context.folder.write_text(WORST_CASES, evaluation.adversary_lines_to_csv(lines))
    written = [RESULTS, WORST_CASES]
    if detected := list(_detection(context, measured)):
        context.folder.write_text(DETECTION, evaluation.detection_to_csv(detected))
        written.append(DETECTION)
    return written


def _detection(
    context: Context, measured: Sequence[Measured]
) -> Iterator[evaluation.DetectionLine]:
    """Yields what rejection by error does, by column and row."""
    if not context.validated.size:
        return
    clean: dict[Column, np.ndarray] = {}
    validation: dict[defenses.Defense, np.ndarray] = {}
    for each in measured:
        if each.errors is None:
            continue
        cell, defence = each.cell, each.column.defence
        if defence not in validation:
            folder = validation_folder(defence)
            stored = read_rounds(context, folder, context.validated.size)
            validation[defence] = stored["error"]
        yield evaluation.summarise_detection(
            classifier=cell.classifier,
            defence=cell.defence,
            adversary=cell.adversary,
            attack=cell.attack,
            right=each.right,
            errors=each.errors,
            validation=validation[defence],
            false_positive_rate=context.experiment.detection.false_positive_rate,
            # The clean row is a column's first.
            clean=clean.get(each.column),
            norm=cell.norm,
            epsilon=cell.epsilon,
            confidence=context.experiment.evaluation.confidence,
        )
        clean.setdefault(each.column, each.errors)
