"""Errors of a regression: their mean, their tail, and the largest of each image.

What accuracy is to a classifier: a line for each row of images, and the worst case, in
which the error of an image is the largest that any row inside the budget gives it.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import binom

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation.intervals import wilson_interval
from robust_manifold.evaluation.records import DataFrame, RecordFile
from robust_manifold.evaluation.worst_case import (
    CLEAN,
    WORST_CASE,
    Budget,
    Outcome,
    any_attack,
    budgets_of,
    inside,
)

TAIL = 0.95
"""The share of images whose error is at most the tail's: the 95th percentile."""

_RESAMPLES = 10_000


class ErrorSpread(NamedTuple):
    """The ends of an interval of an error; `high` is inf where no image tells it."""

    low: float
    high: float


class ErrorLine(NamedTuple):
    """One row of images in one column: a line of errors.csv.

    Attributes:
      classifier: the network, as in `Cell`.
      defence: as in `Cell`.
      adversary: as in `Cell`, or `WORST_CASE`.
      attack: as in `Cell`.
      norm: of the attack; empty for clean images.
      epsilon: its budget; None where it has none.
      n: number of images.
      mean: of the errors, in the unit of the targets.
      mean_low: lower end of the bootstrap's interval of `mean`.
      mean_high: upper end of the same.
      tail: the 95th percentile, an error that an image has.
      tail_low: lower end of the interval between order statistics.
      tail_high: upper end of the same; None where there are too few images for one.
      bound: the error that is counted.
      beyond: how many images have a larger one.
      share: beyond / n.
      share_low: lower end of the Wilson interval of `share`.
      share_high: upper end of the same.
      norm_median: median size of the perturbations in `norm`.
      seconds: that attack and evaluation took; None for a worst case.
    """

    classifier: str
    defence: str
    adversary: str
    attack: str
    norm: str
    epsilon: float | None
    n: int
    mean: float
    mean_low: float
    mean_high: float
    tail: float
    tail_low: float
    tail_high: float | None
    bound: float
    beyond: int
    share: float
    share_low: float
    share_high: float
    norm_median: float | None = None
    seconds: float | None = None


_FILE = RecordFile(
    name="errors.csv",
    columns=ErrorLine._fields,
    texts=("classifier", "defence", "adversary", "attack", "norm"),
    counts=("n", "beyond"),
    required=("mean", "mean_low", "mean_high", "tail", "tail_low", "bound", "share"),
    formats={"epsilon": ".6g"},
)


def absolute_errors(
    outputs: Float[np.ndarray, "n outputs"],
    targets: Float[np.ndarray, "n outputs"],
    period: float = 0.0,
) -> Float[np.ndarray, " n"]:
    """Returns the Euclidean distance of each output from its target.

    Args:
      outputs: what a network tells; of one number the distance is the absolute error.
      targets: what is true.
      period: after which values repeat, such as 360; 0: never.

    Returns:
      Distances in double precision; inf for an output that is not finite.
    """
    away = np.asarray(outputs, np.float64) - targets
    broken = ~np.isfinite(away).all(axis=1)
    away[broken] = 0
    if period:
        away -= period * np.round(away / period)
    return np.where(broken, np.inf, np.linalg.norm(away, axis=1))


def bootstrap_mean(
    errors: Float[np.ndarray, " n"], confidence: float = 0.95
) -> ErrorSpread:
    """Returns the percentile interval of a mean over resampled images.

    The resamples are the same in every call, so that a table is a function of the
    errors.

    Source: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of
    Statistics 7 (1979).
    """
    if not np.isfinite(errors).all():
        return ErrorSpread(float(np.mean(errors)), math.inf)
    drawn = np.random.Generator(np.random.PCG64(0))
    n, means = len(errors), np.empty(_RESAMPLES)
    for place in range(_RESAMPLES):
        means[place] = errors[drawn.integers(0, n, n)].mean()
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return ErrorSpread(float(low), float(high))


def percentile(errors: Float[np.ndarray, " n"], share: float = TAIL) -> float:
    """Returns the smallest error that at least a share of the images do not exceed."""
    ordered = np.sort(errors)
    return float(ordered[max(0, math.ceil(round(share * len(ordered), 9)) - 1)])


