"""A column of the table: a defence around a classifier, and its text."""

from typing import NamedTuple

from robust_manifold import defenses
from robust_manifold.core.errors import UsageError

CLASSIFIER = "classifier"
"""The name of the run's own classifier, which every config has."""


class Column(NamedTuple):
    """A column of the table: a defence around a classifier."""

    defence: defenses.Defense
    classifier: str = CLASSIFIER
    """`CLASSIFIER`, or a name from `classifiers`."""

    @property
    def text(self) -> str:
        """The column as a config writes it: "DEFENCE" or "DEFENCE on NAME"."""
        return self._on_classifier(defenses.registry.to_string(self.defence))

    @property
    def stream_name(self) -> str:
        """What its random streams are named by; see `Registry.stream_name`."""
        return self._on_classifier(defenses.registry.stream_name(self.defence))

    def _on_classifier(self, defence: str) -> str:
        named = self.classifier != CLASSIFIER
        return f"{defence} on {self.classifier}" if named else defence

    @property
    def bare(self) -> bool:
        """Whether there is no defence around the classifier."""
        return isinstance(self.defence, defenses.NoDefense)

    @property
    def projects(self) -> bool:
        """Whether the defence classifies a projection."""
        return isinstance(self.defence, defenses.ProjectionDefense)


def columns(texts: tuple[str, ...]) -> tuple[Column, ...]:
    """Returns the columns of the texts "DEFENCE" or "DEFENCE on NAME"."""
    return tuple(map(_column, texts))


def _column(text: str) -> Column:
    defence, on, name = text.partition(" on ")
    if on and not name.strip():
        raise UsageError(
            f"column {text!r} names no classifier; allowed: a text such as "
            "'none on NAME'."
        )
    return Column(defenses.registry.build(defence), name.strip() or CLASSIFIER)
