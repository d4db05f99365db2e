"""Several evaluations of the same images, side by side and paired image by image."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation.audits.check import sign_test
from robust_manifold.robustness.record import Line, Record, budget_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Pair(NamedTuple):
    """Two evaluations at one budget, or untouched, on the same images.

    Attributes:
      first: the figures of the first.
      other: those of the other.
      only_first: images that are broken in the first alone, or under more keys there.
      only_other: likewise of the other.
      p: how probable so unequal numbers are by luck: the exact sign test of McNemar,
        two-sided.
    """

    first: Line
    other: Line
    only_first: int
    only_other: int
    p: float


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The first of several evaluations beside each other one.

    Attributes:
      evaluations: the first, and the others.
      names: of them, each once.
      pairs: of each other one, an entry a common budget, the clean images first.
    """

    evaluations: tuple[Record, ...]
    names: tuple[str, ...]
    pairs: tuple[tuple[Pair, ...], ...]

    def to_frame(self) -> "pd.DataFrame":
        """Returns a row for each other evaluation and budget."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "first": self.names[0],
                    "other": name,
                    "norm": pair.first.norm,
                    "epsilon": pair.first.epsilon,
                    "n": pair.first.n,
                    "accuracy_first": pair.first.accuracy,
                    "accuracy_other": pair.other.accuracy,
                    "only_first_broken": pair.only_first,
                    "only_other_broken": pair.only_other,
                    "p": pair.p,
                }
                for name, pairs in zip(self.names[1:], self.pairs, strict=True)
                for pair in pairs
            ]
        )

    def plot(self) -> "Figure":
        """Returns accuracy against the radius, a line each."""
        from robust_manifold.robustness.page import plotted

        return plotted(self.evaluations, self.names)

    def __str__(self) -> str:
        from robust_manifold.robustness.text import aligned

        parts = []
        for name, pairs in zip(self.names[1:], self.pairs, strict=True):
            heads = ("", self.names[0], name, f"only {self.names[0]} falls")
            rows = [(*heads, f"only {name} falls", "p")]
            rows += [
                (
                    budget_text(pair.first),
                    f"{100 * pair.first.accuracy:.1f} %",
                    f"{100 * pair.other.accuracy:.1f} %",
                    str(pair.only_first),
                    str(pair.only_other),
                    f"{pair.p:.2g}",
                )
                for pair in pairs
            ]
            parts.append("\n".join(aligned(rows)))
        n = len(self.evaluations[0].labels)
        told = f"{n:,} images, right under every attack; p: exact sign test of McNemar"
        return "\n\n".join([told, *parts])

    __repr__ = __str__


def compared(evaluations: Sequence[Any]) -> Comparison:
    """Returns the first of some evaluations beside each of the others.

    Raises:
      UsageError: for what is no evaluation, for none beside the first, for other
        images, and where no budget is common to two.
    """
    first, *others = evaluations
    if not others:
        raise UsageError("compare is given 0 evaluations; allowed: 1 or more.")
    for other in others:
        _check(first, other)
    names = _names(evaluations)
    pairs = tuple(
        _pairs(first, other, name)
        for other, name in zip(others, names[1:], strict=True)
    )
    return Comparison(tuple(evaluations), names, pairs)


def _check(first: Record, other: Any) -> None:
    if not isinstance(other, Record):
        raise UsageError(f"compare is given {other!r}; allowed: evaluations.")
    same = np.array_equal(first.clean_images, other.clean_images)
    if not same or not np.array_equal(first.labels, other.labels):
        raise UsageError(
            f"compare is given an evaluation of {other.name!r} on other images; "
            "allowed: the same images and labels in the same order."
        )


def _pairs(first: Record, other: Record, name: str) -> tuple[Pair, ...]:
    """Returns two evaluations at each common budget, the clean images first."""
    known, others = (
        {
            (line.norm, line.epsilon): (line, rate)
            for line, rate in zip(
                each.lines, (each.clean, *(at.rate for at in each.budgets)), strict=True
            )
        }
        for each in (first, other)
    )
    common = [budget for budget in known if budget in others]
    if len(common) == 1:
        raise UsageError(
            f"compare is given {name!r}, which has no budget in common with the first; "
            "allowed: one or more."
        )
    return tuple(_pair(*known[budget], *others[budget]) for budget in common)


def _pair(first: Line, rate: np.ndarray, other: Line, others: np.ndarray) -> Pair:
    only_first, only_other = int((rate > others).sum()), int((others > rate).sum())
    more, fewer = max(only_first, only_other), min(only_first, only_other)
    p = min(1.0, 2 * sign_test(more, fewer))
    return Pair(first, other, only_first, only_other, p)


def _names(evaluations: Sequence[Record]) -> tuple[str, ...]:
    """Returns their names, with a number where one comes twice."""
    names = [each.name for each in evaluations]
    names = ["no defence" if name == "none" else name for name in names]
    return tuple(
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    )
