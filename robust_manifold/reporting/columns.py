"""The columns of a report's tables: a defence in front of a classifier."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from robust_manifold.reporting.labels import (
    column_labels,
    differing_labels,
    label_of,
    name_label,
    parse_spec,
)


class ColumnTexts(NamedTuple):
    """What a column of a table shows, by the texts of results.csv."""

    classifier: str
    defence: str


def column_of(row: Any) -> ColumnTexts:
    """Returns the column that a line of results.csv belongs to."""
    return ColumnTexts(row.classifier, row.defence)


def column_heads(
    columns: Iterable[ColumnTexts], labels: Mapping[str, str] | None = None
) -> dict[ColumnTexts, str]:
    """Returns the heads of columns, in order: the classifier where there are several.

    >>> bare = ColumnTexts("cnn", "none")
    >>> inc = ColumnTexts("robust", "invert_and_classify")
    >>> list(column_heads([bare, inc]).values())
    ['No defence, CNN', 'Invert and Classify, Robust']

    Args:
      columns: each once or more often.
      labels: names to print instead of the derived ones, by a classifier's or
        defence's text.
    """
    distinct = list(dict.fromkeys(columns))
    defences = list(dict.fromkeys(column.defence for column in distinct))
    classifiers = list(dict.fromkeys(column.classifier for column in distinct))
    shown = dict(zip(defences, column_labels(defences, labels), strict=True))
    if len(classifiers) == 1:
        return {column: shown[column.defence] for column in distinct}
    names = dict(zip(classifiers, _classifier_labels(classifiers, labels), strict=True))
    return {
        column: f"{shown[column.defence]}, {names[column.classifier]}"
        for column in distinct
    }


def target_label(text: str) -> str:
    """Returns the readable name of a column as a config writes it.

    >>> target_label("invert_and_classify(restarts=4) on robust")
    'Invert and Classify, 4 restarts, on Robust'
    """
    defence, _, name = text.partition(" on ")
    shown = label_of(defence)
    return f"{shown}, on {name_label(name)}" if name else shown


def target_labels(texts: Sequence[str]) -> list[str]:
    """Returns short labels of columns as a config writes them; see `column_labels`."""
    split = [text.partition(" on ") for text in texts]
    defences = list(dict.fromkeys(defence for defence, _, _ in split))
    labels = dict(zip(defences, column_labels(defences), strict=True))
    return [
        f"{labels[defence]}, on {name_label(classifier)}"
        if classifier
        else labels[defence]
        for defence, _, classifier in split
    ]


def _classifier_labels(
    classifiers: list[str], labels: Mapping[str, str] | None
) -> list[str]:
    overrides = labels or {}
    specs = all(parse_spec(text) for text in classifiers)
    derived = differing_labels(classifiers) if specs else classifiers
    return [
        overrides.get(text, label)
        for text, label in zip(classifiers, derived, strict=True)
    ]
