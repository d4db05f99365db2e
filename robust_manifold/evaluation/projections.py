"""Projections of single images: their lines in projections.csv, and a summary."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

NEAR = 0.05
"""Restarts whose error is above the best by at most this share are near the best."""


class ProjectionLine(NamedTuple):
    """One image of projections.csv.

    Attributes:
      name: of the image.
      error: mean squared error per pixel of its projection; None if it was skipped.
      norm: plain Euclidean norm of projection - image.
      status: how the best restart ended, by name; empty if the image was skipped.
      near_best: share of the restarts whose error is within `NEAR` of the best.
      rejected: whether the error is above the limit; None if there is no limit.
      reason: why the image was skipped; empty if it was not.
    """

    name: str
    error: float | None = None
    norm: float | None = None
    status: str = ""
    near_best: float | None = None
    rejected: bool | None = None
    reason: str = ""


class ProjectionSummary(NamedTuple):
    """What came out for all images.

    Attributes:
      projected: number of images that were projected.
      skipped: number of images that could not be used.
      error_median: median error; None without a projection.
      error_90: the least error that 90 % of the images do not exceed.
      rejected: number of images above the limit; None if there is no limit.
      statuses: number of images by how their best restart ended.
    """

    projected: int
    skipped: int
    error_median: float | None
    error_90: float | None
    rejected: int | None
    statuses: dict[str, int]


def share_near_best(
    restart_errors: Float[np.ndarray, "n restarts"],
) -> Float[np.ndarray, " n"]:
    """Returns the share of the restarts that came within `NEAR` of the best one.

    A restart that was dropped on the way counts with the error that it had then; one
    without a finite error is never near.
    """
    best = restart_errors.min(axis=-1, keepdims=True)
    near = np.isfinite(restart_errors) & (restart_errors <= (1 + NEAR) * best)
    return near.mean(axis=-1)


def projections_to_csv(lines: Sequence[ProjectionLine], *, limited: bool) -> str:
    """Returns the text of projections.csv.

    Args:
      lines: one an image.
      limited: whether errors have a limit; without one there is no column rejected.
    """
    columns = [c for c in ProjectionLine._fields if limited or c != "rejected"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for line in lines:
        writer.writerow([_text(getattr(line, column)) for column in columns])
    return stream.getvalue()


def summarise_projections(
    lines: Sequence[ProjectionLine], *, limited: bool
) -> ProjectionSummary:
    """Returns the summary of the lines; arguments as for `projections_to_csv`."""
    errors = np.array([line.error for line in lines if line.error is not None])
    statuses = [line.status for line in lines if line.status]
    return ProjectionSummary(
        projected=len(errors),
        skipped=len(lines) - len(errors),
        error_median=float(np.median(errors)) if len(errors) else None,
        error_90=_least_of(errors, 0.9),
        rejected=sum(line.rejected is True for line in lines) if limited else None,
        statuses={name: statuses.count(name) for name in sorted(set(statuses))},
    )


def _least_of(errors: np.ndarray, share: float) -> float | None:
    """Returns the least of the errors that this share of them does not exceed."""
    if not len(errors):
        return None
    return float(np.quantile(errors, share, method="inverted_cdf"))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format(value, ".6g") if isinstance(value, float) else str(value)
