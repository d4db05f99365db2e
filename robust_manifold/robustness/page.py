"""The tables, figures and the page of an evaluation."""

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from robust_manifold.evaluation.cascades import AtBudget
from robust_manifold.reporting import Notice, Report, ReportFigure, Section, Table
from robust_manifold.reporting.figures import (
    SheetGroup,
    SheetRow,
    projection_sheet,
    to_png,
    yield_bars,
)
from robust_manifold.reporting.figures.canvas import (
    DASHES,
    INK,
    LINES,
    MARKERS,
    WRONG,
    laid_out,
    new_figure,
    styled,
)
from robust_manifold.reporting.html import render_html
from robust_manifold.reporting.labels import budget_label, norm_label
from robust_manifold.reporting.tables import MISSING
from robust_manifold.robustness import text
from robust_manifold.robustness.record import Line, Record
from robust_manifold.runtime import provenance

_SHOWN = 10
"""Images of a sheet."""

_EXPLANATION = (
    "What the classifier is worth under attack: an image counts as right at a budget "
    "if it is right untouched and under every attack that was made on it. Attacks are "
    "upper bounds: a stronger one may leave less."
)


def figures_table(evaluation: Record) -> Table:
    """Returns the figures: a line for the clean images and for each budget."""
    lines = evaluation.lines
    shown = pd.DataFrame(
        {
            "Budget": [budget_label(line.norm, _radius(line)) for line in lines],
            "Right": [
                f"{100 * line.accuracy:.1f} % [{100 * line.low:.1f}, "
                f"{100 * line.high:.1f}]"
                for line in lines
            ],
            "Gradients": [_count(line, line.gradients) for line in lines],
            "Outputs": [_count(line, line.outputs) for line in lines],
        }
    )
    caption = (
        f"n = {len(evaluation.labels):,} images, with 95 % Wilson intervals. Right: "
        "untouched and under every attack. Gradients and outputs of what the attack "
        "sees: of an image, a mean."
    )
    title = "Worst case" if evaluation.name == "none" else f"{evaluation.name}"
    return Table(title, caption, shown, pd.DataFrame(lines).drop(columns="broken_by"))


def _radius(line: Line) -> float | None:
    return line.epsilon if line.norm else None


def _count(line: Line, value: float) -> str:
    return f"{value:,.0f}" if line.norm else MISSING


