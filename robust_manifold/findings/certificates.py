"""Certificates of codebooks: radii within which no step changes a prediction."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robust_manifold import certification, data, evaluation
from robust_manifold.config import Column, Experiment
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import Params
from robust_manifold.evaluation.intervals import wilson_interval
from robust_manifold.findings.accuracy import RESULTS
from robust_manifold.findings.columns import file_of, texts_of, title_of
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.recorded import Group
from robust_manifold.models.codebook import Codebook
from robust_manifold.reporting import ReportFigure, Table, figures, tables
from robust_manifold.reporting.columns import column_of, target_label
from robust_manifold.reporting.labels import CLEAN, norm_label
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.pace import Pace, Part
from robust_manifold.stages.table.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)

_SHOWN = 4
"""Prototypes of a class that a report shows."""
SUMMARY, DISTANCES = "certificates.json", "distances.json"
RADII: dict[Norm, tuple[float, ...]] = {
    "l2": (0.5, 1.0, 1.5, 1.58, 2.0, 2.5),
    "linf": (0.05, 0.1, 0.15, 0.2, 0.3),
    "l1": (5.0, 10.0, 12.0),
}
"""At which a table tells the certified accuracy; curves have all."""
_STRETCH = 1.001
"""A way out that goes on to so much of its length must change the class."""


class _Setting(NamedTuple):
    """What is certified: a column, and the steps that are allowed."""

    column: Column
    norm: Norm
    box: bool

    @property
    def folder(self) -> str:
        """Where its rounds lie."""
        within = "-box" if self.box else ""
        return f"certificates/{file_of(self.column)}/{self.norm}{within}"


def find(context: Context) -> list[str]:
    """Writes rounds of radii, and `certificates.json`; returns the files."""
    settings = _settings(context)
    folders = [setting.folder for setting in settings]
    n = context.data.test.size
    parts = {s: Part(n, stored=stored_images(context, [s.folder])) for s in settings}
    with Pace("certificates", "images", parts) as pace:
        for setting in settings:
            name = setting.column.classifier
            params = trained.load_classifier(context, name)
            compute_rounds(
                context,
                setting.folder,
                _certifier(setting, params),
                pace.teller(setting, show=("norm", setting.norm)),
            )
    lines = [line for setting in settings for line in _lines(context, setting)]
    context.folder.write_json(SUMMARY, lines)
    # Where no validation images are set aside, nothing gives a threshold.
    columns = _columns(context.experiment) if context.data.validated.size else []
    context.folder.write_json(DISTANCES, [_far(context, each) for each in columns])
    return [*round_paths(context, folders), SUMMARY, DISTANCES]


def _certifier(
    setting: _Setting, params: Params
) -> Callable[[slice, data.Split], dict[str, np.ndarray]]:
    """Returns what certifies one round."""
    codebook = certification.codebook_of(params)

    def certify(place: slice, part: data.Split) -> dict[str, np.ndarray]:
        del place
        images = data.to_float(part.images)
        found = certification.certify(
            codebook, images, part.labels, setting.norm, box=setting.box
        )
        ends = certification.beyond(
            codebook, images, part.labels, found, setting.norm, stretch=_STRETCH
        )
        changed = _changes(codebook, ends, part.labels)
        return {
            "correct": found.correct,
            "half_space": found.half_space,
            "lower": found.lower,
            "upper": found.upper,
            "changed": changed,
        }

    return certify


def _changes(codebook: certification.Codebook, images, labels) -> np.ndarray:
    """Returns whether images, perhaps outside the box, have another class."""
    rows = codebook.prototypes.reshape(len(codebook.labels), -1).astype(float)
    flat = images.reshape(len(images), -1)
    squared = np.sum(rows**2, axis=1)[None] - 2 * flat @ rows.T
    own = codebook.labels[None] == labels[:, None]
    nearest = np.where(own, squared, np.inf).min(axis=1)
    return np.where(own, np.inf, squared).min(axis=1) < nearest


def _far(context: Context, column: Column) -> dict[str, Any]:
    """Returns how many clean images a threshold on the nearest prototype rejects.

    Validation images give the threshold.
    """
    codebook = certification.codebook_of(
        trained.load_classifier(context, column.classifier)
    )
    test, validation = (
        certification.class_distances(codebook, data.to_float(part.images))
        for part in (context.data.test, context.data.validated)
    )
    rate = context.experiment.detection.false_positive_rate
    wrong = test.argmin(1) != context.data.test.labels
    found = rejections(test.min(1), wrong, validation.min(1), rate)
    return {"column": column.text, "rate": rate, **found}


def rejections(
    distances: np.ndarray, wrong: np.ndarray, validation: np.ndarray, rate: float
) -> dict[str, Any]:
    """Returns what a threshold rejects that few validation images exceed.

    Args:
      distances: of test images to the nearest prototype [n].
      wrong: whether each is misclassified [n].
      validation: distances of validation images.
      rate: the share of these that may.
    """
    threshold = evaluation.rejection_threshold(validation, rate)
    rejected = evaluation.rejects(distances, threshold)
    return {
        "threshold": threshold,
        "n": len(distances),
        "rejected": int(rejected.sum()),
        "wrong": int(wrong.sum()),
        "wrong_rejected": int((wrong & rejected).sum()),
    }


def _lines(context: Context, setting: _Setting) -> list[dict[str, Any]]:
    """Returns what certificates.json holds of a setting, a line a radius."""
    found = read_rounds(context, setting.folder)
    right, n = found["correct"], len(found["correct"])
    return [
        {
            "column": setting.column.text,
            "norm": setting.norm,
            "box": setting.box,
            "radius": radius,
            "n": n,
            "clean": int(right.sum()),
            "half_space": int((right & (found["half_space"] >= radius)).sum()),
            "certified": int((right & (found["lower"] >= radius)).sum()),
            "standing": int((right & (found["upper"] > radius)).sum()),
            "changed": int((right & found["changed"]).sum()),
        }
        for radius in RADII[setting.norm]
    ]


def table_of(lines: Sequence[dict[str, Any]], *, confidence: float = 0.95) -> Table:
    """Returns the table of certified accuracies, a line a column, norm and radius."""
    numbers = pd.DataFrame(lines)
    text = [
        [
            target_label(line["column"]),
            f"{norm_label(line['norm'])} {line['radius']:g}",
            "[0, 1]" if line["box"] else "any",
            *(share_text(line[key], line["n"]) for key in ("clean", "half_space")),
            share_text(line["certified"], line["n"], confidence),
            share_text(line["standing"], line["n"]),
        ]
        for line in lines
    ]
    heads = ["Column", "Radius", "Pixels", "Clean", "Half-spaces", "Certified"]
    frame = pd.DataFrame(text, columns=[*heads, "Not broken"])
    stretched, right = (
        sum(line[key] for line in lines) for key in ("changed", "clean")
    )
    caption = (
        f"Share of {lines[0]['n']:,} images that are right, and stay so under every "
        "step up to the radius, with a proof: by half-spaces alone, and exactly "
        f"({100 * confidence:g} % Wilson interval). Not broken: no such step is known. "
        "Pixels are those that a step may lead to. Of the shortest ways out, "
        f"continued to {_STRETCH:g} times their length, "
        f"{100 * stretched / max(right, 1):.2f} % change the class."
    )
    return Table("Certified accuracy", caption, frame, numbers)


def distances_table(
    lines: Sequence[dict[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns the table of what a threshold on distances rejects, a line a column."""
    del confidence
    text = [
        [
            target_label(line["column"]),
            f"{line['threshold']:.2f}",
            share_text(line["rejected"], line["n"]),
            share_text(line["wrong"], line["n"]),
            share_text(line["wrong"] - line["wrong_rejected"], line["n"]),
        ]
        for line in lines
    ]
    heads = ["Column", "Threshold", "Rejected", "Wrong", "Wrong and not rejected"]
    caption = (
        f"Share of {lines[0]['n']:,} clean images that are farther in ℓ2 from every "
        "prototype than the threshold, beyond which at most "
        f"{100 * lines[0]['rate']:g} % of validation images are. The certificates "
        "above reject nothing."
    )
    frame = pd.DataFrame(text, columns=heads)
    title = "Clean images far from every prototype"
    return Table(title, caption, frame, pd.DataFrame(list(lines)))


