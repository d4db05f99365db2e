"""The errors above which columns reject, from clean validation images alone."""

from collections.abc import Collection

from robust_manifold import data, defenses, evaluation
from robust_manifold.config import Column
from robust_manifold.runtime import devices
from robust_manifold.stages.context import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.networks.trained import THRESHOLDS
from robust_manifold.stages.table.defended import arrays_of, defend
from robust_manifold.stages.table.pace import Pace, Part, Told, cost_of_column
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
    n = context.data.validated.size
    every = {
        column.defence: column
        for column in context.columns
        if isinstance(column.defence, defenses.Rejecting)
    }
    parts = {
        defence: Part(
            n,
            cost_of_column(context, column),
            stored_images(context, [validation_folder(defence)], n),
        )
        for defence, column in every.items()
    }
    with Pace("thresholds", "images", parts) as pace:
        for defence, column in every.items():
            text = f"{defenses.registry.to_string(defence.inner)} validation"
            told = pace.teller(defence, show=("cell", text))
            validate(context, column, told)
    return {
        defenses.registry.to_string(defence): threshold(context, column)
        for defence, column in every.items()
    }


def validate(context: Context, column: Column, told: Told) -> None:
    """Stores the errors of clean validation images.

    Args:
      context: the run.
      column: that projects.
      told: as for `compute_rounds`.
    """
    # What a column rejects does not change its projections.
    inner = Column(column.defence.inner, column.classifier)
    params = trained.load_column(context, inner)

    def errors(_, part: data.Split):
        images = data.to_float(part.images)
        found = defend(context, inner, params, images, part.ids)
        return {"error": arrays_of(found)["error"]}

    folder = validation_folder(column.defence)
    compute_rounds(context, folder, errors, told, context.data.validated)


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
