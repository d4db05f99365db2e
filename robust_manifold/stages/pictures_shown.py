"""Which images a report shows, and the probabilities that it writes under them."""

from collections.abc import Iterator

import jax
import numpy as np

from robust_manifold.stages.context import Context


def groups(
    context: Context, labels: np.ndarray, count: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields titles and places of images: a group a class where there are two."""
    names = context.dataset.class_names
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


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities of each class."""
    return np.asarray(jax.nn.softmax(logits, axis=-1))