def share_text(count: int, n: int, confidence: float | None = None) -> str:
    """Returns a share in percent, with its Wilson interval if there is a coverage."""
    shown = f"{100 * count / n:.1f} %"
    if confidence is None:
        return shown
    low, high = wilson_interval(count, n, confidence)
    return f"{shown} [{100 * low:.1f}, {100 * high:.1f}]"


def _show(context: Context) -> Shown:
    """Returns the table, and curves over all radii."""
    lines = context.folder.read_json(SUMMARY)
    panels: dict[Norm, list[figures.CertifiedCurve]] = {}
    for setting in _settings(context):
        found = read_rounds(context, setting.folder)
        lower, upper = (
            np.where(found["correct"], found[key], -1.0) for key in ("lower", "upper")
        )
        name = title_of(setting.column) + (", pixels in [0, 1]" if setting.box else "")
        # Attacks stay in the box.
        left = _left(context, setting.column, setting.norm) if setting.box else []
        curve = figures.CertifiedCurve(name, lower, upper, left)
        panels.setdefault(setting.norm, []).append(curve)
    for column in context.experiment.evaluation.columns:
        if column not in _columns(context.experiment):
            for norm, panel in panels.items():
                if left := _left(context, column, norm):
                    empty = np.zeros(0)
                    name = title_of(column)
                    panel.append(figures.CertifiedCurve(name, empty, empty, left))
    figure = ReportFigure(
        "Certified accuracy against the radius",
        "Solid: proved. Dashed: what the attacks of the table leave, also of columns "
        "without a certificate. Shaded: between what is proved and what is known to "
        "be broken.",
        figures.to_png(
            figures.certified_curves(
                {
                    f"radius in {norm_label(norm)}": curves
                    for norm, curves in panels.items()
                }
            )
        ),
    )
    confidence = context.experiment.evaluation.confidence
    table = table_of(lines, confidence=confidence)
    shown = [table]
    if distances := context.folder.read_json(DISTANCES):
        shown.append(distances_table(distances))
    drawn = [("certificates", figure)]
    for column in _columns(context.experiment):
        drawn.append((f"prototypes-{file_of(column)}", _prototypes(context, column)))
    return Shown(shown, figures=drawn)


