"""Tables of inversion: solvers side by side, and what its projections are worth."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.labels import column_labels, label_of, restarts_label
from robust_manifold.reporting.tables import MISSING, Table, lines_of


def solvers_table(
    solvers: pd.DataFrame, *, near: float, confidence: float = 0.95
) -> Table:
    """Returns the table "How inversion does": a row for each solver.

    Args:
      solvers: the lines of diagnostics.csv, one solver each.
      near: by which share above the best error a restart is in the best basin.
      confidence: coverage of the intervals in `solvers`, for the caption.

    Raises:
      UsageError: for no solver.
    """
    lines = lines_of(solvers)
    if not lines:
        raise UsageError("solvers hold 0 lines; allowed: 1 or more.")
    rows = {
        "Solver": column_labels([line.solver for line in lines]),
        "Steps": [f"{line.steps:,}" for line in lines],
        "Passes": [f"{line.passes:,.0f}" for line in lines],
        "Error, mean ↓": [_with_interval(line, "error_mean", _error) for line in lines],
        "Median": [_error(line.error_median) for line in lines],
        "Basin ↑": [
            _with_interval(line, "near_best", _whole_percent) for line in lines
        ],
    }
    if any(line.failed for line in lines):
        rows["Failed"] = [f"{line.failed:,}" for line in lines]
    first = lines[0]
    caption = (
        f"How inversion does, on {first.n:,} test images from the same starts for all "
        f"solvers: {restarts_label(first.restarts)}. Error: mean square over the "
        "pixels between an image and its projection. Passes: forward or backward, "
        "through the generator, of all starts of an image together. Basin: "
        "share of the starts that end in the best basin, within "
        f"{100 * near:g} % of the error of the image's best start, itself included, "
        "where all starts are followed to their end. "
        f"Bootstrap intervals of {100 * confidence:g} %, over images."
    )
    title = "Solvers of inversion compared"
    return Table(title, caption, pd.DataFrame(rows), solvers)


def checks_table(
    summary: Mapping[str, Any], *, solver: str, restarts: str, confidence: float = 0.95
) -> Table:
    """Returns the table of projections projected again, and of latents found again.

    Args:
      summary: what diagnostics.json holds: a "repetition" and a "recovery", or None
        for the latter.
      solver: text of the solver.
      restarts: text of the starts of each image.
      confidence: coverage of the interval, for the caption.
    """
    again, recovery = summary["repetition"], summary["recovery"]
    rows: dict[str, tuple[str, float | None]] = {
        "Error of P(x) against x": (_error(again["error"]), again["error"]),
        "Error of P(P(x)) against P(x)": (
            _error(again["again_error"]),
            again["again_error"],
        ),
        "ℓ2 distance from x to P(x)": (_short(again["distance"]), again["distance"]),
        "ℓ2 distance from P(x) to P(P(x))": (
            _short(again["again_distance"]),
            again["again_distance"],
        ),
    }
    captions = [
        f"Projections P by {label_of(solver)}, {restarts_label(restarts)}. Of "
        f"{again['n']:,} test images x, medians: the error, a mean square over the "
        "pixels, and the plain distance."
    ]
    if again["failed"]:
        captions.append(f"{again['failed']:,} images had no finite projection.")
    if recovery is not None:
        low, high = 100 * recovery["low"], 100 * recovery["high"]
        share = recovery["share"]
        rows |= {
            "x = G(z) found again": (
                f"{_percent(share)} [{low:.1f}, {high:.1f}]",
                share,
            ),
            "Error of P(G(z)) against G(z)": (
                _error(recovery["error_median"]),
                recovery["error_median"],
            ),
            "Distance from z to z*": (
                _short(recovery["distance_median"]),
                recovery["distance_median"],
            ),
            "Distance of two such z": (
                _short(recovery["apart_median"]),
                recovery["apart_median"],
            ),
        }
        captions.append(
            f"Of {recovery['n']:,} images of latents z drawn from the prior: the share "
            f"found again to an error of at most {recovery['limit']:g}, with its "
            f"{100 * confidence:g} % Wilson interval, and medians."
        )
    return Table(
        "Projections projected again, and latents found again"
        if recovery is not None
        else "Projections projected again",
        " ".join(captions),
        pd.DataFrame(
            [(name, text) for name, (text, _) in rows.items()],
            columns=["Check", "Value"],
        ),
        pd.DataFrame(
            [(name, value) for name, (_, value) in rows.items()],
            columns=["check", "value"],
        ),
    )


def _with_interval(line: Any, name: str, form: Any) -> str:
    value, low, high = (getattr(line, name + end) for end in ("", "_low", "_high"))
    if math.isnan(value):
        return MISSING
    return f"{form(value)} [{form(low, '')}, {form(high, '')}]"


def _percent(share: float, sign: str = " %") -> str:
    return f"{100 * share:.1f}{sign}"


def _whole_percent(share: float, sign: str = " %") -> str:
    return f"{100 * share:.0f}{sign}"


def _error(value: float | None, _: str = "") -> str:
    """Returns an error with as many digits whatever its size."""
    return _written(value, ".2e" if value is not None and value < 1e-4 else "#.3g")


def _short(value: float | None) -> str:
    return _written(value, ".3g")


def _written(value: float | None, form: str) -> str:
    if value is None or math.isnan(value):
        return MISSING
    return format(value, form)
