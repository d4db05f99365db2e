"""How the worst images of one round are made: by a cascade, or row by row."""

import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from robust_manifold import attacks, defenses
from robust_manifold.core import keys
from robust_manifold.evaluation import Budget
from robust_manifold.evaluation.cascades import (
    AtBudget,
    Cascade,
    Share,
    Tried,
    cascade,
)
from robust_manifold.evaluation.results import predictions_of
from robust_manifold.robustness.asked import Rows
from robust_manifold.robustness.rows import by_rows
from robust_manifold.robustness.subject import Part, Subject, Tell

_KEYS = 8
"""Fresh keys under which clean images are judged, as many as for attacked ones."""


class Round(NamedTuple):
    """What came of some of the images.

    Attributes:
      clean: share of the keys under which each untouched image is misclassified.
      budgets: the worst image at each, and who made it.
      tried: what the pilot of a cascade found; empty without one.
      seconds: that it took.
    """

    clean: np.ndarray
    budgets: tuple[AtBudget, ...]
    tried: tuple[Tried, ...]
    seconds: float


def made(
    subject: Subject,
    wanted: Cascade | Rows,
    part: Part,
    pool: tuple[np.ndarray, np.ndarray],
    views: Sequence[defenses.Adversary] | None,
    tell: Tell,
) -> Round:
    """Returns the worst images of one round.

    Args:
      subject: what is attacked.
      wanted: by what.
      part: the images.
      pool: images and labels for the pilot, and for starts of another class.
      views: ways to differentiate the defence, best first; None: a pilot finds them.
      tell: told after each member, or row.
    """
    start = time.perf_counter()
    if isinstance(wanted, Rows):
        clean, budgets = by_rows(subject, wanted, part, tell)
        return Round(clean, budgets, (), time.perf_counter() - start)
    fresh = subject.random and wanted.keys == "fresh"
    judged = subject.judged if fresh else subject.known(part.ids)
    told = _Shares(wanted, subject, tell)
    with attacks.without_warnings():
        found = cascade(
            judged,
            part.images,
            part.labels,
            wanted.budgets,
            key=keys.stream(subject.key, f"worst case of {subject.name}"),
            effort=wanted.size,
            donors=subject.donors,
            pilot=pool,
            views=views,
            ids=part.ids,
            on_share=told,
        )
    clean = _clean(subject, part, _KEYS if fresh else 1)
    budgets = found.budgets
    if not fresh:
        # A clean image that a defence rejects is lost, attacked or not.
        budgets = [each._replace(rate=np.maximum(each.rate, clean)) for each in budgets]
    return Round(clean, tuple(budgets), found.tried, time.perf_counter() - start)


class _Shares:
    """Tells how much of a cascade's work is done by the members that have worked."""

    def __init__(self, wanted: Cascade, subject: Subject, tell: Tell):
        self._most = wanted.most_shares(subject.judged.defence, subject.donors)
        self._tell, self._budgets = tell, list(wanted.budgets)
        self._budget: Budget | None = None
        self._count = 0

    def __call__(self, budget: Budget, share: Share) -> None:
        if budget != self._budget:
            self._budget, self._count = budget, 0
        self._count += 1
        done = self._budgets.index(budget) + min(1, self._count / self._most)
        self._tell(done / len(self._budgets), share.member)


def _clean(subject: Subject, part: Part, count: int) -> np.ndarray:
    """Returns under how many of some keys each untouched image is misclassified.

    With one key it is that by which the defence meets attacked images, too.
    """
    root = subject.root
    streams = [root] + [keys.stream(root, f"key {n}") for n in range(1, count)]
    wrong = [
        predictions_of(subject.outputs(part.images, part.ids, key)) != part.labels
        for key in streams
    ]
    return np.mean(wrong, axis=0)


def rounds_of(n: int, size: int) -> list[slice]:
    """Returns the places of the images of each round."""
    starts = [*range(0, n, size), n]
    return [slice(*pair) for pair in itertools.pairwise(starts)]
