"""The worst case of each image over all attacks inside a budget, and who broke it.

An attack is an upper bound on robustness, and so is the accuracy under it.  The least
of many bounds is taken image by image: an image counts as right at a budget if it is
right untouched and under every stored row whose perturbation of it lies inside.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Real

from robust_manifold.core.errors import UsageError
from robust_manifold.core.norms import Norm
from robust_manifold.evaluation.intervals import wilson_interval
from robust_manifold.evaluation.records import DataFrame, RecordFile
from robust_manifold.evaluation.results import Cell, summarise

CLEAN = "clean"
"""The `attack` of the untouched images."""

WORST_CASE = "worst case"
"""The `adversary` of a worst case over all adversaries."""


class Budget(NamedTuple):
    """A ball around each image: its norm and its radius on pixels in [0, 1]."""

    norm: Norm
    epsilon: float


class Outcome(NamedTuple):
    """What one classifier behind one defence makes of one row of images.

    Attributes:
      classifier: as in `Cell`.
      defence: as in `Cell`.
      adversary: as in `Cell`.
      attack: as in `Cell`.
      right: whether each image is classified right.
      norm: of the attack; empty for clean images.
      epsilon: budget of the attack; None where it has none.
      sizes: measured size of each perturbation by norm, plain and over all pixels;
        NaN where an attack found nothing.
    """

    classifier: str
    defence: str
    adversary: str
    attack: str
    right: Bool[np.ndarray, " n"]
    norm: Norm | Literal[""] = ""
    epsilon: float | None = None
    sizes: Mapping[str, Real[np.ndarray, " n"]] = {}


class AdversaryLine(NamedTuple):
    """All attacks of one adversary on one defence inside one budget.

    Attributes:
      classifier: as in `Cell`.
      defence: as in `Cell`.
      norm: of the budget.
      epsilon: of the budget.
      adversary: as in `Cell`, or `WORST_CASE` for all of them together.
      n: number of images.
      correct: how many of them are right untouched and under all of its attacks.
      accuracy: correct / n.
      accuracy_low: lower end of the Wilson interval of `accuracy`.
      accuracy_high: upper end of the same.
      alone: how many images it breaks that are right untouched and under all other
        adversaries; for `WORST_CASE`, how many only attacks break.
    """

    classifier: str
    defence: str
    norm: str
    epsilon: float
    adversary: str
    n: int
    correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    alone: int


_FILE = RecordFile(
    name="worst_cases.csv",
    columns=AdversaryLine._fields,
    texts=("classifier", "defence", "norm", "adversary"),
    counts=("n", "correct", "alone"),
    required=AdversaryLine._fields,
    formats={"epsilon": ".6g"},
)


def worst_cases(outcomes: Iterable[Outcome], *, confidence: float = 0.95) -> list[Cell]:
    """Returns the worst cases of each classifier and defence, budget by budget.

    The column's clean cell, where a curve over ε begins, comes first if the outcomes
    hold a clean row.  To lines of results that hold it already, add only those whose
    `adversary` is `WORST_CASE`.

    The budgets are those of all outcomes' attacks together, so that every column is
    counted at each budget at which any of its rows has something to say.  Accuracy
    never rises with ε of one norm, and is at most that of any row inside the budget.

    Args:
      outcomes: of all rows, clean ones included; of a column all over the same images.
      confidence: coverage of the Wilson intervals.

    Raises:
      UsageError: if the rows of a column are of unequal length.
    """
    cells = []
    for rows, attacked in _columns(outcomes):
        cells += [_cell(row, confidence) for row in rows if row.attack == CLEAN]
        for budget, broken in attacked:
            worst = rows[0]._replace(
                adversary=WORST_CASE,
                attack=any_attack(budget),
                right=~_some(broken),
                norm=budget.norm,
                epsilon=budget.epsilon,
            )
            cells.append(_cell(worst, confidence))
    return cells


def adversary_lines(
    outcomes: Iterable[Outcome], *, confidence: float = 0.95
) -> list[AdversaryLine]:
    """Returns what each adversary breaks, by classifier, defence and budget.

    Adversaries with no row at a budget have no line there; the last line of each
    budget is the worst case.  Arguments and errors as for `worst_cases`.
    """
    lines = []
    for rows, attacked in _columns(outcomes):
        for budget, broken in attacked:
            lines += _lines(rows, budget, broken, confidence)
    return lines


def broken_by(rows: Sequence[Outcome], budget: Budget) -> Bool[np.ndarray, "rows n"]:
    """Returns which rows of one column break which image inside a budget.

    Args:
      rows: outcomes of one classifier behind one defence.
      budget: a row counts for an image if it is clean, if its attack was given this
        norm and no larger ε, or if its perturbation of that image, whatever the
        attack was after, measures no more than ε in the budget's norm.

    Raises:
      UsageError: if the rows are of unequal length.
    """
    lengths = {len(row.right) for row in rows}
    if len(lengths) != 1:
        raise UsageError(
            f"the rows of {rows[0].defence!r} have {sorted(lengths)} images; allowed: "
            "equally many."
        )
    return np.array([inside(row, budget) & ~row.right for row in rows])


def budgets_of(outcomes: Iterable[Outcome]) -> list[Budget]:
    """Returns the budgets of all attacks, by norm as they come, ε ascending."""
    by_norm: dict[Norm, set[float]] = {}
    for row in outcomes:
        if row.norm and row.attack != CLEAN and row.epsilon is not None:
            by_norm.setdefault(row.norm, set()).add(float(row.epsilon))
    return [Budget(norm, e) for norm, known in by_norm.items() for e in sorted(known)]


def any_attack(budget: Budget) -> str:
    """Returns what stands for all attacks inside a budget in results.csv.

    >>> any_attack(Budget("l2", 1.5))
    "any_attack(norm='l2', epsilon=1.5)"
    """
    return f"any_attack(norm={budget.norm!r}, epsilon={budget.epsilon!r})"


def adversary_lines_to_csv(lines: Iterable[AdversaryLine]) -> str:
    """Returns the text of worst_cases.csv: a header, then one line each."""
    return _FILE.to_csv(lines)


def read_adversary_lines(text: str) -> DataFrame:
    """Returns the frame that the text of worst_cases.csv describes.

    Raises:
      UsageError: if the columns are not those of `AdversaryLine`, or a value cannot
        be read.
    """
    return _FILE.read(text)


def _columns(
    outcomes: Iterable[Outcome],
) -> Iterator[tuple[list[Outcome], list[tuple[Budget, np.ndarray]]]]:
    """Yields each column's rows, and at each budget that attacks it who broke what."""
    outcomes = list(outcomes)
    columns: dict[tuple[str, str], list[Outcome]] = {}
    for row in outcomes:
        columns.setdefault((row.classifier, row.defence), []).append(row)
    for rows in columns.values():
        attacks = [row for row in rows if row.attack != CLEAN]
        yield (
            rows,
            [
                (budget, broken_by(rows, budget))
                for budget in budgets_of(outcomes)
                if any(_is_inside(row, budget) for row in attacks)
            ],
        )


