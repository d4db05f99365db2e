"""Rejection by reconstruction error: attacked images are told by what they lose.

An image far from all that the generator can make is rejected instead of classified.
The limit comes from clean validation images alone; test images only say what it does.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Real

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation.intervals import wilson_interval
from robust_manifold.evaluation.inversion_measures import auc, auc_interval
from robust_manifold.evaluation.records import DataFrame, RecordFile


class DetectionLine(NamedTuple):
    """One row of images behind one defence that rejects by reconstruction error.

    Attributes:
      classifier: as in `Cell`.
      defence: as in `Cell`.
      adversary: as in `Cell`.
      attack: as in `Cell`.
      norm: as in `Cell`.
      epsilon: as in `Cell`.
      validation: number of clean validation images that the threshold comes from.
      false_positive_rate: largest share of them that may be rejected.
      threshold: errors above it are rejected; a mean square over the pixels.
      n: number of images of the row.
      rejected: how many of them are rejected.
      rejected_share: rejected / n: of clean images the false-positive rate achieved,
        of attacked ones the detection rate.
      rejected_low: lower end of its Wilson interval.
      rejected_high: upper end of the same.
      correct: how many images end well: clean ones accepted and classified right,
        attacked ones rejected or classified right.
      accuracy: correct / n.
      accuracy_low: lower end of its Wilson interval.
      accuracy_high: upper end of the same.
      auc: probability that an image of the row has a larger error than a clean test
        image, ties counted half; None for the clean images themselves.
      auc_low: lower end of its interval, see `auc_interval`.
      auc_high: upper end of the same.
    """

    classifier: str
    defence: str
    adversary: str
    attack: str
    norm: str
    epsilon: float | None
    validation: int
    false_positive_rate: float
    threshold: float
    n: int
    rejected: int
    rejected_share: float
    rejected_low: float
    rejected_high: float
    correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    auc: float | None
    auc_low: float | None
    auc_high: float | None


class Roc(NamedTuple):
    """A ROC curve: what each threshold, from the strictest down, lets through.

    Attributes:
      false_positives: share of the clean images rejected, ascending from 0 to 1.
      true_positives: share of the attacked images rejected, likewise.
    """

    false_positives: Float[np.ndarray, " points"]
    true_positives: Float[np.ndarray, " points"]


_TEXTS = ("classifier", "defence", "adversary", "attack", "norm")
_OPTIONAL = ("epsilon", "auc", "auc_low", "auc_high")
_FILE = RecordFile(
    name="detection.csv",
    columns=DetectionLine._fields,
    texts=_TEXTS,
    counts=("validation", "n", "rejected", "correct"),
    required=tuple(f for f in DetectionLine._fields if f not in (*_TEXTS, *_OPTIONAL)),
    formats={"epsilon": ".6g", "threshold": ".8g"},
)


def rejection_threshold(
    validation: Real[np.ndarray, " m"], false_positive_rate: float
) -> float:
    """Returns the least error that at most this share of clean images exceeds.

    It is one of the errors; infinite where too many of them are not finite.

    >>> rejection_threshold(np.arange(1.0, 101.0), 0.05)
    95.0

    Args:
      validation: errors of clean images that nothing else is measured on.
      false_positive_rate: share of them that may be rejected, in [0, 1).

    Raises:
      UsageError: for no images, or a rate outside [0, 1).
    """
    m = len(validation)
    if m < 1:
        raise UsageError("validation holds 0 errors; allowed: 1 or more.")
    if not 0 <= false_positive_rate < 1:
        raise UsageError(
            f"false_positive_rate is {false_positive_rate}; allowed: 0 or more, "
            "and below 1."
        )
    # 0.29 of 100 are 28.999999999999996 in floating point.
    above = math.floor(false_positive_rate * m + 1e-9)
    return float(np.sort(_ordered(validation))[m - 1 - above])


def rejects(errors: Real[np.ndarray, " n"], threshold: float) -> Bool[np.ndarray, " n"]:
    """Returns which images are rejected; always those without a finite error."""
    return ~np.isfinite(errors) | (errors.astype(np.float64) > threshold)


def roc(errors: Real[np.ndarray, " n"], clean: Real[np.ndarray, " m"]) -> Roc:
    """Returns the ROC curve of telling images from clean ones by their error.

    The area below it is `auc(errors, clean)`.

    Raises:
      UsageError: if there are no images of a kind.
    """
    errors, clean = _ordered(errors), _ordered(clean)
    if min(len(errors), len(clean)) < 1:
        raise UsageError(
            f"there are {len(errors)} and {len(clean)} errors; allowed: 1 or more of "
            "each."
        )
    thresholds = np.unique(np.concatenate([errors, clean, [-np.inf, np.inf]]))[::-1]

    def above(values: np.ndarray) -> np.ndarray:
        below = np.searchsorted(np.sort(values), thresholds, side="right")
        return 1 - below / len(values)

    return Roc(above(clean), above(errors))


def summarise_detection(
    *,
    classifier: str,
    defence: str,
    adversary: str,
    attack: str,
    right: Bool[np.ndarray, " n"],
    errors: Real[np.ndarray, " n"],
    validation: Real[np.ndarray, " m"],
    false_positive_rate: float,
    clean: Real[np.ndarray, " k"] | None = None,
    norm: str = "",
    epsilon: float | None = None,
    confidence: float = 0.95,
) -> DetectionLine:
    """Returns the line of one row of images.

    Args:
      classifier: as in `Cell`.
      defence: as in `Cell`.
      adversary: as in `Cell`.
      attack: as in `Cell`.
      right: whether the defended classifier gets each image right.
      errors: reconstruction error of each image.
      validation: those of clean validation images, which alone set the threshold.
      false_positive_rate: share of the latter that may be rejected.
      clean: errors of the clean test images; None: the row is that of the clean ones.
      norm: as in `Cell`.
      epsilon: as in `Cell`.
      confidence: coverage of the intervals.

    Raises:
      UsageError: as `rejection_threshold`; if the row has no images.
    """
    threshold = rejection_threshold(validation, false_positive_rate)
    rejected = rejects(errors, threshold)
    well = right & ~rejected if clean is None else right | rejected
    n, count, correct = len(errors), int(rejected.sum()), int(well.sum())
    share, interval = None, (None, None)
    if clean is not None:
        share = auc(errors, clean)
        interval = auc_interval(share, n, len(clean), confidence)
    return DetectionLine(
        classifier=classifier,
        defence=defence,
        adversary=adversary,
        attack=attack,
        norm=norm,
        epsilon=epsilon,
        validation=len(validation),
        false_positive_rate=false_positive_rate,
        threshold=threshold,
        n=n,
        rejected=count,
        rejected_share=count / n,
        **_ends("rejected", count, n, confidence),
        correct=correct,
        accuracy=correct / n,
        **_ends("accuracy", correct, n, confidence),
        auc=share,
        auc_low=interval[0],
        auc_high=interval[1],
    )


def detection_to_csv(lines: Iterable[DetectionLine]) -> str:
    """Returns the text of detection.csv: a header, then one line a row of images."""
    return _FILE.to_csv(lines)


def read_detection(text: str) -> DataFrame:
    """Returns the frame that the text of detection.csv describes.

    Raises:
      UsageError: if the columns are not those of `DetectionLine`, or a value cannot
        be read.
    """
    return _FILE.read(text)


def _ends(name: str, count: int, n: int, confidence: float) -> dict[str, float]:
    interval = wilson_interval(count, n, confidence)
    return {f"{name}_low": interval.low, f"{name}_high": interval.high}


def _ordered(errors: np.ndarray) -> np.ndarray:
    """Returns the errors in double precision, infinite where they are not numbers."""
    errors = errors.astype(np.float64)
    return np.where(np.isnan(errors), np.inf, errors)
