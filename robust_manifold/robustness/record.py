"""What an evaluation found: figures, who broke what, checks, and the images."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import Budget, Check
from robust_manifold.evaluation.cascades import AtBudget
from robust_manifold.evaluation.intervals import wilson_interval


class Line(NamedTuple):
    """What is left at one budget.

    Attributes:
      norm: of the ball; empty for the clean images.
      epsilon: its radius; 0 for the clean images.
      n: images.
      accuracy: the share that is right under every attack; a mean over keys where
        these are fresh.
      low: lower end of its 95 % Wilson interval.
      high: upper end of the same.
      broken_by: who broke how many images that all before it had left, most first.
      outputs: that an image took, a mean.
      gradients: that an image took, a mean.
      seconds: that the attack took in all, with compilation.
    """

    norm: str
    epsilon: float
    n: int
    accuracy: float
    low: float
    high: float
    broken_by: tuple[tuple[str, int], ...] = ()
    outputs: float = 0.0
    gradients: float = 0.0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Record:
    """What was found: figures, checks and images, without their forms.

    Attributes:
      name: the defence, as a config writes it or a function is called; "none".
      clean_images: as they were handed in.
      labels: the true classes.
      clean: share of the keys under which each clean image is misclassified, 0 or 1
        where nothing is drawn or the key is known.
      budgets: at each ball the worst of each image, who made it, and what it cost.
      audit: checks of the figures, flags first.
      notes: what a reader of the figures has to know, a sentence each.
      effort: of the attack.
      seconds: that it took, with compilation, the audit not counted.
    """

    name: str
    clean_images: Float[np.ndarray, "n height width channels"]
    labels: Int[np.ndarray, " n"]
    clean: Float[np.ndarray, " n"]
    budgets: tuple[AtBudget, ...]
    audit: tuple[Check, ...]
    notes: tuple[str, ...]
    effort: str
    seconds: float

    @property
    def flags(self) -> tuple[Check, ...]:
        """The checks that say a figure misleads."""
        return tuple(check for check in self.audit if check.verdict == "FLAG")

    @property
    def lines(self) -> tuple[Line, ...]:
        """The figures: the clean images, then each budget."""
        return (_line("", 0.0, self.clean), *map(_line_of, self.budgets))

    def at(self, row: int | str | tuple[str, float]) -> AtBudget:
        """Returns what was found at a budget.

        Args:
          row: its place, or the budget itself, as `("linf", 0.1)` or "linf 0.1".

        Raises:
          UsageError: if there is none.
        """
        for place, each in enumerate(self.budgets):
            texts = place, place - len(self.budgets), budget_text(each.budget)
            if row in (*texts, tuple(each.budget)):
                return each
        known = ", ".join(repr(budget_text(each.budget)) for each in self.budgets)
        raise UsageError(
            f"row is {row!r}; allowed: 0 to {len(self.budgets) - 1}, or one of {known}."
        )

    def images(self, row: int | str | tuple[str, float]) -> np.ndarray:
        """Returns the worst image that was made of each; `row` as for `at`."""
        return self.at(row).images


def _line(norm: str, epsilon: float, rate: np.ndarray, **more: Any) -> Line:
    n, accuracy = len(rate), float(1 - rate.mean())
    low, high = wilson_interval(round(accuracy * n), n)
    return Line(norm, epsilon, n, accuracy, low, high, **more)


def _line_of(found: AtBudget) -> Line:
    """Returns a budget's figures."""
    n, shares = len(found.rate), found.shares
    most = sorted(shares, key=lambda share: -share.broken)
    return _line(
        *found.budget,
        found.rate,
        broken_by=tuple((each.member, each.broken) for each in most if each.broken),
        outputs=sum(share.forwards for share in shares) / n,
        gradients=sum(share.backwards for share in shares) / n,
        seconds=sum(share.seconds for share in shares),
    )


def budget_text(budget: Budget | Line) -> str:
    """Returns a budget in words.

    >>> budget_text(Budget("linf", 0.1))
    'linf 0.1'
    """
    return f"{budget.norm} {budget.epsilon:g}" if budget.norm else "clean"
