"""Unions of balls: one worst case of each image over budgets of several norms.

Who picks the norm after seeing the defence has all of its balls at once.  An image is
right in a union if it is right in every ball of it, which no mean of the balls'
accuracies tells.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from robust_manifold.core.errors import UsageError
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import Registry, check
from robust_manifold.evaluation.intervals import wilson_interval
from robust_manifold.evaluation.records import DataFrame, RecordFile
from robust_manifold.evaluation.worst_case import Budget, Outcome, broken_by, budgets_of

registry: Registry["Union"] = Registry("union")

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")


@registry.register("union")
@dataclasses.dataclass(frozen=True)
class Union:
    """Balls around each image, one a norm, of which an attack may take any.

    Attributes:
      linf: radius on pixels in [0, 1]; 0 leaves the norm out.
      l2: likewise.
      l1: likewise.
      l0: likewise; how many values may change.
    """

    linf: float = 0.0
    l2: float = 0.0
    l1: float = 0.0
    l0: float = 0.0

    def __post_init__(self):
        for norm in NORMS:
            radius = getattr(self, norm)
            number = isinstance(radius, int | float) and not isinstance(radius, bool)
            fits = number and 0 <= radius < math.inf
            check(fits, self, norm, "a finite number, 0 or more")
            object.__setattr__(self, norm, float(radius))
        if len(self.budgets) < 2:
            raise UsageError(
                f"union is {registry.to_string(self)!r}; allowed: with radii above 0 "
                "in two norms or more."
            )

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The balls."""
        every: list[Budget] = [Budget(norm, getattr(self, norm)) for norm in NORMS]
        return tuple(ball for ball in every if ball.epsilon)


class UnionLine(NamedTuple):
    """One ball of a union, or the union itself, on one classifier and defence.

    Attributes:
      classifier: as in `Cell`.
      defence: as in `Cell`.
      union: the spec's text.
      norm: of the ball; empty for the union.
      epsilon: of the ball; None for the union.
      n: number of images.
      correct: how many of them are right untouched and under every attack inside the
        ball, or every ball.
      accuracy: correct / n.
      accuracy_low: lower end of the Wilson interval of `accuracy`.
      accuracy_high: upper end of the same.
      alone: how many images fall in this ball and in no other one of the union; of the
        union, how many fall in several.
    """

    classifier: str
    defence: str
    union: str
    norm: str
    epsilon: float | None
    n: int
    correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    alone: int


_FILE = RecordFile(
    name="unions.csv",
    columns=UnionLine._fields,
    texts=("classifier", "defence", "union", "norm"),
    counts=("n", "correct", "alone"),
    required=("n", "correct", "accuracy", "accuracy_low", "accuracy_high", "alone"),
    formats={"epsilon": ".6g"},
)


def union_lines(
    outcomes: Iterable[Outcome], unions: Sequence[Union], *, confidence: float = 0.95
) -> list[UnionLine]:
    """Returns what is left of each column in each ball of each union, and in them all.

    Args:
      outcomes: of all rows, clean ones included; of a column all over the same images.
      unions: the balls; in each of them some row of every column has an attack.
      confidence: coverage of the Wilson intervals.

    Raises:
      UsageError: if nothing attacked a column in a ball, whose images would then count
        as right there, or if the rows of a column are of unequal length.
    """
    columns: dict[tuple[str, str], list[Outcome]] = {}
    for row in outcomes:
        columns.setdefault((row.classifier, row.defence), []).append(row)
    lines = []
    for rows in columns.values():
        known = budgets_of(rows)
        for union in unions:
            for ball in union.budgets:
                if not any(_reaches(budget, ball) for budget in known):
                    raise UsageError(
                        f"{registry.to_string(union)} has {ball.norm} {ball.epsilon:g}"
                        f", where nothing attacked {rows[0].defence!r}; allowed: balls "
                        "that hold one of an attack."
                    )
            lines += _of_union(rows, union, confidence)
    return lines


def unions_to_csv(lines: Iterable[UnionLine]) -> str:
    """Returns the text of unions.csv: a header, then one line each."""
    return _FILE.to_csv(lines)


def read_unions(text: str) -> DataFrame:
    """Returns the frame that the text of unions.csv describes.

    Raises:
      UsageError: if the columns are not those of `UnionLine`, or a value cannot be
        read.
    """
    return _FILE.read(text)


def _reaches(budget: Budget, ball: Budget) -> bool:
    return budget.norm == ball.norm and budget.epsilon <= ball.epsilon


def _of_union(
    rows: Sequence[Outcome], union: Union, confidence: float
) -> list[UnionLine]:
    """Returns the lines of one column and union, the union last."""
    balls = union.budgets
    fallen = np.array([broken_by(rows, ball).any(axis=0) for ball in balls])
    times = fallen.sum(axis=0)

    def line(
        broken: Bool[np.ndarray, " n"], alone: int, norm: str, epsilon: float | None
    ) -> UnionLine:
        n, correct = len(broken), int(np.sum(~broken))
        low, high = wilson_interval(correct, n, confidence)
        return UnionLine(
            classifier=rows[0].classifier,
            defence=rows[0].defence,
            union=registry.to_string(union),
            norm=norm,
            epsilon=epsilon,
            n=n,
            correct=correct,
            accuracy=correct / n,
            accuracy_low=low,
            accuracy_high=high,
            alone=alone,
        )

    of_balls = [
        line(broken, int(np.sum(broken & (times == 1))), ball.norm, ball.epsilon)
        for broken, ball in zip(fallen, balls, strict=True)
    ]
    return [*of_balls, line(times > 0, int(np.sum(times > 1)), "", None)]
