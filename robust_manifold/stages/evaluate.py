"""Stage `evaluate`: classifies every row's images in every column of the table."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from robust_manifold import data, defenses, evaluation
from robust_manifold.config import Column
from robust_manifold.runtime import console
from robust_manifold.stages import (
    given,
    latent_pairs,
    on_manifold,
    physical,
    substitutes,
    summaries,
    trained,
)
from robust_manifold.stages.context import Context
from robust_manifold.stages.defended import arrays_of, defend
from robust_manifold.stages.pace import Pace, Part, cost_of_column
from robust_manifold.stages.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)
from robust_manifold.stages.rows import (
    SUBSTITUTE,
    Row,
    adversarial_folder,
    outcome_folder,
    rows_of,
    validation_folder,
)


def run(context: Context) -> list[str]:
    """Writes `outcomes/<column>/...` for each cell, `validation/...` and the lines.

    These are `results.csv`, `worst_cases.csv`, `detection.csv`, `views/...`,
    `on_manifold/...`, `pairs/...` and `given/...`.
    """
    block = context.experiment.evaluation
    cells = [(each, row) for each in block.columns for row in rows_of(each, block)]
    with Pace("evaluate", "images", _parts(context, cells)) as pace:
        stored = _validate(context, pace)
        for column in block.columns:
            params = trained.load_column(context, column)
            for row in rows_of(column, block):
                compute_rounds(
                    context,
                    outcome_folder(column, row),
                    _classifying(context, column, params, images_of(context, row)),
                    pace.teller(
                        (column, row), show=("cell", f"{column.text} {row.name}")
                    ),
                )
    stored += round_paths(context, [outcome_folder(*cell) for cell in cells])
    measured = [_cell(context, *cell) for cell in cells]
    return [
        *summaries.write(context, measured),
        *substitutes.summarise(context),
        *physical.measure(context),
        *on_manifold.judge(context),
        *latent_pairs.find(context),
        *given.classify(context),
        *stored,
    ]


def images_of(context: Context, row: Row) -> np.ndarray:
    """Returns the images of a row, float32 [n, h, w, c] in [0, 1]."""
    if row.attack is None:
        return data.to_float(context.test.images)
    return read_rounds(context, adversarial_folder(row))["images"]


def _parts(
    context: Context, cells: Sequence[tuple[Column, Row]]
) -> dict[Hashable, Part]:
    """Returns what the stage classifies and projects, by cells and by defences."""
    parts: dict[Hashable, Part] = {}
    n = context.validated.size
    for defence, column in _projecting(context).items():
        stored = stored_images(context, [validation_folder(defence)], n) if n else 0
        parts[defence] = Part(n, cost_of_column(context, column), stored)
    for column, row in cells:
        cost = cost_of_column(context, column)
        stored = stored_images(context, [outcome_folder(column, row)])
        parts[column, row] = Part(context.test.size, cost, stored)
    return parts


def _projecting(context: Context) -> dict[defenses.Defense, Column]:
    """Returns the first column of each defence that projects."""
    found: dict[defenses.Defense, Column] = {}
    for column in context.columns:
        if column.projects:
            found.setdefault(column.defence, column)
    return found


def _validate(context: Context, pace: Pace) -> list[str]:
    """Stores the errors of clean validation images, for thresholds; returns files."""
    split, every = context.validated, _projecting(context)
    if not split.size:
        return []
    for defence, column in every.items():
        params = trained.load_column(context, column)

        def errors(_, part: data.Split, column=column, params=params):
            images = data.to_float(part.images)
            found = defend(context, column, params, images, part.ids)
            return {"error": arrays_of(found)["error"]}

        text = f"{defenses.registry.to_string(defence)} validation"
        folder = validation_folder(defence)
        told = pace.teller(defence, show=("cell", text))
        compute_rounds(context, folder, errors, told, split)
    return round_paths(context, map(validation_folder, every), split.size)


def _classifying(
    context: Context,
    column: Column,
    params: defenses.DefenseParams,
    images: np.ndarray,
) -> Callable[[slice, data.Split], dict[str, np.ndarray]]:
    """Returns what computes that which is stored of one round of a cell."""

    def classify(place: slice, part: data.Split) -> dict[str, np.ndarray]:
        defended = defend(context, column, params, images[place], part.ids)
        return {"labels": part.labels} | arrays_of(defended)

    return classify


def _cell(context: Context, column: Column, row: Row) -> summaries.Measured:
    """Returns what the stored rounds of a cell add up to."""
    outcomes = read_rounds(context, outcome_folder(column, row))
    broken = int(np.sum(np.isnan(outcomes["logits"]).any(axis=-1)))
    if broken:
        console.warning(
            f"{broken} of {len(outcomes['labels'])} images got no finite logits from "
            f"{column.text} under {row.name}; they count as wrong."
        )
    seconds = float(outcomes["seconds"])
    measured: dict[str, Any] = {}
    sizes: dict[str, np.ndarray] = {}
    if row.adversary == SUBSTITUTE:
        measured["label_queries"] = substitutes.queries(context, row.target)
    if row.attack is not None:
        crafted = read_rounds(context, adversarial_folder(row))
        clean = data.to_float(context.test.images)
        norms = evaluation.perturbation_norms(clean, crafted["images"])
        # An attack that found nothing may say that its distance is not finite.
        sizes = norms._asdict() | {row.attack.norm: crafted["distance"]}
        seconds += float(crafted["seconds"])
        measured |= {
            "norm": row.attack.norm,
            "epsilon": row.budget,
            "success": crafted["success"],
            "distances": crafted["distance"],
            "l2": norms.l2,
            "linf": norms.linf,
            "forwards": crafted["forwards"],
            "backwards": crafted["backwards"],
        }
    predictions = evaluation.predictions_of(outcomes["logits"])
    cell = evaluation.summarise(
        classifier=trained.column_classifier(context, column),
        defence=defenses.registry.to_string(column.defence),
        adversary=row.adversary,
        attack=row.name,
        labels=outcomes["labels"],
        predictions=predictions,
        errors=outcomes.get("error"),
        seconds=seconds,
        confidence=context.experiment.evaluation.confidence,
        **measured,
    )
    right = predictions == outcomes["labels"]
    return summaries.Measured(column, cell, right, sizes, outcomes.get("error"))
