"""Tables of accuracy: by attack, by adversary, in the worst case, and their cost."""

import collections
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.reporting.columns import ColumnTexts, column_heads, column_of
from robust_manifold.reporting.labels import (
    CLEAN,
    NO_DEFENCE,
    WORST_CASE,
    adversary_label,
    attack_label,
    budget_label,
    column_labels,
    in_prose,
    label_of,
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
    is_single,
    lines_of,
    lines_where,
    oblivious_only,
    rejects,
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
    met: dict[ColumnTexts, set[Any]] = {}
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
    if any(map(rejects, rows)):
        caption += (
            " What a column rejects counts as held where it is attacked and as lost "
            "where it is clean; the tables of rejection say how much that is."
        )
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
    rows: Sequence[Any], columns: Mapping[ColumnTexts, str]
) -> list[dict[ColumnTexts, Any]]:
    """Returns the cells of each line by column, by budget and then by adversary."""
    lines: dict[tuple[Any, ...], dict[ColumnTexts, Any]] = {}
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


def paper_table(
    results: pd.DataFrame,
    *,
    classifier: str | None = None,
    adversary: str | None = None,
    confidence: float = 0.95,
    labels: Mapping[str, str] | None = None,
) -> Table:
    """Returns the table of accuracies: a row for each attack, a column each defence.

    Rows are clean, then the attacks in the order of the results; cells read
    "84.2 % [81.0, 87.0]", accuracy with its Wilson interval.

    Args:
      results: the lines of results.csv, one cell each.
      classifier: which classifier; may be left out where there is one only.
      adversary: which adversary; may be left out where there is one only.
      confidence: coverage of the intervals in `results`, for the caption.
      labels: names to print instead of the derived ones, by attack or defence text.

    Raises:
      UsageError: if the results lack the classifier or adversary, hold several and
        none is named, or hold one cell twice.
    """
    rows = lines_of(results)
    classifier = _choose("classifier", (row.classifier for row in rows), classifier)
    rows = [row for row in rows if row.classifier == classifier]
    attacked = [row for row in rows if row.attack != CLEAN]
    if attacked:
        adversary = _choose("adversary", (row.adversary for row in attacked), adversary)
        attacked = [row for row in attacked if row.adversary == adversary]
    cells = [row for row in rows if row.attack == CLEAN] + attacked
    by_place = {(cell.attack, cell.defence): cell for cell in cells}
    if len(by_place) != len(cells):
        raise UsageError(
            f"results of {classifier!r} hold {len(cells)} cells at {len(by_place)} "
            "places of the table; allowed: each attack and defence once."
        )
    defences = list(dict.fromkeys(cell.defence for cell in cells))
    heads = column_labels(defences, labels)
    text, numbers = [], []
    for attack, norm in {cell.attack: cell.norm for cell in cells}.items():
        label = label_of(attack, labels, norm)
        row = [by_place.get((attack, defence)) for defence in defences]
        text.append([label, *(accuracy_text(cell) for cell in row)])
        numbers.append([label, attack, *(x for c in row for x in accuracy_numbers(c))])
    measures = ("accuracy", "accuracy_low", "accuracy_high", "n")
    number_heads = [f"{head} {measure}" for head in heads for measure in measures]
    numbers = pd.DataFrame(numbers, columns=["label", "attack", *number_heads])
    return Table(
        title=with_threat("Accuracy by attack", attacked),
        caption=_caption(classifier, adversary, cells, confidence),
        text=pd.DataFrame(text, columns=["Attack", *heads]),
        numbers=numbers.astype({f"{head} n": "Int64" for head in heads}),
    )


def paper_tables(
    results: pd.DataFrame,
    *,
    confidence: float = 0.95,
    labels: Mapping[str, str] | None = None,
) -> list[Table]:
    """Returns `paper_table` of each classifier and adversary, in the file's order.

    Worst cases over all adversaries have tables of their own.
    """
    results = lines_where(results, is_single)
    rows = lines_of(results)
    attacked = [row for row in rows if row.attack != CLEAN]
    wanted = {(row.classifier, row.adversary): None for row in attacked}
    # A classifier that nothing attacked still has its clean row to show.
    bare = {row.classifier for row in rows} - {row.classifier for row in attacked}
    wanted |= {(row.classifier, None): None for row in rows if row.classifier in bare}
    return [
        paper_table(
            results,
            classifier=classifier,
            adversary=adversary,
            confidence=confidence,
            labels=labels,
        )
        for classifier, adversary in wanted
    ]


