"""Tables that set what was measured beside what slides and papers say."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from robust_manifold.reporting import Table, label_of
from robust_manifold.reporting.columns import column_heads, column_of
from robust_manifold.reporting.labels import (
    CLEAN,
    NO_DEFENCE,
    adversary_label,
    attack_label,
    budget_label,
    parse_spec,
)
from robust_manifold.reporting.tables import MISSING, accuracy_text, lines_of
from robust_manifold.results.page import Published

_ANY = "any_attack"
_ATTACKING = ("adversarial", "trades")
"""Trainings of which the norm of the attack is told, too."""
_ROUNDED = 0.05
"""In percent: two figures are compared as they are printed, to a tenth."""


def beside_table(
    results: pd.DataFrame,
    config: Mapping[str, Any],
    *,
    interval: str,
    published: Sequence[Published],
) -> Table | None:
    """Returns each published figure beside the row of ours that it speaks of.

    Args:
      results: the lines of results.csv, one cell each.
      config: of the run: its data and trainings say what a figure can stand beside.
      interval: what the intervals in `results` are, for the caption.
      published: the figures.

    Returns:
      The table; None where the sources say nothing of these rows.
    """
    source = str(config["data"]["source"])
    published = [figure for figure in published if figure.data in source]
    columns = column_heads(map(column_of, lines_of(results)))
    lines = [
        {
            "Budget": budget_label(row.norm, row.epsilon),
            "Adversary": _adversary(row),
            "Attack": attack_label(row.attack),
            "Defence": columns[column_of(row)],
            "Measured": accuracy_text(row),
            "Published": f"{figure.accuracy:g} %",
            "Difference": f"{100 * row.accuracy - figure.accuracy:+.1f}",
            "We are": _compared(row, figure.accuracy),
            "Source": f"{figure.source}: {_of(figure)}",
        }
        for row, figure in _pairs(results, config, published)
    ]
    if not lines:
        return None
    caption = (
        f"Measured ({interval}) beside published accuracy, and the difference in "
        "points. We are: higher or lower where the published figure lies outside our "
        "interval, level elsewhere; its own interval is not known. Networks, and "
        "settings of attacks that the source does not give, are not the same. Sources "
        "stand at the end of the page."
    )
    frame = pd.DataFrame(lines)
    return Table("", caption, frame, frame, names=4)


def published_table(published: Iterable[Published]) -> Table:
    """Returns the table of published figures, as their sources give them."""
    frame = pd.DataFrame(
        [
            {
                "Of": figure.of,
                "Attack": _attack(figure),
                "Accuracy": f"{figure.accuracy:g} %",
            }
            for figure in published
        ]
    )
    return Table("", "", frame, frame, names=2)


def _pairs(
    results: pd.DataFrame, config: Mapping[str, Any], published: Sequence[Published]
) -> Iterator[tuple[Any, Published]]:
    """Yields each row of ours with each figure that speaks of it."""
    for row in lines_of(results):
        training = training_of(config, row.classifier)
        for figure in published:
            if _speaks_of(figure, row, training):
                yield row, figure


def _speaks_of(figure: Published, row: Any, training: str) -> bool:
    epsilon = None if math.isnan(row.epsilon) else row.epsilon
    attack, clean = _name(row.attack), row.attack == CLEAN
    return (
        figure.defence == _name(row.defence)
        and figure.training in ("", training)
        and (figure.attack == attack or (figure.attack == _ANY and not clean))
        and (clean or _name(row.adversary) in figure.adversaries)
        and (figure.norm, figure.epsilon) == (row.norm, epsilon)
    )


def training_of(config: Mapping[str, Any], classifier: str) -> str:
    """Returns how a classifier was trained, as `Published.training` tells it.

    >>> training_of({"classifier": {"training": "adversarial(attack=pgd(0.2))"}}, "cnn")
    'adversarial linf'

    Args:
      config: of the run.
      classifier: as results.csv names it: one of `config.classifiers`, or the text of
        the first one's model.
    """
    named = config.get("classifiers", {})
    spec = parse_spec(named.get(classifier, config["classifier"])["training"])
    if spec is None or spec.name not in _ATTACKING:
        return spec.name if spec else ""
    # The norm stands in the attack that is trained against, or with its settings.
    attack = parse_spec(str(spec.named.get("attack", "")))
    norm = (attack or spec).named.get("norm", "linf")
    return f"{spec.name} {norm}"


def _name(text: str) -> str:
    """Returns the name of a spec without its settings; another text as it is."""
    spec = parse_spec(text)
    return spec.name if spec else text


def _compared(row: Any, published: float | int) -> str:
    if published < 100 * row.accuracy_low - _ROUNDED:
        return "higher"
    if published > 100 * row.accuracy_high + _ROUNDED:
        return "lower"
    return "level"


def _adversary(row: Any) -> str:
    return MISSING if row.adversary == NO_DEFENCE else adversary_label(row.adversary)


def _of(figure: Published) -> str:
    return f"{figure.of}, {figure.note}" if figure.note else figure.of


def _attack(figure: Published) -> str:
    if figure.attack == CLEAN:
        return label_of(CLEAN)
    budget = budget_label(figure.norm, figure.epsilon)
    told = f"{label_of(figure.attack)}, {budget}"
    return f"{told}, {figure.note}" if figure.note else told