def _prototypes(context: Context, column: Column) -> ReportFigure:
    """Returns a sheet of a codebook's first prototypes, a class below each other."""
    codebook = certification.codebook_of(
        trained.load_classifier(context, column.classifier)
    )
    places = [
        np.flatnonzero(codebook.labels == label)[:_SHOWN]
        for label in np.unique(codebook.labels)
    ]
    first = codebook.prototypes[np.stack(places, axis=1).reshape(-1)]
    return ReportFigure(
        f"Prototypes: {title_of(column)}",
        f"The first {len(places[0])} of each class, a column a class.",
        figures.to_png(figures.sample_grid(first, columns=len(places))),
    )


def _left(context: Context, column: Column, norm: Norm) -> list[tuple[float, float]]:
    """Returns radii, 0 first, and the shares of images that attacks within each left.

    Empty where no attack was made in a norm.
    """
    results = evaluation.read_results(context.folder.read_text(RESULTS))
    texts = texts_of(context, column)
    own = [row for row in tables.lines_of(results) if column_of(row) == texts]
    worst = [row for row in own if not tables.is_single(row) and row.norm == norm]
    clean = [(0.0, row.accuracy) for row in own if row.attack == CLEAN]
    found = [(row.epsilon, row.accuracy) for row in worst]
    return [*clean, *found] if found else []


def _settings(context: Context) -> list[_Setting]:
    return [
        _Setting(column, norm, box)
        for column in _columns(context.experiment)
        for norm in RADII
        if norm in context.experiment.evaluation.certificates
        for box in (False, True)
    ]


def _columns(experiment: Experiment) -> list[Column]:
    """Returns the columns of a codebook without a defence."""
    return [
        column
        for column in experiment.evaluation.columns
        if column.bare
        and isinstance(experiment.classifier_of(column.classifier).model, Codebook)
    ]


def _results(group: Group) -> Iterator[Passage]:
    if tables := [*group.tables_by_seed(SUMMARY, table_of)]:
        if all(run.json(DISTANCES) for run in group.with_file(DISTANCES)):
            tables += group.tables_by_seed(DISTANCES, distances_table)
        yield Passage("Certificates", tables)


FINDING = Finding(
    name="certificates",
    after="evaluate",
    wanted=lambda experiment: bool(
        experiment.evaluation.certificates and _columns(experiment)
    ),
    find=find,
    writes=(SUMMARY, DISTANCES, "certificates/"),
    recorded=(SUMMARY, DISTANCES),
    show=_show,
    results=_results,
)
