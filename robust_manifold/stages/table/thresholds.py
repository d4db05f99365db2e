"""The errors above which columns reject, from clean validation images alone."""

from collections.abc import Callable, Collection, Iterable

import numpy as np

from robust_manifold import data, defenses, evaluation
from robust_manifold.config import Column
from robust_manifold.runtime import devices
from robust_manifold.stages.context import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.networks.trained import THRESHOLDS
from robust_manifold.stages.table.defended import arrays_of, defend
from robust_manifold.stages.table.pace import Pace, Part, cost_of_column
from robust_manifold.stages.table.rounds import (
    compute_rounds,
    read_rounds,
    stored_images,
)
from robust_manifold.stages.table.rows import validation_folder


def find(context: Context, columns: Collection[Column]) -> list[str]:
    """Writes `thresholds.json` where one of some columns rejects.

    Returns:
      The files.
    """
    if not any(isinstance(c.defence, defenses.Rejecting) for c in columns):
        return []
    if not devices.agreed(context.folder.has(THRESHOLDS)):
        context.folder.write_json(THRESHOLDS, _found(context))
        devices.barrier(f"{THRESHOLDS} written")
    return [THRESHOLDS]


def _found(context: Context) -> dict[str, float]:
    """Returns the thresholds of all columns that reject, by their defences' texts."""
    every = {
        column.defence: column
        for column in context.columns
        if isinstance(column.defence, defenses.Rejecting)
    }
    validate(context, "thresholds", every.values())
    return {
        defenses.registry.to_string(defence): threshold(context, column)
        for defence, column in every.items()
    }


def validate(context: Context, stage: str, columns: Iterable[Column]) -> None:
    """Stores the errors of clean validation images.

    Args:
      context: the run.
      stage: what they are for, as its progress is called.
      columns: that project, one of each defence.
    """
    n = context.data.validated.size
    # What a column rejects does not change its projections.
    inner = [Column(column.defence.inner, column.classifier) for column in columns]
    parts = {
        column: Part(
            n,
            cost_of_column(context, column),
            stored_images(context, [validation_folder(column.defence)], n),
        )
        for column in inner
    }
    with Pace(stage, "images", parts) as pace:
        for column in inner:
            text = f"{defenses.registry.to_string(column.defence)} validation"
            compute_rounds(
                context,
                validation_folder(column.defence),
                _errors(context, column),
                pace.teller(column, show=("cell", text)),
                context.data.validated,
            )


def _errors(context: Context, column: Column) -> Callable[..., dict[str, np.ndarray]]:
    """Returns what computes the errors of one round."""
    params = trained.load_column(context, column)

    def errors(_: slice, part: data.Split) -> dict[str, np.ndarray]:
        images = data.to_float(part.images)
        found = defend(context, column, params, images, part.ids)
        return {"error": arrays_of(found)["error"]}

    return errors


def threshold(context: Context, column: Column) -> float:
    """Returns the threshold that the stored validation errors give."""
    n = context.data.validated.size
    stored = read_rounds(context, validation_folder(column.defence), n)
    return evaluation.rejection_threshold(stored["error"], rate_of(context, column))


def rate_of(context: Context, column: Column) -> float:
    """Returns the share of clean validation images that may be rejected."""
    if isinstance(column.defence, defenses.Rejecting):
        return column.defence.rate
    return context.experiment.detection.false_positive_rate