def cost_table(
    results: pd.DataFrame, *, labels: Mapping[str, str] | None = None
) -> Table:
    """Returns the size and cost of every attack: norms, passes, success, error.

    Args:
      results: the lines of results.csv, one cell each.
      labels: names to print instead of the derived ones, by attack or defence text.
    """
    results = lines_where(results, is_single)
    rows = lines_of(results)
    defences = list(dict.fromkeys(row.defence for row in rows))
    names = dict(zip(defences, column_labels(defences, labels), strict=True))
    columns: dict[str, Callable[[Any], str]] = {
        "Attack": lambda row: label_of(row.attack, labels, row.norm),
        "Defence": lambda row: names[row.defence],
        "Fooled": lambda row: _share(row.attack_success),
        "‖δ‖₂": lambda row: _number(row.l2_mean, ".3f"),
        "‖δ‖∞": lambda row: _number(row.linf_mean, ".3f"),
        "Error": lambda row: _number(row.error_mean, ".5f"),
        "Forwards": lambda row: _number(row.forwards_mean, ",.0f"),
        "Backwards": lambda row: _number(row.backwards_mean, ",.0f"),
    }
    asked = any(not math.isnan(row.label_queries) for row in rows)
    if asked:
        columns["Labels"] = lambda row: _number(row.label_queries, ",.0f")
    names_columns = 2
    for name in ("adversary", "classifier"):
        if len({getattr(row, name) for row in rows if row.attack != CLEAN}) > 1:
            first = {name.capitalize(): functools.partial(_named, name)}
            columns = first | columns
            names_columns += 1
    projected = any(not math.isnan(row.error_mean) for row in rows)
    if not projected:
        del columns["Error"]
    caption = (
        "Means per image. Fooled: share of the images "
        "that the function that the attack was crafted on gets wrong, those that it "
        "got wrong before included. ‖δ‖: plain norms of the perturbation over all "
        "pixels. "
        + (
            "Error: mean square over the pixels between the image and its projection. "
            if projected
            else ""
        )
        + "Forwards, backwards: passes that the attack took."
    )
    if asked:
        caption += (
            " Labels: those asked of the target to train the substitute, once for all "
            "images and attacks."
        )
    return Table(
        with_threat("Size and cost of the attacks", rows),
        caption,
        pd.DataFrame({head: [of(row) for row in rows] for head, of in columns.items()}),
        results.drop(columns="seconds"),  # equal runs give equal tables
        names=names_columns,
    )


def _choose(kind: str, known: Iterable[str], name: str | None) -> str:
    """Returns the one to show: `name`, or the only one there is."""
    names = list(dict.fromkeys(known))
    if name is not None and name not in names:
        raise unknown_name(f"{kind} in the results:", name, names)
    if name is None and len(names) != 1:
        raise UsageError(
            f"{kind} is not given and the results hold {len(names)}; "
            f"allowed: {', '.join(names) or 'results with one line or more'}."
        )
    return names[0] if name is None else name


def _named(column: str, row: Any) -> str:
    value = getattr(row, column)
    if value == NO_DEFENCE:
        return MISSING
    return adversary_label(value) if column == "adversary" else label_of(value)


def _share(value: float) -> str:
    return MISSING if math.isnan(value) else f"{100 * value:.1f} %"


def _number(value: float, form: str) -> str:
    return MISSING if math.isnan(value) else format(value, form)


def _caption(
    classifier: str, adversary: str | None, cells: list[Any], confidence: float
) -> str:
    sentences = [
        f"Accuracy of {label_of(classifier)} with its {100 * confidence:g} % Wilson "
        f"interval, {images_text(cells)}."
    ]
    if adversary is not None and not any(is_defended(cell) for cell in cells):
        sentences.append("The attacks see the classifier, which has no defence.")
    elif adversary is not None:
        known = adversary_words(adversary)
        words = in_prose(adversary_label(adversary)) + (f" ({known})" if known else "")
        sentences.append(f"Adversary: {words}.")
    asked = {cell.label_queries for cell in cells if not math.isnan(cell.label_queries)}
    if asked:
        spent = " to ".join(f"{number:,.0f}" for number in sorted(asked))
        sentences.append(f"To train it took {spent} label queries a defence.")
    if not all(math.isnan(cell.epsilon) for cell in cells):
        sentences.append(
            "ε is the ℓ∞ budget on pixels in [0, 1] unless a row names another norm."
        )
    return " ".join(sentences)