@styled
def plotted(evaluations: Sequence[Record], names: Sequence[str] = ()) -> Figure:
    """Returns accuracy against the radius: a panel a norm, a line an evaluation.

    Args:
      evaluations: of the same images.
      names: of them, for a legend; none by default.
    """
    norms = dict.fromkeys(
        line.norm for each in evaluations for line in each.lines if line.norm
    )
    figure = new_figure(1.6 + 3.4 * len(norms), 3.6, layout="constrained")
    if not names:
        # In the picture itself: it is pasted elsewhere without its table.
        flagged = bool(evaluations[0].flags)
        told = text.flag_notice(evaluations[0]) if flagged else "no flag"
        place = {"x": 0.01, "ha": "left", "fontsize": 9}
        heading = text.heading(evaluations[0])
        figure.suptitle(f"{heading}\n{told}", color=WRONG if flagged else INK, **place)
    grid = figure.subplots(1, len(norms), squeeze=False, sharey=True).ravel()
    for axes, norm in zip(grid, norms, strict=True):
        for place, each in enumerate(evaluations):
            clean, *rest = each.lines
            lines = [clean, *(line for line in rest if line.norm == norm)]
            radii, shares = (
                [line.epsilon for line in lines],
                [line.accuracy for line in lines],
            )
            colour = LINES[(place + 1) % len(LINES)]
            axes.errorbar(
                radii,
                shares,
                yerr=[
                    [line.accuracy - line.low for line in lines],
                    [line.high - line.accuracy for line in lines],
                ],
                color=colour,
                linestyle=DASHES[place % len(DASHES)],
                marker=MARKERS[place % len(MARKERS)],
                capsize=3,
                label=names[place] if names else None,
                clip_on=False,
            )
            for line in lines if len(evaluations) == 1 else ():
                axes.annotate(
                    f"{100 * line.accuracy:.1f} %",
                    (line.epsilon, line.accuracy),
                    xytext=(6, 6),
                    textcoords="offset points",
                    fontsize=8.5,
                    color=colour,
                )
        axes.set_xlabel(f"ε ({norm_label(norm)}, pixels in [0, 1])")
        axes.set_ylim(0, 1)
        axes.set_xlim(left=0)
        axes.margins(x=0.15)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    grid[0].set_ylabel("right under every attack")
    if names:
        figure.legend(
            *grid[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=min(len(names), 3),
        )
    return laid_out(figure)


def page(evaluation: Record) -> str:
    """Returns the report page as one text that needs no other file."""
    flags = evaluation.flags
    parts = provenance.here(sys.argv)
    report = Report(
        title=text.heading(evaluation),
        explanation=" ".join([_EXPLANATION, *evaluation.notes]),
        notice=Notice(text.flag_notice(evaluation), "Checks") if flags else None,
        tables=[figures_table(evaluation)],
        figures=[],
        sections=[_broken(evaluation), _checks(evaluation), *_sheets(evaluation)],
        stage_seconds={"worst case": evaluation.seconds},
        config={},
        environment={**parts["versions"], "devices": provenance.device_text(parts)},
        command=_command(evaluation),
    )
    return render_html(report)


def _command(evaluation: Record) -> str:
    """Returns the call, as far as an evaluation knows of it."""
    radii: dict[str, list[float]] = {}
    for each in evaluation.budgets:
        radii.setdefault(each.budget.norm, []).append(each.budget.epsilon)
    defence = "" if evaluation.name == "none" else f"defence={evaluation.name}, "
    return (
        f"robust_manifold.evaluate(classifier, images, labels, {defence}"
        f"epsilons={radii}, effort={evaluation.effort!r})"
    )


def _broken(evaluation: Record) -> Section:
    """Returns who broke what, as a picture and a table."""
    names = dict.fromkeys(
        share.member
        for found in evaluation.budgets
        for share in found.shares
        # Attacks on donors break nothing: what they made is handed on.
        if share.broken or (share.forwards and not share.member.startswith("attack on"))
    )
    yields = {
        name: {
            budget_label(*found.budget): share.broken
            for found in evaluation.budgets
            for share in found.shares
            if share.member == name
        }
        for name in names
    }
    rows = [
        {
            "Budget": budget_label(*found.budget),
            "Member": share.member,
            "Given": f"{share.images:,}",
            "Broken": f"{share.broken:,}",
            "Gradients": f"{share.backwards:,.0f}",
            "Outputs": f"{share.forwards:,.0f}",
            "Seconds": f"{share.seconds:,.1f}",
        }
        for found in evaluation.budgets
        for share in found.shares
    ]
    members = Table(
        "Every member",
        "Given: images that all before it had left. Gradients, outputs and seconds: "
        "in all, with compilation.",
        pd.DataFrame(rows),
        pd.DataFrame(rows),
        names=2,
    )
    bars = ReportFigure(
        "Who broke what",
        "Members in their order; each was given what all before it had left.",
        to_png(yield_bars(yields, {}, axis="images broken first")),
    )
    accuracy = ReportFigure(
        "Accuracy against the radius",
        "With 95 % Wilson intervals.",
        to_png(plotted((evaluation,))),
    )
    return Section(
        "Worst case",
        figures=[accuracy, bars],
        folded=[members],
        fold="What each member did, and what it cost",
    )


def _checks(evaluation: Record) -> Section:
    rows = [
        {"Verdict": each.verdict, "Check": each.name, "What was seen": each.sentence}
        for each in evaluation.audit
    ]
    shown = pd.DataFrame(rows, columns=["Verdict", "Check", "What was seen"])
    caption = "A report without flags is no proof of robustness: no attack is."
    return Section("Checks", tables=[Table("", caption, shown, shown, 3, prose=True)])


def _sheets(evaluation: Record) -> list[Section]:
    """Returns pictures of what fell and of what stands, where there are any to draw."""
    if evaluation.clean_images.shape[-1] not in (1, 3):
        return []
    figures = []
    for norm in dict.fromkeys(each.budget.norm for each in evaluation.budgets):
        own = [each for each in evaluation.budgets if each.budget.norm == norm]
        largest = own[-1]
        fell = np.flatnonzero(largest.broken & (evaluation.clean < 1))
        stands = np.flatnonzero(~largest.broken)
        stands = stands[np.argsort(-largest.margin[stands], kind="stable")]
        where = budget_label(*largest.budget)
        groups = [
            (title, _group(evaluation, own, places[:_SHOWN]))
            for places, title in (
                (fell, f"Broken at {where}"),
                (stands, f"Left at {where}, the nearest to falling first"),
            )
            if len(places)
        ]
        if groups:
            figures += [
                ReportFigure(
                    title,
                    "Above an image its label; below the clean image the worst one in "
                    "each ball.",
                    to_png(projection_sheet([group], class_names=_names(evaluation))),
                )
                for title, group in groups
            ]
    return [Section("Images", figures=figures)] if figures else []


def _group(
    evaluation: Record, own: Sequence[AtBudget], places: np.ndarray
) -> SheetGroup:
    rows = [SheetRow("clean", evaluation.clean_images[places])]
    rows += [SheetRow(budget_label(*each.budget), each.images[places]) for each in own]
    return SheetGroup("", evaluation.labels[places], rows)


def _names(evaluation: Record) -> list[str]:
    return [str(name) for name in range(int(evaluation.labels.max()) + 1)]