def percentile_interval(
    errors: Float[np.ndarray, " n"], share: float = TAIL, confidence: float = 0.95
) -> ErrorSpread:
    """Returns an interval of a percentile between two order statistics.

    It holds whatever the errors' distribution is: how many of n images lie below the
    true percentile is binomial.  Where too few images lie above, `high` is inf.

    Source: H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1.
    """
    ordered, n, half = np.sort(errors), len(errors), (1 - confidence) / 2
    # As many images as that lie below it with a probability of at most `half`.
    below = int(binom.ppf(half, n, share))
    above = int(binom.ppf(1 - half, n, share)) + 1
    low = float(ordered[below - 1]) if below >= 1 else 0.0
    return ErrorSpread(low, float(ordered[above - 1]) if above <= n else math.inf)


def summarise_errors(
    errors: Float[np.ndarray, " n"],
    *,
    classifier: str,
    defence: str,
    adversary: str,
    attack: str,
    bound: float,
    norm: str = "",
    epsilon: float | None = None,
    norm_median: float | None = None,
    seconds: float | None = None,
    confidence: float = 0.95,
) -> ErrorLine:
    """Returns the line of one row of images; see `ErrorLine`.

    Raises:
      UsageError: for no images.
    """
    if not len(errors):
        raise UsageError("errors are of 0 images; allowed: 1 or more.")
    n, beyond = len(errors), int(np.sum(errors > bound))
    mean, tail = (
        bootstrap_mean(errors, confidence),
        percentile_interval(errors, confidence=confidence),
    )
    share = wilson_interval(beyond, n, confidence)
    return ErrorLine(
        classifier=classifier,
        defence=defence,
        adversary=adversary,
        attack=attack,
        norm=norm,
        epsilon=epsilon,
        n=n,
        mean=float(np.mean(errors)),
        mean_low=mean.low,
        mean_high=mean.high,
        tail=percentile(errors),
        tail_low=tail.low,
        tail_high=tail.high if math.isfinite(tail.high) else None,
        bound=bound,
        beyond=beyond,
        share=beyond / n,
        share_low=share.low,
        share_high=share.high,
        norm_median=norm_median,
        seconds=seconds,
    )


def largest_errors(
    rows: Sequence[tuple[Outcome, Float[np.ndarray, " n"]]], budget: Budget
) -> Float[np.ndarray, " n"] | None:
    """Returns of each image the largest error of all rows inside a budget.

    Args:
      rows: of one column, each with the errors of its images; clean ones count.
      budget: which images of a row lie inside it is told by `worst_case.inside`.

    Returns:
      The errors; None where no attack has an image inside.
    """
    attacked = [row for row, _ in rows if row.attack != CLEAN]
    if not any(inside(row, budget).any() for row in attacked):
        return None
    counted = [np.where(inside(row, budget), errors, 0) for row, errors in rows]
    return np.max(counted, axis=0)


def worst_errors(
    rows: Iterable[tuple[Outcome, Float[np.ndarray, " n"]]],
    *,
    bound: float,
    confidence: float = 0.95,
) -> list[ErrorLine]:
    """Returns the worst cases of each column, budget by budget.

    Args:
      rows: of all columns, each with the errors of its images.
      bound: the error that is counted.
      confidence: coverage of the intervals.
    """
    rows = list(rows)
    columns: dict[tuple[str, str], list] = {}
    for row, errors in rows:
        columns.setdefault((row.classifier, row.defence), []).append((row, errors))
    lines = []
    for (classifier, defence), own in columns.items():
        for budget in budgets_of(row for row, _ in rows):
            largest = largest_errors(own, budget)
            if largest is not None:
                lines.append(
                    summarise_errors(
                        largest,
                        classifier=classifier,
                        defence=defence,
                        adversary=WORST_CASE,
                        attack=any_attack(budget),
                        norm=budget.norm,
                        epsilon=budget.epsilon,
                        bound=bound,
                        confidence=confidence,
                    )
                )
    return lines


def errors_to_csv(lines: Iterable[ErrorLine]) -> str:
    """Returns the text of errors.csv: a header, then one line each."""
    return _FILE.to_csv(lines)


def read_errors(text: str) -> DataFrame:
    """Returns the frame that the text of errors.csv describes.

    Raises:
      UsageError: if the columns are not those of `ErrorLine`, or a value cannot be
        read.
    """
    return _FILE.read(text)
