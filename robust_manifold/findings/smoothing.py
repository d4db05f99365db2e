"""Smoothed columns: votes under noise, and the radii that they certify."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robust_manifold import certification, data, defenses
from robust_manifold.certification import Smoothing
from robust_manifold.config import Column
from robust_manifold.findings.certificates import share_text
from robust_manifold.findings.columns import file_of, title_of
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import ReportFigure, Table, figures
from robust_manifold.reporting.columns import target_label
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.pace import Pace, Part, cost_of_column
from robust_manifold.stages.table.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)
from robust_manifold.stages.table.rows import folder_name

SUMMARY = "smoothing.json"
RADII = (0.25, 0.5, 0.75, 1.0, 1.5, 1.58, 2.0)
"""At which a table tells the certified accuracy; curves have all."""


class _Setting(NamedTuple):
    """What is certified: a column under noise."""

    column: Column
    smoothing: Smoothing

    @property
    def folder(self) -> str:
        """Where its rounds lie."""
        noise = folder_name(certification.smoothings.to_string(self.smoothing))
        return f"smoothing/{file_of(self.column)}/{noise}"


def find(context: Context) -> list[str]:
    """Writes rounds of counts, and `smoothing.json`; returns the files."""
    settings = _settings(context)
    parts = {
        each: Part(
            context.data.test.size,
            cost_of_column(context, each.column)
            * (each.smoothing.n0 + each.smoothing.n),
            stored_images(context, [each.folder]),
        )
        for each in settings
    }
    with Pace("smoothing", "images", parts) as pace:
        for each in settings:
            compute_rounds(
                context,
                each.folder,
                _counter(context, each),
                pace.teller(each, show=("column", each.column.text)),
            )
    lines = [line for each in settings for line in _lines(context, each)]
    context.folder.write_json(SUMMARY, lines)
    return [*round_paths(context, [each.folder for each in settings]), SUMMARY]


def _counter(
    context: Context, setting: _Setting
) -> Callable[[slice, data.Split], dict[str, np.ndarray]]:
    """Returns what counts the votes on the images of one round."""
    column = setting.column
    apply = defenses.DefendedApply(
        column.defence,
        context.networks.of_defences,
        context.networks.classifier_of(column.classifier).apply,
    )
    params = trained.load_column(context, column)

    def counted(place: slice, part: data.Split) -> dict[str, np.ndarray]:
        del place
        counts = certification.count(
            apply,
            params,
            data.to_float(part.images),
            smoothing=setting.smoothing,
            classes=_classes(context, column),
            # The same noise for every column: they differ by what they make of it.
            key=context.stream("smoothing"),
            ids=part.ids,
        )
        return counts._asdict() | {"labels": part.labels}

    return counted


def _classes(context: Context, column: Column) -> int:
    """Returns the number of a column's logits; one that rejects has one more."""
    classes = len(context.data.dataset.class_names)
    return column.defence.criterion.widened(np.zeros(classes)).shape[-1]


class _Read(NamedTuple):
    correct: np.ndarray
    radius: np.ndarray
    abstained: np.ndarray
    seconds: float


def _read(context: Context, setting: _Setting) -> _Read:
    stored = read_rounds(context, setting.folder)
    counts = certification.Counts(stored["choosing"], stored["bounding"])
    found = certification.smoothed(counts, setting.smoothing)
    return _Read(
        found.prediction == stored["labels"],
        found.radius,
        found.prediction == certification.ABSTAINED,
        float(stored["seconds"]),
    )


def _lines(context: Context, setting: _Setting) -> list[dict[str, Any]]:
    """Returns what smoothing.json holds of a setting, a line a radius."""
    found, smoothing = _read(context, setting), setting.smoothing
    return [
        {
            "column": setting.column.text,
            "sigma": smoothing.sigma,
            "n0": smoothing.n0,
            "draws": smoothing.n,
            "alpha": smoothing.alpha,
            "radius": radius,
            "n": len(found.correct),
            "clean": int(found.correct.sum()),
            "abstained": int(found.abstained.sum()),
            "certified": int((found.correct & (found.radius >= radius)).sum()),
        }
        for radius in RADII
        if radius <= most(smoothing)
    ]


def most(smoothing: Smoothing) -> float:
    """Returns the largest radius that its draws can certify: that of all alike."""
    alike = certification.Counts(np.array([[smoothing.n0]]), np.array([[smoothing.n]]))
    return float(certification.smoothed(alike, smoothing).radius[0])


def table_of(lines: Sequence[dict[str, Any]], *, confidence: float = 0.95) -> Table:
    """Returns the table of certified accuracies, a line a column, noise and radius."""
    text = [
        [
            target_label(line["column"]),
            f"{line['sigma']:g}",
            f"{line['n0']:,} + {line['draws']:,}",
            share_text(line["clean"], line["n"]),
            share_text(line["abstained"], line["n"]),
            f"ℓ2 {line['radius']:g}",
            share_text(line["certified"], line["n"], confidence),
        ]
        for line in lines
    ]
    heads = ["Column", "σ", "Draws", "Clean", "Abstains", "Radius", "Certified"]
    alphas = ", ".join(f"{alpha:g}" for alpha in {line["alpha"]: 0 for line in lines})
    caption = (
        f"Share of {lines[0]['n']:,} images that the vote under Gaussian noise gets "
        "right, and whose vote no step up to the radius changes (Cohen et al. 2019; "
        f"{100 * confidence:g} % Wilson interval). Each certificate fails with a "
        f"probability of at most {alphas}, over the noise. The first draws choose the "
        "class, the others bound how often it wins."
    )
    frame = pd.DataFrame(text, columns=heads)
    return Table("Randomised smoothing", caption, frame, pd.DataFrame(list(lines)))


def _show(context: Context) -> Shown:
    """Returns the table, and a curve for each setting."""
    curves = []
    for setting in _settings(context):
        found = _read(context, setting)
        radii = np.where(found.correct, found.radius, -1.0)
        name = f"{title_of(setting.column)}, σ = {setting.smoothing.sigma:g}"
        curves.append(figures.CertifiedCurve(name, radii, radii))
    figure = ReportFigure(
        "Certified accuracy of votes under noise",
        "Share of images that are right, and certified up to a radius.",
        figures.to_png(figures.certified_curves({"radius in ℓ2": curves})),
    )
    confidence = context.experiment.evaluation.confidence
    table = table_of(context.folder.read_json(SUMMARY), confidence=confidence)
    return Shown([table], figures=[("smoothing", figure)])


def _settings(context: Context) -> list[_Setting]:
    block = context.experiment.evaluation
    return [_Setting(c, s) for c in block.columns for s in block.smoothing]


def _results(group: Group) -> Iterator[Passage]:
    if tables := [*group.tables_by_seed(SUMMARY, table_of)]:
        yield Passage("Randomised smoothing", tables)


FINDING = Finding(
    name="smoothing",
    after="evaluate",
    wanted=lambda experiment: bool(experiment.evaluation.smoothing),
    find=find,
    writes=(SUMMARY, "smoothing/"),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
)
