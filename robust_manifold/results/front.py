"""The worst cases of the front page: of the defences that readers ask for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from robust_manifold import evaluation
from robust_manifold.findings import Group, Run
from robust_manifold.reporting import Table
from robust_manifold.reporting.figures import Claim, claims_and_worst_cases
from robust_manifold.reporting.labels import CLEAN, WORST_CASE, budget_label
from robust_manifold.reporting.tables import MISSING, is_defended, lines_of

_CAPTION = (
    "Accuracy in %, first under attacks that do not know of the defence, then in the "
    "worst case over all attacks that were made. n: the first test images. "
    "The pages of the experiments have intervals, and what each attack broke."
)


class Column(NamedTuple):
    """One defence of the front page.

    Attributes:
      clean: its line of results.csv on clean images.
      budgets: its lines of worst_cases.csv by adversary, by norm and size.
    """

    clean: Any
    budgets: dict[tuple[str, float], dict[str, Any]]


def front_columns(
    groups: Sequence[Group], front: Mapping[str, str]
) -> dict[str, Column]:
    """Returns the defences of the front page that were run, by their words.

    Args:
      groups: of all experiments.
      front: what each column is, in words, by the name of its run: NAME:ARGUMENT, of
        one defence beside the bare network at most.
    """
    runs = {f"{g.first.experiment}:{g.first.argument}": g.first for g in groups}
    found = {words: runs[name] for name, words in front.items() if name in runs}
    return {words: _column(run) for words, run in found.items() if _measured(run)}


def front_table(columns: Mapping[str, Column]) -> Table:
    """Returns the table: a line for each defence, a column for each budget."""
    known = {budget for column in columns.values() for budget in column.budgets}
    budgets = sorted(known, key=_place)
    lines = [
        [
            words,
            f"{column.clean.n:,}",
            f"{100 * column.clean.accuracy:.1f}",
            *(_cell(column.budgets.get(budget, {})) for budget in budgets),
        ]
        for words, column in columns.items()
    ]
    heads = [budget_label(*budget) for budget in budgets]
    frame = pd.DataFrame(lines, columns=["Defence", "n", "Clean", *heads])
    return Table("", _CAPTION, frame, frame)


def front_figure(columns: Mapping[str, Column]) -> Figure:
    """Returns the picture of the same at the budgets of most defences."""
    counts = Counter(budget for column in columns.values() for budget in column.budgets)
    most = [budget for budget in counts if counts[budget] == max(counts.values())]
    return claims_and_worst_cases(
        {
            budget_label(*budget): {
                words: _claim(column.budgets[budget])
                for words, column in columns.items()
                if budget in column.budgets
            }
            for budget in sorted(most, key=_place)
        }
    )


def _measured(run: Run) -> bool:
    return {"results.csv", "worst_cases.csv"} <= run.files.keys()


def _column(run: Run) -> Column:
    """Returns a run's defence, or its bare network where it has none."""
    results = _own(lines_of(run.lines("results.csv", evaluation.read_results)))
    lines = run.lines("worst_cases.csv", evaluation.read_adversary_lines)
    budgets: dict[tuple[str, float], dict[str, Any]] = {}
    for row in _own(lines_of(lines)):
        budgets.setdefault((row.norm, row.epsilon), {})[row.adversary] = row
    return Column(next(row for row in results if row.attack == CLEAN), budgets)


def _own(rows: Sequence[Any]) -> Sequence[Any]:
    return [row for row in rows if is_defended(row)] or rows


def _place(budget: tuple[str, float]) -> tuple[bool, str, float]:
    """Returns where a budget stands: those of ℓ∞ first, each norm by its size."""
    norm, epsilon = budget
    return norm != "linf", norm, epsilon


def _cell(at: Mapping[str, Any]) -> str:
    """Returns what oblivious attacks leave at a budget, and the worst case."""
    if WORST_CASE not in at:
        return MISSING
    claim = _claim(at)
    shares = [claim.oblivious, claim.worst]
    return " → ".join(f"{100 * share:.1f}" for share in shares if share is not None)


def _claim(at: Mapping[str, Any]) -> Claim:
    worst, oblivious = at[WORST_CASE], at.get("oblivious")
    claimed = oblivious.accuracy if oblivious and is_defended(worst) else None
    return Claim(worst.accuracy, worst.accuracy_low, worst.accuracy_high, claimed)
