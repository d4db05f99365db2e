"""Curves: accuracy against ε, training, and reconstruction errors."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.columns import ColumnTexts, column_heads, column_of
from robust_manifold.reporting.figures.canvas import (
    DASHES,
    DPI,
    FAINT,
    FAINT_TEXT,
    INK,
    LINES,
    MARKERS,
    WRONG,
    laid_out,
    new_figure,
    styled,
)
from robust_manifold.reporting.figures.pixels import text_width
from robust_manifold.reporting.figures.ticks import label_between
from robust_manifold.reporting.labels import (
    CLEAN,
    adversary_label,
    family_of,
    label_of,
    norm_label,
)
from robust_manifold.reporting.tables import (
    OBLIVIOUS_ONLY,
    is_single,
    lines_of,
    lines_where,
    oblivious_only,
)

_SMOOTH_FROM = 200
"""Records from which on a curve is drawn as its running mean over a pale original."""


_ACROSS = 3
"""Panels of accuracies side by side."""


class _Line(NamedTuple):
    """What a line of accuracies shows, and what else is the same along it."""

    column: ColumnTexts
    adversary: str


@styled
def accuracy_curves(
    results: pd.DataFrame, *, labels: Mapping[str, str] | None = None
) -> Figure:
    """Returns accuracy against ε: a panel for each attack and norm, a line a defence.

    Bands are the intervals of the results; every line starts at ε = 0 with the clean
    accuracy, where that was measured.  Attacks without a budget are left out, and
    worst cases over several attacks.

    Args:
      results: the lines of results.csv, one cell each.
      labels: names to print instead of the derived ones, by attack or defence text.

    Raises:
      UsageError: if no attack in the results has a budget.
    """
    shown = lines_where(results, is_single)
    return _accuracy_panels(shown, labels, oblivious_only(lines_of(results)))


@styled
def worst_case_curves(
    results: pd.DataFrame, *, labels: Mapping[str, str] | None = None
) -> Figure:
    """Returns worst-case accuracy against ε: a panel for each norm, a line a column.

    Arguments and errors as for `accuracy_curves`.
    """
    worst = lines_where(results, lambda row: row.attack == CLEAN or not is_single(row))
    return _accuracy_panels(worst, labels, oblivious_only(lines_of(results)))


def _accuracy_panels(
    results: pd.DataFrame, labels: Mapping[str, str] | None, oblivious: bool
) -> Figure:
    """Returns the curves of all attacks with a budget; see `accuracy_curves`.

    Args:
      results: the lines to draw.
      labels: as for `accuracy_curves`.
      oblivious: whether to write over the panels that nothing knew of the defences.
    """
    rows = lines_of(results)
    clean = {column_of(row): row for row in rows if row.attack == CLEAN}
    panels: dict[tuple[str, str], dict[_Line, list[Any]]] = {}
    for row in rows:
        if row.attack != CLEAN and not math.isnan(row.epsilon):
            panel = panels.setdefault((family_of(row.attack, row.norm), row.norm), {})
            line = _Line(column_of(row), row.adversary)
            panel.setdefault(line, []).append(row)
    if not panels:
        raise UsageError("results hold no attack with a budget; allowed: 1 or more.")
    lines = list(dict.fromkeys(line for panel in panels.values() for line in panel))
    names = _line_names(lines, labels)

    figure, grid = _panels(
        len(panels), columns=_ACROSS, width=3.9, height=3.2, share_y=True
    )
    if oblivious:
        # In the picture itself: it is pasted elsewhere without its caption.
        words = OBLIVIOUS_ONLY[:1].upper() + OBLIVIOUS_ONLY[1:]
        figure.suptitle(words, x=0.01, ha="left", fontsize=11, color=WRONG)
    for axes, ((family, norm), panel) in zip(grid, panels.items(), strict=True):
        for line, cells in panel.items():
            start = clean.get(line.column)
            points = [(0.0, start)] if start is not None else []
            points += sorted(
                ((c.epsilon, c) for c in cells), key=lambda point: point[0]
            )
            place = lines.index(line)
            style = _line_style(place)
            epsilons = [epsilon for epsilon, _ in points]
            axes.plot(
                epsilons,
                [cell.accuracy for _, cell in points],
                marker=MARKERS[place % len(MARKERS)],
                label=names[line],
                clip_on=False,
                zorder=3,
                **style,
            )
            axes.fill_between(
                epsilons,
                [cell.accuracy_low for _, cell in points],
                [cell.accuracy_high for _, cell in points],
                color=style["color"],
                alpha=0.15,
                linewidth=0,
            )
        axes.set_title(label_of(family, labels))
        shown = norm_label(norm)
        axes.set_xlabel(f"ε ({shown}, pixels in [0, 1])" if shown else "ε")
        axes.set_ylim(0, 1)
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    for axes in grid[::_ACROSS]:
        axes.set_ylabel("accuracy")
    handles = {}
    for axes in grid:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    # As many beside each other as there is room for, with a handle each.
    widest = max(text_width(name, 10.0, "normal") for name in handles) / DPI + 0.6
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=max(1, min(len(handles), 4, int(figure.get_figwidth() / widest))),
    )
    return laid_out(figure)


@styled
def training_curves(
    records: Iterable[Mapping[str, Any]],
    *,
    ignore: Sequence[str] = ("seconds", "time", "rate", "eta"),
) -> Figure:
    """Returns the curves of a training: a panel for each stage and kind of quantity.

    Quantities whose names end alike share a panel: all losses of a stage, all its
    accuracies; the outputs `real` and `fake` of a discriminator share one too.

    Args:
      records: `{"stage": ..., "step": ..., name: value, ...}`; a step that was logged
        again after a resumption counts once, with its last value.
      ignore: last words of the names that are no quantities of the training.

    Raises:
      UsageError: if the records hold no number to draw.
    """
    panels: dict[tuple[str, str], dict[str, dict[float, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name in ("stage", "step") or not _is_number(value):
                continue
            kind = _kind_of(name)
            if kind not in ignore:
                panel = panels.setdefault((str(record.get("stage", "")), kind), {})
                panel.setdefault(name, {})[float(record["step"])] = float(value)
    if not panels:
        raise UsageError("records hold no quantity to draw; allowed: 1 or more.")

    figure, grid = _panels(len(panels), columns=2, width=4.8, height=2.9)
    for axes, ((stage, kind), series) in zip(grid, panels.items(), strict=True):
        for place, (name, by_step) in enumerate(series.items()):
            _draw_series(axes, place, _series_label(name, kind), by_step)
        words = [w for w in (stage.replace("_", " "), _PLURALS.get(kind, kind)) if w]
        title = ": ".join(words)
        # Not capitalize(), which would write "kl".
        title = title[:1].upper() + title[1:]
        axes.set_title(title, pad=24 if len(series) > 1 else 8)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        if kind == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
            axes.set_ylim(top=1.0)
        if len(series) > 1:
            # Above the panel, where no curve can run into it.
            axes.legend(
                loc="lower left",
                bbox_to_anchor=(-0.02, 0.98),
                ncols=min(len(series), 4),
                fontsize=9,
                columnspacing=1.2,
                handlelength=1.6,
            )
    return laid_out(figure)


@styled
def error_histogram(
    errors: Mapping[str, Float[np.ndarray, " _"]],
    *,
    threshold: float | None = None,
) -> Figure:
    """Returns histograms of reconstruction errors on a common logarithmic axis.

    The first entry (clean images) is drawn in gray behind each of the others.

    Args:
      errors: mean squares over the pixels, one for each image, by readable name;
        entries that are not finite are left out.
      threshold: error above which a defence rejects an image, drawn as a line.

    Raises:
      UsageError: if an entry holds no finite error.
    """
    finite = {name: _positive(values) for name, values in errors.items()}
    every = np.concatenate([*finite.values(), np.empty(0)])
    if not every.size:
        raise UsageError("errors hold no finite value; allowed: 1 or more.")
    low, high = every.min(), every.max()
    bins = np.geomspace(low / 1.15, high * 1.15, 41)
    (clean_name, clean), *attacks = finite.items()
    shown = attacks or [(clean_name, clean)]

    height = 1.0 if len(shown) > 1 else 1.7
    figure = new_figure(7.2, 1.0 + height * len(shown))
    figure.set_layout_engine("constrained", h_pad=0.05)
    grid = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for place, (axes, (name, values)) in enumerate(zip(grid, shown, strict=True)):
        colour = LINES[1 + place % (len(LINES) - 1)] if attacks else LINES[0]
        if attacks:
            _draw_shares(axes, clean, bins, ":", color=FAINT, alpha=0.35)
        _draw_shares(axes, values, bins, "-", color=colour, alpha=0.3)
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.2, linestyle="--")
        axes.set_xscale("log")
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_yticks([])
        missing = len(errors[name]) - len(values)
        note = f" ({missing} of {len(errors[name])} not finite)" if missing else ""
        axes.set_title(f"{name}: {_median(values)}{note}", fontsize=9.5, pad=3)
    last = grid[-1]
    last.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    label_between(last.xaxis, last.get_xlim(), "g")
    last.tick_params(axis="x", which="both", labelsize=9)
    notes = ["height: share of the images", "lines: medians"]
    if attacks:
        notes.insert(1, f"gray: {clean_name}, {_median(clean)}")
    if threshold is not None:
        notes.append(f"dashed: threshold {threshold:.2g}")
    last.set_xlabel("reconstruction error (mean square per pixel, logarithmic)")
    figure.supxlabel("; ".join(notes), fontsize=8.5, color=FAINT_TEXT)
    return laid_out(figure)


_KINDS = {"real": "discriminator outputs", "fake": "discriminator outputs"}
_PLURALS = {
    "loss": "losses",
    "error": "errors",
    "kl": "KL divergence",
    "frechet": "Fréchet distance",
}


def _kind_of(name: str) -> str:
    last = name.replace("/", "_").replace(".", "_").rsplit("_", 1)[-1]
    return _KINDS.get(last, last)


def _series_label(name: str, kind: str) -> str:
    words = name.replace("/", "_").replace(".", "_").replace("_", " ")
    return words.removesuffix(kind).strip() or "training"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line_names(
    lines: Sequence[_Line], labels: Mapping[str, str] | None
) -> dict[_Line, str]:
    """Returns the column of each line, and its adversary where there are several."""
    heads = column_heads((line.column for line in lines), labels)
    several = len({line.adversary for line in lines}) > 1
    return {
        line: heads[line.column]
        + (f", {adversary_label(line.adversary)}" if several else "")
        for line in lines
    }


def _line_style(place: int) -> dict[str, Any]:
    return {
        "color": LINES[place % len(LINES)],
        "linestyle": DASHES[place % len(DASHES)],
    }


def _panels(
    count: int, *, columns: int, width: float, height: float, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with `count` panels of this size in rows of `columns`."""
    columns = min(columns, count)
    rows = -(-count // columns)
    # A lone panel gets more room than one of several.
    wide = width if columns > 1 else 1.5 * width
    figure = new_figure(wide * columns, height * rows + 0.4, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=share_y).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def _draw_series(
    axes: Axes, place: int, label: str, by_step: Mapping[float, float]
) -> None:
    steps, values = (
        np.array(column) for column in zip(*sorted(by_step.items()), strict=True)
    )
    values[~np.isfinite(values)] = np.nan
    colour = LINES[1 + place % (len(LINES) - 1)]
    if len(steps) >= _SMOOTH_FROM:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        values = _running_mean(values, len(steps) // 50)
    axes.plot(steps, values, label=label, color=colour)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Returns centred means of `window` values, fewer at the ends and beside a NaN."""
    known = np.isfinite(values)
    kernel = np.ones(window)
    sums = np.convolve(np.where(known, values, 0), kernel, mode="same")
    counts = np.convolve(known.astype(float), kernel, mode="same")
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _draw_shares(
    axes: Axes,
    values: np.ndarray,
    bins: np.ndarray,
    median_style: str,
    *,
    color: str,
    alpha: float,
) -> None:
    """Draws the share of the values in each bin, and their median."""
    if not values.size:
        return
    shares = np.histogram(values, bins)[0] / len(values)
    axes.stairs(shares, bins, fill=True, color=color, alpha=alpha)
    axes.axvline(
        float(np.median(values)), color=color, linewidth=1.2, linestyle=median_style
    )
    if median_style == "-":
        axes.stairs(shares, bins, color=color, linewidth=1.5)


def _median(values: np.ndarray) -> str:
    return f"median {np.median(values):.2g}" if values.size else "no finite error"


def _positive(values: np.ndarray) -> np.ndarray:
    """Returns the finite errors, those of exactly 0 raised to where a log can go."""
    return np.maximum(values[np.isfinite(values)].astype(np.float64), 1e-9)


def _thousands(x: float, _: int) -> str:
    return f"{x:,.0f}"
