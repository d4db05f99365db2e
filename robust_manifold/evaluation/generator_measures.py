"""The lines of measures.csv: one trained generator each, by what inversion needs.

The file is text of a fixed format, so that equal runs write equal bytes; the time
stands in the last column alone.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation.intervals import wilson_interval
from robust_manifold.evaluation.measures import (
    class_coverage,
    density_coverage,
    error_summary,
    frechet_distance,
    precision_recall,
)
from robust_manifold.evaluation.records import DataFrame, RecordFile


class GeneratorMeasures(NamedTuple):
    """One trained generator.  What was not measured is None.

    Attributes:
      generator: text of the generator's spec.
      training: text of the training's spec, or where the network was taken from.
      data: name of the data set.
      classifier: text of the spec of the classifier that gives all classes below.
      solver: text of the solver that inverted the test images.
      restarts: text of the starts of each inversion, the best of which counts:
        their number where there is no more to say.
      n: number of test images inverted, none of which the training saw.
      failed: how many of them have no finite error; they are left out of the errors.
      error_mean: mean of the reconstruction errors, mean squares over the pixels.
      error_mean_low: lower end of the bootstrap interval of `error_mean`.
      error_mean_high: upper end of the same.
      error_median: median of the errors.
      error_median_low: lower end of its interval, an order statistic.
      error_median_high: upper end of the same.
      error_p95: 95th percentile of the errors.
      error_p95_low: lower end of its interval, an order statistic.
      error_p95_high: upper end of the same.
      projection_accuracy: share of the n projections that the classifier gets right.
      projection_accuracy_low: lower end of its Wilson interval.
      projection_accuracy_high: upper end of the same.
      clean_accuracy: share of the n images themselves that it gets right.
      features: what the numbers below are computed in.
      samples: number of generated images.
      references: number of test images that they are compared with.
      k: the neighbour that gives the balls of the four numbers after `frechet`.
      frechet: squared Fréchet distance, see `frechet_distance`.
      precision: see `precision_recall`.
      recall: see `precision_recall`.
      density: see `density_coverage`.
      coverage: see `density_coverage`.
      classes: number of classes of the data.
      classes_covered: see `class_coverage`.
      steps: steps that the generator was trained for; 0 where nobody knows.
      seconds: wall time of the training.
    """

    generator: str
    training: str
    data: str
    classifier: str
    solver: str
    restarts: str
    n: int
    failed: int
    error_mean: float | None
    error_mean_low: float | None
    error_mean_high: float | None
    error_median: float | None
    error_median_low: float | None
    error_median_high: float | None
    error_p95: float | None
    error_p95_low: float | None
    error_p95_high: float | None
    projection_accuracy: float
    projection_accuracy_low: float
    projection_accuracy_high: float
    clean_accuracy: float | None
    features: str
    samples: int
    references: int
    k: int
    frechet: float | None
    precision: float | None
    recall: float | None
    density: float | None
    coverage: float | None
    classes: int
    classes_covered: int | None
    steps: int
    seconds: float | None


class SampleMeasures(NamedTuple):
    """What generated images are like, beside real ones; see `GeneratorMeasures`."""

    samples: int
    references: int
    k: int
    frechet: float
    precision: float
    recall: float
    density: float
    coverage: float
    classes_covered: int


MEASURE_COLUMNS: tuple[str, ...] = GeneratorMeasures._fields
"""The columns of measures.csv, in order."""

_ACCURACIES = (
    "projection_accuracy",
    "projection_accuracy_low",
    "projection_accuracy_high",
)
_COUNTS = ("n", "failed", "samples", "references", "k", "classes", "steps")
_ERRORS = tuple(name for name in MEASURE_COLUMNS if name.startswith("error_"))
_FILE = RecordFile(
    name="measures.csv",
    columns=MEASURE_COLUMNS,
    texts=(
        "generator",
        "training",
        "data",
        "classifier",
        "solver",
        "restarts",
        "features",
    ),
    counts=_COUNTS,
    required=(*_COUNTS, *_ACCURACIES),
    formats={
        **dict.fromkeys(_ERRORS, ".8f"),
        "classes_covered": ".0f",
        "seconds": ".3f",
    },
)


def measure_samples(
    real_features: Float[np.ndarray, "n d"],
    fake_features: Float[np.ndarray, "m d"],
    predictions: Int[np.ndarray, " m"],
    *,
    classes: int,
    k: int = 5,
) -> SampleMeasures:
    """Returns all that is computed of a generator's samples.

    Args:
      real_features: features of test images.
      fake_features: features of generated images.
      predictions: classes of the generated images; -1 is no class.
      classes: how many classes the data have.
      k: the neighbour that gives the radius of the balls.

    Raises:
      UsageError: as `frechet_distance`, `precision_recall` and `class_coverage`.
    """
    manifolds = precision_recall(real_features, fake_features, k)
    balls = density_coverage(real_features, fake_features, k)
    return SampleMeasures(
        samples=len(fake_features),
        references=len(real_features),
        k=k,
        frechet=frechet_distance(real_features, fake_features),
        precision=manifolds.precision,
        recall=manifolds.recall,
        density=balls.density,
        coverage=balls.coverage,
        classes_covered=class_coverage(predictions, classes).covered,
    )


def summarise_generator(
    *,
    generator: str,
    training: str,
    data: str,
    classifier: str,
    solver: str,
    restarts: str,
    steps: int,
    classes: int,
    errors: Real[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    predictions: Int[np.ndarray, " n"],
    clean_predictions: Int[np.ndarray, " n"] | None = None,
    features: str = "",
    samples: SampleMeasures | None = None,
    seconds: float | None = None,
    confidence: float = 0.95,
) -> GeneratorMeasures:
    """Returns the line that per-image outcomes of inversion and of samples add up to.

    Args:
      generator: as in `GeneratorMeasures`.
      training: as in `GeneratorMeasures`.
      data: as in `GeneratorMeasures`.
      classifier: as in `GeneratorMeasures`.
      solver: as in `GeneratorMeasures`.
      restarts: as in `GeneratorMeasures`.
      steps: as in `GeneratorMeasures`.
      classes: as in `GeneratorMeasures`.
      errors: reconstruction error of each test image, a mean square over its pixels.
      labels: true classes of the test images.
      predictions: classes of their projections; -1, no class, counts as wrong.
      clean_predictions: classes of the images themselves.
      features: as in `GeneratorMeasures`.
      samples: what `measure_samples` returned.
      seconds: as in `GeneratorMeasures`.
      confidence: coverage of all intervals.

    Raises:
      UsageError: if there are no images.
    """
    n, correct = len(labels), int(np.sum(labels == predictions))
    interval = wilson_interval(correct, n, confidence)
    known: dict[str, float | None] = dict.fromkeys(_ERRORS)
    failed = n - int(np.isfinite(errors).sum())
    if failed < n:
        summary = error_summary(errors, confidence)._asdict()
        known = {name: summary[name.removeprefix("error_")] for name in _ERRORS}
    clean = None
    if clean_predictions is not None:
        clean = float(np.mean(labels == clean_predictions))
    measured: dict[str, Any] = dict.fromkeys(SampleMeasures._fields)
    measured |= dict.fromkeys(("samples", "references", "k"), 0)
    if samples is not None:
        measured = samples._asdict()
    return GeneratorMeasures(
        generator=generator,
        training=training,
        data=data,
        classifier=classifier,
        solver=solver,
        restarts=restarts,
        n=n,
        failed=failed,
        **known,
        projection_accuracy=correct / n,
        projection_accuracy_low=interval.low,
        projection_accuracy_high=interval.high,
        clean_accuracy=clean,
        features=features,
        **measured,
        classes=classes,
        steps=steps,
        seconds=seconds,
    )


def measures_to_csv(measures: Iterable[GeneratorMeasures]) -> str:
    """Returns the text of measures.csv: a header, then one line a generator."""
    return _FILE.to_csv(measures)


def measures_to_frame(measures: Iterable[GeneratorMeasures]) -> DataFrame:
    """Returns the lines as a frame, with NaN for what is None.

    Its numbers are those that `measures_to_csv` writes.
    """
    return read_measures(measures_to_csv(measures))


def read_measures(text: str) -> DataFrame:
    """Returns the frame that the text of measures.csv describes.

    Args:
      text: what `measures_to_csv` returned.

    Raises:
      UsageError: if the columns are not those of `GeneratorMeasures`, a number
        cannot be read, or a line lacks its counts or its accuracy.
    """
    frame = _FILE.read(text)
    counts = zip(frame["failed"], frame["n"], strict=True)
    for number, (failed, n) in enumerate(counts, start=2):
        if not 0 <= failed <= n or n < 1:
            raise UsageError(
                f"line {number} of measures.csv has {failed} failed of n = {n}; "
                "allowed: 0 to n, and n 1 or more."
            )
    return frame
