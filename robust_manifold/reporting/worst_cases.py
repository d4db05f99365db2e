"""Tables of worst cases: by budget, by adversary, and all attacks in full."""

import collections
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.columns import Column, column_heads, column_of
from robust_manifold.reporting.labels import (
    CLEAN,
    NO_DEFENCE,
    WORST_CASE,
    adversary_label,
    attack_label,
    budget_label,
    in_prose,
)
from robust_manifold.reporting.tables import (
    MISSING,
    Table,
    accuracy_numbers,
    accuracy_text,
    adversary_words,
    images_text,
    is_aware,
    is_defended,
    lines_of,
    oblivious_only,
    with_threat,
)

_MEASURES = ("accuracy", "accuracy_low", "accuracy_high", "n")


def headline_table(
    results: pd.DataFrame,
    *,
    confidence: float = 0.95,
    labels: Mapping[str, str] | None = None,
) -> Table:
    """Returns the headline: clean and worst-case accuracy, a row for each budget.

    Args:
      results: the lines of results.csv, one cell each, those of worst cases included.
      confidence: coverage of the intervals in `results`, for the caption.
      labels: names to print instead of the derived ones, by classifier or defence.

    Raises:
      UsageError: if the results hold no worst case.
    """
    rows = lines_of(results)
    shown = [r for r in rows if r.adversary == WORST_CASE]
    if not shown:
        raise UsageError("results hold no worst case; allowed: 1 or more.")
    clean = [row for row in rows if row.attack == CLEAN]
    attacked = [r for r in rows if r.attack != CLEAN and r.adversary != WORST_CASE]
    names = list(dict.fromkeys(row.adversary for row in attacked))
    caption = (
        f"Accuracy with its {100 * confidence:g} % Wilson interval, "
        f"{images_text(clean + shown)}: an image counts if it is classified right "
        "untouched and under every stored attack of every adversary whose "
        "perturbation of it lies inside the budget, on pixels in [0, 1]. Adversaries: "
        f"{'; '.join(in_prose(adversary_label(name)) for name in names)}."
    )
    if oblivious_only(attacked):
        caption += (
            " None of them knew of the defences: behind a defence, this is no "
            "evidence of robustness against one that does."
        )
    elif unmet := _unmet(shown, attacked, labels):
        caption += (
            f" No adversary that knew of the defence attacked at these budgets: {unmet}"
            "; that is no evidence of robustness against one that does."
        )
    return _grid(
        with_threat("Worst-case accuracy", attacked),
        clean + shown,
        {"Budget": lambda row: budget_label(row.norm, row.epsilon)},
        caption,
        labels,
    )


def adversaries_table(
    lines: pd.DataFrame,
    *,
    confidence: float = 0.95,
    labels: Mapping[str, str] | None = None,
) -> Table:
    """Returns what each adversary leaves standing inside each budget.

    Args:
      lines: those of worst_cases.csv.
      confidence: coverage of the intervals in `lines`, for the caption.
      labels: names to print instead of the derived ones, by classifier or defence.

    Raises:
      UsageError: for no lines.
    """
    rows = _some(lines)
    names = list(dict.fromkeys(row.adversary for row in rows))
    known = {name: adversary_words(name) for name in names if name != WORST_CASE}
    told = "; ".join(
        f"{in_prose(adversary_label(name))}: {words}" for name, words in known.items()
    )
    caption = (
        f"Accuracy with its {100 * confidence:g} % Wilson interval, "
        f"{images_text(rows)}: an image counts if it is right untouched and under all "
        f"attacks of the adversary inside the budget. {told[:1].upper()}{told[1:]}."
    )
    title = "Accuracy by adversary"
    return _grid(title, rows, _BUDGET_AND_ADVERSARY, caption, labels)


def alone_table(
    lines: pd.DataFrame, *, labels: Mapping[str, str] | None = None
) -> Table:
    """Returns how many images each adversary breaks that no other one does.

    Arguments as for `adversaries_table`.
    """
    rows = [row for row in _some(lines) if row.adversary != WORST_CASE]
    shown = _with_rivals(rows)
    telling = {(_budget(row), row.adversary) for row in shown if row.alone}
    caption = (
        f"Of {images_text(rows)}, those that are right "
        "untouched and under all attacks of the others inside the budget. Adversaries "
        "that are not named at a budget break none alone there: without any one of "
        f"them the worst case would be the same. {MISSING}: no other one attacks there."
    )
    return _grid(
        "Images that one adversary alone breaks",
        [row for row in shown if (_budget(row), row.adversary) in telling],
        _BUDGET_AND_ADVERSARY,
        caption,
        labels,
        text=lambda row: MISSING if row is None else f"{row.alone:,}",
        numbers=lambda row: [None] if row is None else [row.alone],
        measures=("alone",),
    )


def tells_alone(lines: pd.DataFrame) -> bool:
    """Returns whether some adversary of several breaks an image alone."""
    rows = [row for row in lines_of(lines) if row.adversary != WORST_CASE]
    return any(row.alone for row in _with_rivals(rows))