def _lines(
    rows: Sequence[Outcome], budget: Budget, broken: np.ndarray, confidence: float
) -> list[AdversaryLine]:
    """Returns the lines of a column at a budget."""
    lines = []
    clean = np.array([row.attack == CLEAN for row in rows])
    present = np.array([_is_inside(row, budget) for row in rows]) & ~clean
    names = [row.adversary for row in rows]
    for name in dict.fromkeys(np.array(names, object)[present]):
        own = np.array([other == name for other in names]) & ~clean
        by_it = _some(broken[own])
        alone = by_it & ~_some(broken[~own])
        lines.append(
            _line(
                rows[0],
                budget,
                name,
                by_it | _some(broken[clean]),
                alone,
                confidence,
            )
        )
    by_attacks = _some(broken[~clean]) & ~_some(broken[clean])
    every = _some(broken)
    lines.append(_line(rows[0], budget, WORST_CASE, every, by_attacks, confidence))
    return lines


def _cell(row: Outcome, confidence: float) -> Cell:
    """Returns a row as a line of results, as far as its outcome tells."""
    return summarise(
        classifier=row.classifier,
        defence=row.defence,
        adversary=row.adversary,
        attack=row.attack,
        norm=row.norm,
        epsilon=row.epsilon,
        labels=np.ones(len(row.right), int),
        predictions=np.asarray(row.right).astype(int),
        confidence=confidence,
    )


def _some(broken: Bool[np.ndarray, "rows n"]) -> Bool[np.ndarray, " n"]:
    """Returns which images some row breaks."""
    return np.asarray(broken.any(axis=0))


def _is_inside(row: Outcome, budget: Budget) -> bool:
    """Returns whether a row has anything to say at a budget.

    An image that was left as it is says nothing: it lies inside every budget.
    """
    if row.norm == budget.norm and row.epsilon is None:
        return True
    within, size = inside(row, budget), row.sizes.get(budget.norm)
    if _was_given(row, budget) or size is None:
        return bool(within.any())
    return bool((within & (np.asarray(size) > 0)).any())


def _was_given(row: Outcome, budget: Budget) -> bool:
    """Returns whether a row's attack had this norm and no larger a budget."""
    known = row.norm == budget.norm and row.epsilon is not None
    return known and row.epsilon <= budget.epsilon  # type: ignore[operator]


def inside(row: Outcome, budget: Budget) -> Bool[np.ndarray, " n"]:
    """Returns for which images a row counts; see `broken_by`."""
    every = np.ones(len(row.right), bool)
    # By what it was given: in single precision its images may be just outside.
    if row.attack == CLEAN or _was_given(row, budget):
        return every
    size = row.sizes.get(budget.norm)
    # Not so for a NaN: an attack that found nothing has broken nothing.
    return ~every if size is None else np.asarray(size) <= budget.epsilon


def _line(
    row: Outcome,
    budget: Budget,
    adversary: str,
    broken: np.ndarray,
    alone: np.ndarray,
    confidence: float,
) -> AdversaryLine:
    n, correct = len(broken), int(np.sum(~broken))
    low, high = wilson_interval(correct, n, confidence)
    return AdversaryLine(
        classifier=row.classifier,
        defence=row.defence,
        norm=budget.norm,
        epsilon=budget.epsilon,
        adversary=adversary,
        n=n,
        correct=correct,
        accuracy=correct / n,
        accuracy_low=low,
        accuracy_high=high,
        alone=int(np.sum(alone)),
    )
