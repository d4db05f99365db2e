"""The lines of results.csv: one cell of the table each, from per-image outcomes.

The file is text of a fixed format, so that equal runs write equal bytes; the times
stand in the last column alone.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from robust_manifold.core.errors import UsageError
from robust_manifold.core.norms import Norm
from robust_manifold.evaluation.intervals import wilson_interval
from robust_manifold.evaluation.records import DataFrame, RecordFile


class Cell(NamedTuple):
    """One classifier and defence under one attack by one adversary.

    Attributes:
      classifier: name of the classifier.
      defence: text of the defence's spec, "none" without one.
      adversary: what the attack may differentiate; "none" where `attack` is "clean".
      attack: text of the attack's spec, or "clean".
      norm: norm of the attack's budget and of `distance_*`; empty for "clean".
      epsilon: budget of the attack on pixels in [0, 1]; None where it has none.
      n: number of images.
      correct: how many of them the defended classifier gets right.
      accuracy: correct / n.
      accuracy_low: lower end of the Wilson interval of `accuracy`.
      accuracy_high: upper end of the same.
      attack_success: share of the images on which the attack fooled the function it
        was crafted on, which is not the defended one where the adversary is
        oblivious; None for "clean".
      distance_mean: mean size of the perturbation in the attack's own norm.
      distance_median: median of the same.
      l2_mean: mean plain Euclidean norm of the perturbation.
      linf_mean: mean largest change of a pixel.
      error_mean: mean over the images of the reconstruction error, a mean square
        over the pixels; None without a projection.
      forwards_mean: forward passes that the attack took, per image.
      backwards_mean: backward passes that the attack took, per image.
      label_queries: labels of the defended classifier that the adversary asked for,
        once for all images and attacks, to train its substitute; None without one.
      seconds: wall time of the cell; None if not measured.
    """

    classifier: str
    defence: str
    adversary: str
    attack: str
    norm: str
    epsilon: float | None
    n: int
    correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    attack_success: float | None
    distance_mean: float | None
    distance_median: float | None
    l2_mean: float | None
    linf_mean: float | None
    error_mean: float | None
    forwards_mean: float | None
    backwards_mean: float | None
    label_queries: int | None
    seconds: float | None


COLUMNS: tuple[str, ...] = Cell._fields
"""The columns of results.csv, in order."""

_FILE = RecordFile(
    name="results.csv",
    columns=COLUMNS,
    texts=("classifier", "defence", "adversary", "attack", "norm"),
    counts=("n", "correct"),
    required=("n", "correct", "accuracy", "accuracy_low", "accuracy_high"),
    formats={
        "epsilon": ".6g",
        "error_mean": ".8f",
        "label_queries": ".0f",
        "seconds": ".3f",
    },
)


class PerturbationNorms(NamedTuple):
    """Norms of each perturbation, over all its pixels and channels."""

    l2: Float[np.ndarray, " n"]
    linf: Float[np.ndarray, " n"]


def perturbation_norms(
    images: Float[np.ndarray, "n height width channels"],
    adversarial: Float[np.ndarray, "n height width channels"],
) -> PerturbationNorms:
    """Returns the plain norms of `adversarial - images`, image by image."""
    return PerturbationNorms(
        l2=sizes(images, adversarial, "l2"), linf=sizes(images, adversarial, "linf")
    )


def sizes(
    images: Float[np.ndarray, "n height width channels"],
    adversarial: Float[np.ndarray, "n height width channels"],
    norm: Norm,
) -> Float[np.ndarray, " n"]:
    """Returns the plain norm of `adversarial - images`, image by image.

    In double precision: whether an image lies in a ball is asked of it.
    """
    delta = adversarial.astype(np.float64) - images
    if norm == "pixels":
        return (delta != 0).any(-1).sum((1, 2)).astype(np.float64)
    order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
    return np.linalg.norm(delta.reshape(len(delta), -1), order, axis=1)


def predictions_of(logits: Float[np.ndarray, "n classes"]) -> Int[np.ndarray, " n"]:
    """Returns the predicted classes; -1, which is no class, where a logit is NaN.

    >>> predictions_of(np.array([[0.0, 2.0], [np.nan, 0.0]]))
    array([ 1, -1])
    """
    broken = np.isnan(logits).any(axis=-1)
    return np.where(broken, -1, np.argmax(logits, axis=-1))


def summarise(
    *,
    classifier: str,
    defence: str,
    adversary: str,
    attack: str,
    labels: Int[np.ndarray, " n"],
    predictions: Int[np.ndarray, " n"],
    norm: str = "",
    epsilon: float | None = None,
    success: Bool[np.ndarray, " n"] | None = None,
    distances: Real[np.ndarray, " n"] | None = None,
    l2: Real[np.ndarray, " n"] | None = None,
    linf: Real[np.ndarray, " n"] | None = None,
    errors: Real[np.ndarray, " n"] | None = None,
    forwards: Real[np.ndarray, " n"] | None = None,
    backwards: Real[np.ndarray, " n"] | None = None,
    label_queries: int | None = None,
    seconds: float | None = None,
    confidence: float = 0.95,
) -> Cell:
    """Returns the cell that per-image outcomes add up to.

    A measure that is not given stays None.  Entries that are not finite (the distance
    of an attack that found nothing, the error of an inversion that failed) are left
    out of its mean; accuracy counts every image.

    Args:
      classifier: as in `Cell`.
      defence: as in `Cell`.
      adversary: as in `Cell`.
      attack: as in `Cell`.
      labels: true classes.
      predictions: classes that the defended classifier gives.
      norm: as in `Cell`.
      epsilon: as in `Cell`.
      success: whether the attack fooled the function it was crafted on.
      distances: size of each perturbation in the attack's own norm.
      l2: plain Euclidean norm of each perturbation.
      linf: largest change of a pixel in each image.
      errors: reconstruction error of each image, a mean square over its pixels.
      forwards: forward passes per image.
      backwards: backward passes per image.
      label_queries: as in `Cell`.
      seconds: wall time of the cell.
      confidence: coverage of the Wilson interval.

    Raises:
      UsageError: if there are no images.
    """
    n, correct = len(labels), int(np.sum(labels == predictions))
    interval = wilson_interval(correct, n, confidence)
    return Cell(
        classifier=classifier,
        defence=defence,
        adversary=adversary,
        attack=attack,
        norm=norm,
        epsilon=epsilon,
        n=n,
        correct=correct,
        accuracy=correct / n,
        accuracy_low=interval.low,
        accuracy_high=interval.high,
        attack_success=_mean(success),
        distance_mean=_mean(distances),
        distance_median=_median(distances),
        l2_mean=_mean(l2),
        linf_mean=_mean(linf),
        error_mean=_mean(errors),
        forwards_mean=_mean(forwards),
        backwards_mean=_mean(backwards),
        label_queries=label_queries,
        seconds=seconds,
    )


def to_frame(cells: Iterable[Cell]) -> DataFrame:
    """Returns the cells as a frame, a row each, with NaN for what is None.

    Its numbers are those that `to_csv` writes: a report made from cells in memory
    and one made from the stored file are the same.
    """
    return read_results(to_csv(cells))


def to_csv(cells: Iterable[Cell]) -> str:
    """Returns the text of results.csv: a header, then one line a cell."""
    return _FILE.to_csv(cells)


def read_results(text: str) -> DataFrame:
    """Returns the frame that the text of results.csv describes.

    Args:
      text: what `to_csv` returned.

    Raises:
      UsageError: if the columns are not those of `Cell`, a number cannot be read, a
        line lacks its accuracy, or more images are correct than there are.
    """
    frame = _FILE.read(text)
    counts = zip(frame["correct"], frame["n"], strict=True)
    for number, (correct, n) in enumerate(counts, start=2):
        if not 0 <= correct <= n or n < 1:
            raise UsageError(
                f"line {number} of results.csv has {correct} correct of n = {n}; "
                "allowed: 0 to n, and n 1 or more."
            )
    return frame


def _mean(values: np.ndarray | None) -> float | None:
    finite = _finite(values)
    return None if finite is None else float(np.mean(finite))


def _median(values: np.ndarray | None) -> float | None:
    finite = _finite(values)
    return None if finite is None else float(np.median(finite))


def _finite(values: np.ndarray | None) -> np.ndarray | None:
    """Returns the finite entries in double precision, or None if there are none."""
    if values is None:
        return None
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    return values if values.size else None