def every_table(
    results: pd.DataFrame,
    *,
    confidence: float = 0.95,
    labels: Mapping[str, str] | None = None,
) -> Table:
    """Returns every attack of every adversary, grouped by budget.

    Args:
      results: the lines of results.csv, one cell each.
      confidence: coverage of the intervals in `results`, for the caption.
      labels: names to print instead of the derived ones, by attack, classifier or
        defence.

    Raises:
      UsageError: if the results hold one cell twice.
    """
    rows = [r for r in lines_of(results) if r.adversary != WORST_CASE]
    if not rows:
        raise UsageError("results hold no line; allowed: 1 or more.")
    caption = (
        f"Accuracy with its {100 * confidence:g} % Wilson interval, "
        f"{images_text(rows)}. A budget of – is that of attacks that look for the "
        "least perturbation: they have none."
    )
    heads: dict[str, Callable[[Any], str]] = {
        **_BUDGET_AND_ADVERSARY,
        "Attack": lambda row: attack_label(row.attack, labels),
    }
    title = with_threat("All attacks of all adversaries", rows)
    return _grid(title, rows, heads, caption, labels)


def _unmet(
    worst: Sequence[Any], attacked: Sequence[Any], labels: Mapping[str, str] | None
) -> str:
    """Returns the budgets at which a defence met none that knew of it, by column."""
    heads = column_heads((column_of(row) for row in worst), labels)
    met: dict[Column, set[Any]] = {}
    for row in attacked:
        if is_aware(row):
            met.setdefault(column_of(row), set()).add(_budget(row))
    told: dict[str, list[str]] = {}
    for row in worst:
        # An attack without a budget serves all of its norm.
        places = {_budget(row), (row.norm, None)}
        if is_defended(row) and not places & met.get(column_of(row), set()):
            name = heads[column_of(row)]
            told.setdefault(name, []).append(budget_label(row.norm, row.epsilon))
    return "; ".join(f"{name} at {', '.join(at)}" for name, at in told.items())


_BUDGET_AND_ADVERSARY: dict[str, Callable[[Any], str]] = {
    "Budget": lambda row: budget_label(row.norm, row.epsilon),
    "Adversary": lambda row: (
        MISSING if row.adversary == NO_DEFENCE else adversary_label(row.adversary)
    ),
}


def _grid(
    title: str,
    rows: Sequence[Any],
    heads: Mapping[str, Callable[[Any], str]],
    caption: str,
    labels: Mapping[str, str] | None,
    *,
    text: Callable[[Any], str] = accuracy_text,
    numbers: Callable[[Any], list[Any]] = accuracy_numbers,
    measures: tuple[str, ...] = _MEASURES,
) -> Table:
    """Returns rows as a table: its lines by what `heads` say of them, by column.

    The first name is written once for all lines that share it.
    """
    columns = column_heads((column_of(row) for row in rows), labels)
    shown, behind, before = [], [], None
    for cells in _lines(rows, columns):
        first = next(iter(cells.values()))
        names = [of(first) for of in heads.values()]
        values = [cells.get(column) for column in columns]
        repeated = len(names) > 1 and names[0] == before
        shown.append([*(["", *names[1:]] if repeated else names), *map(text, values)])
        behind.append([*names, *(x for value in values for x in numbers(value))])
        before = names[0]
    number_heads = [f"{h} {measure}" for h in columns.values() for measure in measures]
    counts = {head: "Int64" for head in number_heads if head.endswith((" n", " alone"))}
    return Table(
        title,
        caption,
        pd.DataFrame(shown, columns=[*heads, *columns.values()]),
        pd.DataFrame(behind, columns=[*heads, *number_heads]).astype(counts),
        names=len(heads),
    )


def _lines(
    rows: Sequence[Any], columns: Mapping[Column, str]
) -> list[dict[Column, Any]]:
    """Returns the cells of each line by column, by budget and then by adversary."""
    lines: dict[tuple[Any, ...], dict[Column, Any]] = {}
    for row in _ordered(rows):
        place = (_budget(row), row.adversary, getattr(row, "attack", ""))
        cells = lines.setdefault(place, {})
        if column_of(row) in cells:
            raise UsageError(
                f"the results hold {place[2] or place[1]!r} of "
                f"{columns[column_of(row)]} twice; allowed: once."
            )
        cells[column_of(row)] = row
    return list(lines.values())


def _ordered(rows: Sequence[Any]) -> list[Any]:
    """Returns rows by budget, then adversaries as they come, the worst case last."""
    budgets = _budgets(rows)
    names = sorted(
        dict.fromkeys(row.adversary for row in rows), key=lambda n: n == WORST_CASE
    )
    return sorted(
        rows, key=lambda r: (budgets.index(_budget(r)), names.index(r.adversary))
    )


def _some(lines: pd.DataFrame) -> list[Any]:
    rows = lines_of(lines)
    if not rows:
        raise UsageError("lines hold no adversary; allowed: 1 or more.")
    return rows


def _with_rivals(rows: Sequence[Any]) -> list[Any]:
    """Returns the lines of columns that several adversaries attack at a budget."""
    places = [(column_of(row), _budget(row)) for row in rows]
    counts = collections.Counter(places)
    return [row for row, place in zip(rows, places, strict=True) if counts[place] > 1]


def _budget(row: Any) -> tuple[str, float | None]:
    """Returns a row's budget as a key: NaN, unlike None, differs from itself."""
    return row.norm, None if math.isnan(row.epsilon) else row.epsilon


def _budgets(rows: Iterable[Any]) -> list[tuple[str, float | None]]:
    """Returns the budgets in a table's order: clean, by norm and ε, then none."""
    keys = list(dict.fromkeys(_budget(row) for row in rows))
    norms = list(dict.fromkeys(norm for norm, _ in keys))

    def place(key: tuple[str, float | None]) -> tuple[bool, int, float]:
        norm, epsilon = key
        if epsilon is None:
            return norm != "", norms.index(norm), math.inf
        return True, norms.index(norm), epsilon

    return sorted(keys, key=place)
