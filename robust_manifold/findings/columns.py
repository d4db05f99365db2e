"""What a report calls a run's columns, and which of their rows and images it shows."""

from collections.abc import Iterator

import jax
import numpy as np

from robust_manifold import defenses
from robust_manifold.config import Column
from robust_manifold.evaluation.attacked import shortened
from robust_manifold.reporting import columns
from robust_manifold.reporting.labels import adversary_label, in_prose, label_of
from robust_manifold.reporting.tables import UNAWARE
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.rows import (
    Row,
    adversaries_of,
    folder_name,
    rows_of,
)

_FEW = 8
"""Rows of a column up to which each has a picture of its own."""


def texts_of(context: Context, column: Column) -> columns.ColumnTexts:
    """Returns a column as results.csv names it."""
    return columns.ColumnTexts(
        trained.column_classifier(context, column),
        defenses.registry.to_string(column.defence),
    )


def file_of(column: Column) -> str:
    """Returns the part of a file's name that says which column it is of."""
    return folder_name(column.text)


def title_of(column: Column) -> str:
    """Returns a column in words."""
    return columns.target_label(column.text)


def label_of_text(text: str) -> str:
    """Returns a column in words, by its text."""
    return columns.target_label(text)


def picture_name(column: Column, row: Row) -> str:
    """Returns the name of the file that shows a row's projections."""
    folder = row.folder.replace("/", "-")
    return shortened(f"projections-{file_of(column)}-{folder}")


def bare_column(context: Context, column: Column) -> Column | None:
    """Returns the column of the same classifier without a defence, if there is one."""
    bare = Column(defenses.NoDefense(), column.classifier)
    return bare if bare in context.columns else None


def shown_rows(context: Context, column: Column) -> list[Row]:
    """Returns the rows that a column has pictures of.

    They are all of them where they are few, else the clean one and the last attack of
    each adversary.
    """
    every = rows_of(column, context.experiment.evaluation)
    if len(every) <= _FEW:
        return every
    return list({row.adversary: row for row in every}.values())


def row_label(context: Context, row: Row) -> str:
    """Returns the label of a row, with its adversary where that is not plain.

    It is where there is but one, unless that one knows nothing of the defence:
    pictures are pasted elsewhere without their captions.
    """
    attack = label_of(row.name, norm=row.attack.norm if row.attack else "")
    alone = len(adversaries_of(context.experiment.evaluation)) == 1
    if row.attack is None or (alone and row.adversary not in UNAWARE):
        return attack
    return f"{attack}, {in_prose(adversary_label(row.adversary))}"


def groups(
    context: Context, labels: np.ndarray, count: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields titles and places of images: a group a class where there are two."""
    names = context.data.dataset.class_names
    if len(names) != 2:
        yield "", one_of_each_class(labels, count)
        return
    places = [np.flatnonzero(labels == value) for value in range(2)]
    # Groups of one sheet have as many columns.
    count = min(count, *(len(of_class) or count for of_class in places))
    for name, of_class in zip(names, places, strict=True):
        if len(of_class):
            yield name, of_class[:count]


def one_of_each_class(classes: np.ndarray, count: int) -> np.ndarray:
    """Returns the places of `count` images: the first of each class, then the next."""
    rank = np.zeros(len(classes), int)
    for value in np.unique(classes):
        places = np.flatnonzero(classes == value)
        rank[places] = np.arange(len(places))
    order = np.lexsort((classes, rank))
    return order[: min(count, len(classes))]


def class_names(context: Context, outputs: int) -> list[str]:
    """Returns what the outputs of a column are called: classes, and "rejected"."""
    names = [*context.data.dataset.class_names]
    return names + ["rejected"] * (outputs - len(names))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities of each class."""
    return np.asarray(jax.nn.softmax(logits, axis=-1))
