"""What a cascade or an audit attacks: a column of the table with its parameters."""

import numpy as np

from robust_manifold.config import Column
from robust_manifold.evaluation import cascades
from robust_manifold.stages.context import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.defended import keys_of


def judged_of(
    context: Context, column: Column, ids: np.ndarray | None
) -> cascades.Judged:
    """Returns a column of the table as a cascade attacks it.

    Args:
      context: the run.
      column: of its table.
      ids: global ids [n] of the images, whose keys are those of `keys_of`; None for
        fresh keys, which the attack does not know.

    Raises:
      UsageError: if a stage that makes a network of the column has not finished.
    """
    return cascades.Judged(
        column.defence,
        context.networks.of_defences,
        context.networks.classifier_of(column.classifier).apply,
        trained.load_column(context, column),
        None if ids is None else keys_of(context, column, ids),
        context.experiment.wants,
    )
