"""The columns of the table at work: a defence around a classifier, on some images."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from robust_manifold import defenses, evaluation
from robust_manifold.config import Column
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import PRNGKey
from robust_manifold.evaluation.attacked import defence_stream
from robust_manifold.inversion import Inversion
from robust_manifold.stages.context import Context


def defend(
    context: Context,
    column: Column,
    params: defenses.DefenseParams,
    images: Float[np.ndarray, "n height width channels"],
    ids: np.ndarray,
    key: PRNGKey | None = None,
) -> defenses.Defended:
    """Returns what a column makes of images, by the keys of `keys_of`.

    Args:
      context: the run.
      column: of its table.
      params: of `trained.load_column`.
      images: pixels in [0, 1].
      ids: global ids of the images.
      key: the root of other keys than these.

    Raises:
      UsageError: if a purifier leaves [0, 1].
    """
    defended = defenses.defend(
        column.defence,
        context.networks.of_defences,
        context.networks.classifier_of(column.classifier).apply,
        params,
        images,
        key=_stream(context, column) if key is None else key,
        ids=ids,
        batch_size=context.data.batch_size,
    )
    if not column.projects and defended.purified is not None:
        low, high = np.min(defended.purified), np.max(defended.purified)
        # What is not a number is looked at with the logits that come of it.
        if low < 0 or high > 1:
            raise UsageError(
                f"config.evaluation.defences: {column.text!r} makes images with pixels "
                f"in [{low:g}, {high:g}]; allowed: [0, 1]."
            )
    return defended


def arrays_of(defended: defenses.Defended) -> dict[str, np.ndarray]:
    """Returns what is stored of what a column makes of images, by name.

    The arrays of an inversion are stored by its fields, but `image` as `projections`;
    any other purified image as `purified`, and what else the defence tells as
    `details.FIELD`.
    """
    arrays: dict[str, Any] = {"logits": defended.output}
    if isinstance(defended.details, Inversion):
        arrays |= defended.details._asdict()
        arrays["projections"] = arrays.pop("image")
    else:
        if defended.purified is not None:
            arrays["purified"] = defended.purified
        for path, leaf in jax.tree_util.tree_leaves_with_path(defended.details):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            arrays[f"details.{name}"] = leaf
    return {name: np.asarray(value) for name, value in arrays.items()}


def predictions_of(
    column: Column, outcomes: Mapping[str, np.ndarray], *, attacked: bool
) -> Int[np.ndarray, " n"]:
    """Returns what a column predicts; -1 where a logit is NaN.

    A clean image that it rejects is lost: what it predicts is the number after the last
    class.  An attacked one is held: "rejected" counts as its label.

    Args:
      column: of the table.
      outcomes: the stored `logits` and `labels` of images.
      attacked: whether these are attacked ones.
    """
    logits = outcomes["logits"]
    if attacked:
        logits = column.defence.criterion.seen(logits, outcomes["labels"])
    return evaluation.predictions_of(np.asarray(logits))


def keys_of(context: Context, column: Column, ids: np.ndarray) -> Array:
    """Returns the key with which a column's defence meets each image.

    It is the same in every row, so that rows differ by their images alone, and in every
    column of one defence, so that these differ by their classifier.

    Args:
      context: the run.
      column: of its table.
      ids: global ids [n] of the images.
    """
    return keys.per_example(_stream(context, column), ids)


def _stream(context: Context, column: Column) -> PRNGKey:
    return context.stream(defence_stream(column.defence))
