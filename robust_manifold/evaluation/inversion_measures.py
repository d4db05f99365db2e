"""How inversion does: solvers side by side, projections of projections, recoveries.

All errors are mean squares over the pixels.  An error that is not finite (no iterate
of an inversion was) counts as larger than any other.
"""

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation.intervals import Interval, wilson_interval
from robust_manifold.evaluation.measures import error_summary
from robust_manifold.evaluation.projections import share_near_best
from robust_manifold.evaluation.records import DataFrame, RecordFile

RECOVERED = 1e-4
"""An image of a known latent is found again if its error is at most this."""

_HALVINGS = 60


class SolverLine(NamedTuple):
    """One solver on some images: a line of diagnostics.csv.

    Attributes:
      solver: its text.
      restarts: text of the starts of each image.
      n: number of images.
      failed: how many of them have no finite error; they are left out of the errors.
      steps: of one restart.
      passes: passes through the generator that all restarts of an image took.
      error_mean: mean of the errors of the images' best restarts.
      error_mean_low: lower end of its bootstrap interval.
      error_mean_high: upper end of the same.
      error_median: median of these errors.
      near_best: mean share of an image's restarts that come to an error within
        `NEAR` of its best one, the best one included; all are followed to their end.
      near_best_low: lower end of its bootstrap interval, over images.
      near_best_high: upper end of the same.
    """

    solver: str
    restarts: str
    n: int
    failed: int
    steps: int
    passes: float
    error_mean: float | None
    error_mean_low: float | None
    error_mean_high: float | None
    error_median: float | None
    near_best: float
    near_best_low: float
    near_best_high: float


class Repetition(NamedTuple):
    """The projection P of images x, and of their projections; medians over images.

    What is None could not be measured: no image has a finite error.

    Attributes:
      n: number of images.
      failed: how many of them have no finite projection of a projection.
      error: of P(x) against x.
      again_error: of P(P(x)) against P(x).
      distance: plain Euclidean norm of P(x) - x.
      again_distance: of P(P(x)) - P(x).
    """

    n: int
    failed: int
    error: float | None
    again_error: float | None
    distance: float | None
    again_distance: float | None


class Recovery(NamedTuple):
    """Latents z that were looked for in their own images x = G(z).

    Attributes:
      n: number of latents.
      limit: of the error at which an image counts as found again.
      recovered: number of images found again.
      share: `recovered` over `n`.
      low: lower end of its Wilson interval.
      high: upper end of the same.
      error_median: median of the errors; None if it is not finite.
      distance_median: median distance of the latent found from the true one, the
        entries that choose a class left out.
      apart_median: median distance of two independent latents, for comparison; None
        for a single latent.
    """

    n: int
    limit: float
    recovered: int
    share: float
    low: float
    high: float
    error_median: float | None
    distance_median: float | None
    apart_median: float | None


class Separation(NamedTuple):
    """How far the errors of some images are from those of clean ones.

    Attributes:
      n: number of images.
      low_quartile: a quarter of the errors lies below it.
      median: of the errors.
      high_quartile: a quarter of the errors lies above it.
      auc: probability that one of the images has a larger error than a clean one,
        ties counted half; None for the clean images themselves.
      auc_low: lower end of its interval, see `auc_interval`.
      auc_high: upper end of the same.
    """

    n: int
    low_quartile: float
    median: float
    high_quartile: float
    auc: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None


_ERRORS = tuple(name for name in SolverLine._fields if name.startswith("error_"))
_REQUIRED = tuple(n for n in SolverLine._fields if n not in ("solver", "restarts"))
_FILE = RecordFile(
    name="diagnostics.csv",
    columns=SolverLine._fields,
    texts=("solver", "restarts"),
    counts=("n", "failed", "steps"),
    required=tuple(name for name in _REQUIRED if name not in _ERRORS),
    formats={**dict.fromkeys(_ERRORS, ".10f"), "passes": ".1f"},
)


