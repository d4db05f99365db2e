"""Measures of a generator: its errors of reconstruction, and its samples' likeness.

Samples are compared with test images in the features of some classifier.  The numbers
depend on these features: they compare generators of one data set in the features of
one classifier, and are no "Inception" scores.
"""

from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float, Int, Real

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation.neighbours import (
    distance_blocks,
    nearest_neighbours,
    radii,
)

__all__ = [
    "ClassCoverage",
    "DensityCoverage",
    "ErrorSummary",
    "PrecisionRecall",
    "class_coverage",
    "density_coverage",
    "error_summary",
    "frechet_distance",
    "nearest_neighbours",
    "precision_recall",
]

_RESAMPLES = 2000
_BLOCK = 2**22


class PrecisionRecall(NamedTuple):
    """Shares of one set that lie on the manifold of the other."""

    precision: float
    """Share of the generated images that lie among the real ones."""
    recall: float
    """Share of the real images that lie among the generated ones."""


class DensityCoverage(NamedTuple):
    """How densely, and how completely, samples fill the real images' balls."""

    density: float
    """Real balls that a generated image lies in, over k, in the mean; may exceed 1."""
    coverage: float
    """Share of the real images whose ball holds a generated image."""


class ClassCoverage(NamedTuple):
    """Which classes a generator makes."""

    share: float
    """`covered` over the number of classes."""
    covered: int
    """How many classes hold a tenth of an equal share of the images, or more."""
    distribution: Float[np.ndarray, " classes"]
    """Share of the images in each class; less than 1 in all where some have none."""


class ErrorSummary(NamedTuple):
    """Mean, median and 95th percentile of errors, with intervals.

    An end of an interval is None where there are too few errors to know it.
    """

    n: int
    """How many errors are finite; the others are left out."""
    mean: float
    mean_low: float
    mean_high: float
    median: float
    median_low: float | None
    median_high: float | None
    p95: float
    p95_low: float | None
    p95_high: float | None


def frechet_distance(
    real: Float[np.ndarray, "n d"], fake: Float[np.ndarray, "m d"]
) -> float:
    """Returns the squared Fréchet distance of the Gaussians fitted to two sets.

    `|mean - mean'|^2 + trace(C + C' - 2 (C^1/2 C' C^1/2)^1/2)`, with the unbiased
    covariances C and C'.  The last trace is the sum of the singular values of
    C^1/2 C'^1/2, which are computed without squaring anything, so that more
    dimensions than images do no harm.  Zero for equal sets only up to rounding, and
    too large in the mean for small ones: compare at equal numbers of images.

    Args:
      real: features of real images.
      fake: features of generated images, of the same network.

    Raises:
      UsageError: for fewer than 2 images of a kind, or features that are not finite.

    Source: M. Heusel et al., "GANs trained by a two time-scale update rule converge to
    a local Nash equilibrium", NeurIPS 2017, where features are those of an Inception
    network, which this function does not know.
    """
    real, fake = _checked(real, fake, least=2)
    difference = real.mean(axis=0) - fake.mean(axis=0)
    left, right = _root(real), _root(fake)
    common = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    spread = np.sum(left**2) + np.sum(right**2) - 2 * common
    return float(difference @ difference + max(spread, 0.0))


def precision_recall(
    real: Float[np.ndarray, "n d"], fake: Float[np.ndarray, "m d"], k: int = 5
) -> PrecisionRecall:
    """Returns the shares of each set inside the balls around the other's members.

    Each ball reaches to its centre's k-th nearest neighbour of its own set.

    Args:
      real: features of real images, more than k.
      fake: features of generated images, more than k.
      k: the neighbour that gives the radius.

    Raises:
      UsageError: for too few images, or features that are not finite.

    Source: T. Kynkäänniemi et al., "Improved precision and recall metric for assessing
    generative models", NeurIPS 2019 (with k = 3).
    """
    real, fake = _centred(*_checked(real, fake, least=2))
    real_radii, fake_radii = radii(real, k), radii(fake, k)
    precise = np.zeros(len(fake), bool)
    recalled = np.zeros(len(real), bool)
    for part, squared in distance_blocks(real, fake):
        precise |= (squared <= real_radii[part, None]).any(axis=0)
        recalled[part] = (squared <= fake_radii[None]).any(axis=1)
    return PrecisionRecall(float(precise.mean()), float(recalled.mean()))


def density_coverage(
    real: Float[np.ndarray, "n d"], fake: Float[np.ndarray, "m d"], k: int = 5
) -> DensityCoverage:
    """Returns density and coverage, from balls around the real images alone.

    Unlike precision and recall they are not inflated by single outliers, and need
    few generated images.

    Args:
      real: features of real images, more than k.
      fake: features of generated images.
      k: the neighbour that gives the radius.

    Raises:
      UsageError: for too few images, or features that are not finite.

    Source: M. F. Naeem et al., "Reliable fidelity and diversity metrics for generative
    models", ICML 2020, equations 3 and 4.
    """
    real, fake = _centred(*_checked(real, fake, least=1))
    reach = radii(real, k)
    inside, covered = 0, 0
    for part, squared in distance_blocks(real, fake):
        within = squared <= reach[part, None]
        inside += int(within.sum())
        covered += int(within.any(axis=1).sum())
    return DensityCoverage(inside / (k * len(fake)), covered / len(real))


