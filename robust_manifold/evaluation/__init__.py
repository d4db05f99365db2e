"""Accuracy with intervals, worst cases and the lines of results.csv."""

from robust_manifold.evaluation.intervals import Interval, wilson_interval
from robust_manifold.evaluation.results import (
    COLUMNS,
    Cell,
    PerturbationNorms,
    perturbation_norms,
    predictions_of,
    read_results,
    summarise,
    to_csv,
    to_frame,
    worst_case,
)

__all__ = [
    "COLUMNS",
    "Cell",
    "Interval",
    "PerturbationNorms",
    "perturbation_norms",
    "predictions_of",
    "read_results",
    "summarise",
    "to_csv",
    "to_frame",
    "wilson_interval",
    "worst_case",
]