def cumulated_passes(
    segments: Iterable[tuple[int, int]], passes: float
) -> Float[np.ndarray, " points"]:
    """Returns the passes through the generator after 0, 1, ... all steps.

    >>> cumulated_passes([(2, 4), (1, 2)], 10.0).tolist()
    [0.0, 40.0, 80.0, 100.0]

    Args:
      segments: numbers of steps, and of the restarts that take them together.
      passes: that one step of one restart is worth.
    """
    runs = [np.full(steps, runs) for steps, runs in segments]
    return passes * np.cumsum(np.concatenate([np.zeros(1), *runs]))


def mean_best_curve(
    curves: Float[np.ndarray, "n restarts points"],
) -> Float[np.ndarray, " points"]:
    """Returns the mean over images of the best restart's error after each step.

    Images that have no finite error at the end are left out; without any other image
    all points are NaN.

    Args:
      curves: least error so far of every restart, see `inversion.error_curves`.
    """
    best = _ordered(curves).min(axis=1)
    known = np.isfinite(best[:, -1])
    if not known.any():
        return np.full(best.shape[1], np.nan)
    return best[known].mean(axis=0)


def summarise_solver(
    *,
    solver: str,
    restarts: str,
    passes: float,
    curves: Float[np.ndarray, "n restarts points"],
    restart_errors: Float[np.ndarray, "n restarts"],
    confidence: float = 0.95,
) -> SolverLine:
    """Returns the line that the errors of all restarts add up to.

    Args:
      solver: as in `SolverLine`.
      restarts: as in `SolverLine`.
      passes: as in `SolverLine`.
      curves: least error so far of every restart after 0, 1, ... all steps.
      restart_errors: of restarts that were all followed to their end.
      confidence: coverage of the intervals.

    Raises:
      UsageError: if there are no images.
    """
    errors = _ordered(curves)[..., -1].min(axis=1)
    failed = int(np.sum(~np.isfinite(errors)))
    known: dict[str, float | None] = dict.fromkeys(_ERRORS)
    if failed < len(errors):
        summary = error_summary(errors, confidence)._asdict()
        known = {name: summary[name.removeprefix("error_")] for name in _ERRORS}
    near = error_summary(share_near_best(_ordered(restart_errors)), confidence)
    return SolverLine(
        solver=solver,
        restarts=restarts,
        n=len(errors),
        failed=failed,
        steps=curves.shape[-1] - 1,
        passes=passes,
        **known,
        near_best=near.mean,
        near_best_low=near.mean_low,
        near_best_high=near.mean_high,
    )


def solvers_to_csv(lines: Iterable[SolverLine]) -> str:
    """Returns the text of diagnostics.csv: a header, then one line a solver."""
    return _FILE.to_csv(lines)


def read_solvers(text: str) -> DataFrame:
    """Returns the frame that the text of diagnostics.csv describes.

    Raises:
      UsageError: if the columns are not those of `SolverLine`, or a value cannot be
        read.
    """
    return _FILE.read(text)


def summarise_repetition(
    *,
    errors: Float[np.ndarray, " n"],
    again_errors: Float[np.ndarray, " n"],
    pixels: int,
) -> Repetition:
    """Returns how much less than an image its projection is moved by the projection.

    Args:
      errors: of P(x) against x.
      again_errors: of P(P(x)) against P(x).
      pixels: numbers of one image, its channels included.
    """
    known = np.isfinite(errors) & np.isfinite(again_errors)

    def median(values: np.ndarray) -> float | None:
        return float(np.median(values[known])) if known.any() else None

    return Repetition(
        n=len(errors),
        failed=int(np.sum(~known)),
        error=median(errors),
        again_error=median(again_errors),
        # The norm of a difference, from the mean of its squares.
        distance=median(np.sqrt(pixels * errors)),
        again_distance=median(np.sqrt(pixels * again_errors)),
    )


