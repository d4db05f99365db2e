"""Stage `evaluate`: classifies every row's images in every column of the table."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from robust_manifold import data, defenses
from robust_manifold.config import Column
from robust_manifold.stages.context import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table import thresholds
from robust_manifold.stages.table.defended import arrays_of, defend
from robust_manifold.stages.table.pace import Pace, Part, cost_of_column
from robust_manifold.stages.table.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)
from robust_manifold.stages.table.rows import (
    Row,
    adversarial_folder,
    outcome_folder,
    rows_of,
)


def run(context: Context) -> list[str]:
    """Writes `outcomes/<column>/...` for each cell of the table."""
    block = context.experiment.evaluation
    written = thresholds.find(context, block.columns)
    cells = [(each, row) for each in block.columns for row in rows_of(each, block)]
    with Pace("evaluate", "images", _parts(context, cells)) as pace:
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
    return [*written, *round_paths(context, [outcome_folder(*cell) for cell in cells])]


def images_of(context: Context, row: Row) -> np.ndarray:
    """Returns the images of a row, float32 [n, h, w, c] in [0, 1]."""
    if row.attack is None:
        return data.to_float(context.data.test.images)
    return read_rounds(context, adversarial_folder(row))["images"]


def _parts(
    context: Context, cells: Sequence[tuple[Column, Row]]
) -> dict[Hashable, Part]:
    """Returns what the stage classifies, by cells."""
    parts: dict[Hashable, Part] = {}
    for column, row in cells:
        cost = cost_of_column(context, column)
        stored = stored_images(context, [outcome_folder(column, row)])
        parts[column, row] = Part(context.data.test.size, cost, stored)
    return parts


def _classifying(
    context: Context,
    column: Column,
    params: defenses.DefenseParams,
    images: np.ndarray,
) -> Callable[[slice, data.Split], dict[str, np.ndarray]]:
    """Returns the function that classifies one round and lists the arrays to store."""

    def classify(place: slice, part: data.Split) -> dict[str, np.ndarray]:
        defended = defend(context, column, params, images[place], part.ids)
        return {"labels": part.labels} | arrays_of(defended)

    return classify