def class_coverage(predictions: Int[np.ndarray, " n"], classes: int) -> ClassCoverage:
    """Returns which classes hold at least a tenth of an equal share of the images.

    A class is covered from n / (10 classes) images on: 1 % of them for 10 classes.

    >>> class_coverage(np.array([0, 0, 1, 0]), classes=3).covered
    2

    Args:
      predictions: classes that a classifier gives to samples; -1 is no class.
      classes: how many there are.

    Raises:
      UsageError: for no images, or a class that there is not.
    """
    n = len(predictions)
    if n < 1 or classes < 1:
        raise UsageError(
            f"predictions hold {n} images of {classes} classes; allowed: 1 or more."
        )
    if predictions.min() < -1 or predictions.max() >= classes:
        raise UsageError(
            f"predictions lie in [{predictions.min()}, {predictions.max()}]; allowed: "
            f"0 to {classes - 1}, and -1 for no class."
        )
    counts = np.bincount(predictions[predictions >= 0], minlength=classes)
    covered = int(np.sum(10 * classes * counts >= n))
    return ClassCoverage(covered / classes, covered, counts / n)


def error_summary(
    errors: Real[np.ndarray, " n"], confidence: float = 0.95
) -> ErrorSummary:
    """Returns mean, median and 95th percentile of errors, each with its interval.

    The interval of the mean holds the middle of the means of 2,000 resamples of the
    errors (the percentile bootstrap, always with the same random numbers).  Those of
    median and percentile lie between order statistics that the binomial distribution
    picks, whatever the errors' distribution, and hold at least the given confidence.

    Args:
      errors: one for each image; those that are not finite are left out.
      confidence: coverage of the intervals, between 0 and 1.

    Raises:
      UsageError: if no error is finite, or for a confidence outside its bounds.

    Source: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of
    Statistics 7 (1979); H. A. David and H. N. Nagaraja, "Order statistics", 3rd
    edition, section 7.1.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}; allowed: above 0 and below 1.")
    known = np.sort(errors[np.isfinite(errors)].astype(np.float64))
    if not known.size:
        raise UsageError("errors hold no finite value; allowed: 1 or more.")
    mean_low, mean_high = _bootstrap(known, confidence)
    median_low, median_high = _order_interval(known, 0.5, confidence)
    p95_low, p95_high = _order_interval(known, 0.95, confidence)
    return ErrorSummary(
        n=len(known),
        mean=float(known.mean()),
        mean_low=mean_low,
        mean_high=mean_high,
        median=float(np.median(known)),
        median_low=median_low,
        median_high=median_high,
        p95=float(np.quantile(known, 0.95)),
        p95_low=p95_low,
        p95_high=p95_high,
    )


def _bootstrap(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Returns the middle `confidence` of the means of resamples."""
    random = np.random.default_rng(0)
    means = []
    while len(means) < _RESAMPLES:
        rows = min(_RESAMPLES - len(means), max(1, _BLOCK // len(values)))
        drawn = random.integers(len(values), size=(rows, len(values)))
        means += list(values[drawn].mean(axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    # A mean lies inside its own interval, up to rounding where all values are equal.
    mean = float(values.mean())
    return min(float(low), mean), max(float(high), mean)


def _order_interval(
    ordered: np.ndarray, quantile: float, confidence: float
) -> tuple[float | None, float | None]:
    """Returns the order statistics around a quantile; None where they run out."""
    n, tail = len(ordered), (1 - confidence) / 2
    # below[j]: probability that at most j of the n values lie under the quantile.
    below = scipy.special.bdtr(np.arange(n), n, quantile)
    low = int(np.searchsorted(below, tail, side="right")) - 1
    high = int(np.searchsorted(below, 1 - tail, side="left"))
    return (
        float(ordered[low]) if low >= 0 else None,
        float(ordered[high]) if high < n else None,
    )


def _root(features: np.ndarray) -> np.ndarray:
    """Returns a matrix R with R^T R the covariance, of as few rows as it needs."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _checked(
    real: np.ndarray, fake: np.ndarray, *, least: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns both sets in double precision."""
    for name, features in (("real", real), ("fake", fake)):
        if len(features) < least:
            raise UsageError(
                f"{name} holds {len(features)} images; allowed: {least} or more."
            )
        if not np.isfinite(features).all():
            raise UsageError(
                f"{name} holds features that are not finite; allowed: numbers."
            )
    return real.astype(np.float64), fake.astype(np.float64)


def _centred(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both sets about the real ones' mean, where squares lose no digits."""
    mean = real.mean(axis=0)
    return real - mean, fake - mean