def summarise_recovery(
    *,
    errors: Float[np.ndarray, " n"],
    latents: Float[np.ndarray, "n latent"],
    found: Float[np.ndarray, "n latent"],
    limit: float = RECOVERED,
    confidence: float = 0.95,
) -> Recovery:
    """Returns how many images of known latents were found again.

    Args:
      errors: of the projections of x = G(z).
      latents: z, independent draws.
      found: the latents of the projections.
      limit: as in `Recovery`.
      confidence: coverage of the interval.

    Raises:
      UsageError: if there are no latents.
    """
    recovered = int(np.sum(errors <= limit))
    interval = wilson_interval(recovered, len(errors), confidence)
    apart = np.linalg.norm(latents[1:] - latents[:-1], axis=-1)
    distances = np.linalg.norm(found - latents, axis=-1)
    return Recovery(
        n=len(errors),
        limit=limit,
        recovered=recovered,
        share=recovered / len(errors),
        low=interval.low,
        high=interval.high,
        error_median=_median(errors),
        distance_median=_median(distances),
        apart_median=_median(apart) if len(apart) else None,
    )


def separation(
    errors: Float[np.ndarray, " n"],
    clean: Float[np.ndarray, " m"] | None = None,
    confidence: float = 0.95,
) -> Separation:
    """Returns the quartiles of errors, and how well errors tell them from clean ones.

    Args:
      errors: of the images.
      clean: errors of clean images; None: the images are the clean ones themselves.
      confidence: coverage of the interval.

    Raises:
      UsageError: if there are no images.
    """
    if not len(errors):
        raise UsageError("errors hold 0 images; allowed: 1 or more.")
    # Order statistics, so that an infinite error makes no NaN of its neighbour.
    low, middle, high = np.quantile(
        _ordered(errors), [0.25, 0.5, 0.75], method="inverted_cdf"
    )
    of_all = Separation(len(errors), float(low), float(middle), float(high))
    if clean is None:
        return of_all
    share = auc(errors, clean)
    interval = auc_interval(share, len(errors), len(clean), confidence)
    return of_all._replace(auc=share, auc_low=interval.low, auc_high=interval.high)


def auc(errors: Float[np.ndarray, " n"], clean: Float[np.ndarray, " m"]) -> float:
    """Returns the area under the ROC curve of telling images from clean ones by error.

    That is the share of the pairs of an image and a clean image in which the image has
    the larger error, where a tie counts as one half: Mann and Whitney's U / (n m).

    >>> auc(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    0.875

    Raises:
      UsageError: if there are no images of a kind.
    """
    n, m = len(errors), len(clean)
    if min(n, m) < 1:
        raise UsageError(f"there are {n} and {m} errors; allowed: 1 or more of each.")
    every = _ordered(np.concatenate([errors, clean]))
    _, place, counts = np.unique(every, return_inverse=True, return_counts=True)
    # Tied values share the mean of the ranks that they take up.
    midranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((midranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def auc_interval(share: float, n: int, m: int, confidence: float = 0.95) -> Interval:
    """Returns an interval of an AUC of `n` images against `m` clean ones.

    Like Wilson's for a share it keeps a width above zero where the AUC is 0 or 1.
    Both sets are taken as independent; where they are images and their attacked
    versions, whose errors rise together, it is rather too wide.

    Args:
      share: the AUC, 0 to 1.
      n: number of images.
      m: number of clean images.
      confidence: coverage of the interval, between 0 and 1.

    Source: R. G. Newcombe, "Confidence intervals for an effect size measure based on
    the Mann-Whitney statistic. Part 2", Statistics in Medicine 25 (2006), method 5,
    with the variance of J. A. Hanley and B. J. McNeil, "The meaning and use of the
    area under a ROC curve", Radiology 143 (1982).
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def reach(area: float) -> float:
        """Returns how far from `area` the AUC of a sample is at most."""
        both = (1 - area) / (2 - area) + area / (1 + area)
        variance = area * (1 - area) * (1 + ((n + m) / 2 - 1) * both) / (n * m)
        return z * math.sqrt(variance)

    def end(far: float) -> float:
        near = share
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            if abs(share - middle) <= reach(middle):
                near = middle
            else:
                far = middle
        return near

    return Interval(end(0.0), end(1.0))


def _ordered(errors: np.ndarray) -> np.ndarray:
    """Returns the errors in double precision, infinite where they are not numbers."""
    errors = errors.astype(np.float64)
    return np.where(np.isnan(errors), np.inf, errors)


def _median(values: np.ndarray) -> float | None:
    """Returns the median; None where it is not finite."""
    median = float(np.median(_ordered(values)))
    return median if math.isfinite(median) else None
