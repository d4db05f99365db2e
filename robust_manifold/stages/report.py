"""Stage `report`: tables, figures and the page, from stored files alone."""

import shlex
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pandas as pd

from robust_manifold import data, defenses, evaluation, models
from robust_manifold.reporting import (
    figures,
    html,
    labels,
    measures_table,
    separation_table,
    tables,
)
from robust_manifold.runtime import console, devices, load_params, read_metrics
from robust_manifold.stages import (
    convergence,
    diagnostics_shown,
    measure,
    physical,
    substitutes_shown,
    trained,
)
from robust_manifold.stages.context import Context
from robust_manifold.stages.evaluate import images_of
from robust_manifold.stages.rounds import read_rounds
from robust_manifold.stages.rows import (
    Row,
    folder_name,
    outcome_folder,
    rows_of,
    shortened,
)

_SAMPLES = 60


def run(context: Context) -> list[str]:
    """Writes `report/` and prints the tables, in the first process of a job."""
    if context.folder.primary:
        _report(context)
    devices.barrier("report written")
    return ["report/report.html", "report/table.md"]


def _report(context: Context) -> None:
    results = None
    if "evaluate" in context.experiment.stages:
        results = evaluation.read_results(context.folder.read_text("results.csv"))
    shown = list(_tables(context, results))
    for extension, write in tables.WRITERS.items():
        text = "\n".join(write(table) for table in shown)
        context.folder.write_text(f"report/table.{extension}", text)
    pictures = []
    for name, picture in _figures(context, results):
        context.folder.write_bytes(f"report/figures/{name}.png", picture.png)
        pictures.append(picture)
    _write_page(context, results, shown, pictures)
    for table in shown:
        console.show(tables.to_console(table))
    console.show(f"Report: {context.folder.path / 'report' / 'report.html'}")


def _tables(context: Context, results: pd.DataFrame | None) -> Iterator[tables.Table]:
    """Yields the tables of the report, by what the run's stages have measured."""
    confidence = context.experiment.evaluation.confidence
    if results is not None:
        yield from tables.paper_tables(results, confidence=confidence)
        yield from physical.tables(context)
        if separations := list(_separations(context)):
            yield separation_table(separations, confidence=confidence)
        yield from substitutes_shown.shown_tables(context)
    if "measure" in context.experiment.stages:
        measured = evaluation.read_measures(context.folder.read_text("measures.csv"))
        yield measures_table(measured, confidence=confidence)
    if "diagnose" in context.experiment.stages:
        yield from diagnostics_shown.shown_tables(context)
    if "convergence" in context.experiment.stages:
        yield convergence.table(context)


def _figures(
    context: Context, results: pd.DataFrame | None
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields the figures of the report by the names of their files."""
    stages = context.experiment.stages
    if "convergence" in stages:
        yield from convergence.figures(context)
    if results is not None:
        yield from _evaluation_figures(context, results)
    if "measure" in stages:
        yield from _measure_figures(context)
    elif "generator" in context.networks:
        yield "samples", _samples(context)
    if "diagnose" in stages:
        yield from diagnostics_shown.shown_figures(context)
    file = context.folder.path / "metrics.jsonl"
    if context.networks and (records := read_metrics(file)):
        yield (
            "training",
            html.ReportFigure(
                "Training",
                "What was logged, by step.",
                figures.to_png(figures.training_curves(records)),
            ),
        )


def _evaluation_figures(
    context: Context, results: pd.DataFrame
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields what the attacks did, with and without the defences."""
    for defence in _projecting(context):
        yield from _projection_sheets(context, defence)
    yield from substitutes_shown.shown_figures(
        context,
        _one_of_each_class(context.test.labels, context.experiment.report.pictures),
    )
    if np.isfinite(results["epsilon"].to_numpy()).any():
        yield (
            "accuracy",
            html.ReportFigure(
                "Accuracy against ε",
                "Bands are the Wilson intervals of the table. Adversaries: "
                f"{', '.join(context.experiment.evaluation.adversaries)}.",
                figures.to_png(figures.accuracy_curves(results)),
            ),
        )
    for defence in _projecting(context):
        yield f"errors-{_file(defence)}", _error_histogram(context, defence)


def _measure_figures(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields what the generator makes: samples, reconstructions, walks, neighbours."""
    stored = context.folder.read_npz(measure.PICTURES)
    mirrored = " or mirror image of one" if context.experiment.data.flip else ""
    yield "samples", _sample_figure(stored["samples"])
    yield "reconstructions", _reconstructions(context)
    yield (
        "interpolation",
        html.ReportFigure(
            "From latent to latent",
            "Each row goes from one draw of the prior to another, by equal steps"
            + (", within a class." if context.generator.latent_classes else "."),
            figures.to_png(figures.interpolation_grid(stored["walks"])),
        ),
    )
    yield (
        "neighbours",
        html.ReportFigure(
            "Samples and their nearest training images",
            f"Under each sample, the training image{mirrored} at the least ℓ2 "
            "distance, and that distance. A generator that had learned images by "
            "heart would show here.",
            figures.to_png(
                figures.neighbour_grid(
                    stored["samples"][: len(stored["neighbours"])],
                    stored["neighbours"],
                    stored["distances"],
                )
            ),
        ),
    )


def _reconstructions(context: Context) -> html.ReportFigure:
    """Returns test images above their projections, each with what it is taken for."""
    found = read_rounds(context, measure.FOLDER, context.measured.size)
    count = context.experiment.report.pictures
    groups = []
    for title, chosen in _groups(context, found["labels"], count):
        images = data.to_float(context.measured.images[chosen])
        projections = found["projections"][chosen]
        sheet = [
            figures.SheetRow("test image", images, _softmax(found["logits"][chosen])),
            figures.SheetRow(
                "projection", projections, _softmax(found["projection_logits"][chosen])
            ),
        ]
        groups.append(figures.SheetGroup(title, found["labels"][chosen], sheet))
    names = context.dataset.class_names
    block = context.experiment.measures
    return html.ReportFigure(
        "Reconstructions of test images",
        f"G(z*) of the best of {block.restarts.count} starts. Under each image: the "
        "class that the classifier gives it and its probability.",
        figures.to_png(figures.projection_sheet(groups, class_names=names)),
    )


def _groups(
    context: Context, labels: np.ndarray, count: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields titles and places of images: a group a class where there are two."""
    names = context.dataset.class_names
    if len(names) != 2:
        yield "", _one_of_each_class(labels, count)
        return
    places = [np.flatnonzero(labels == value) for value in range(2)]
    # Groups of one sheet have as many columns.
    count = min(count, *(len(of_class) or count for of_class in places))
    for name, of_class in zip(names, places, strict=True):
        if len(of_class):
            yield name, of_class[:count]


def _projecting(context: Context) -> list[defenses.ProjectionDefense]:
    """Returns the defences of the table that make projections."""
    return [
        defence
        for defence in context.experiment.evaluation.defences
        if isinstance(defence, defenses.ProjectionDefense)
    ]


def _projection_sheets(
    context: Context, defence: defenses.Defense
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields original, adversarial and projection of some images, a sheet a row."""
    names, count = context.dataset.class_names, context.experiment.report.pictures
    rows = rows_of(defence, context.experiment.evaluation)
    for row in rows:
        groups = []
        for title, chosen in _groups(context, context.test.labels, count):
            sheet = [_shown(context, "original", rows[0], chosen)]
            if row.attack is not None:
                sheet.append(_shown(context, "adversarial", row, chosen))
            outcomes = read_rounds(context, outcome_folder(defence, row))
            projections = outcomes["projections"][chosen]
            probabilities = _softmax(outcomes["logits"][chosen])
            sheet.append(figures.SheetRow("projection", projections, probabilities))
            heading = ": ".join(filter(None, (_distinct_label(context, row), title)))
            labels_of = context.test.labels[chosen]
            groups.append(figures.SheetGroup(heading, labels_of, sheet))
        yield (
            shortened(f"projections-{_file(defence)}-{row.folder.replace('/', '-')}"),
            html.ReportFigure(
                f"{_distinct_label(context, row)}: projections by {_title(defence)}",
                "Under each image: the class that the classifier gives it and its "
                "probability. The defence classifies the projections."
                + _adversary(row),
                figures.to_png(figures.projection_sheet(groups, class_names=names)),
            ),
        )


def _shown(
    context: Context, name: str, row: Row, chosen: np.ndarray
) -> figures.SheetRow:
    """Returns a row of images, with what the bare classifier says if that is stored."""
    images = images_of(context, row)[chosen]
    none, block = defenses.NoDefense(), context.experiment.evaluation
    if none not in block.defences or row not in rows_of(none, block):
        return figures.SheetRow(name, images)
    outcomes = read_rounds(context, outcome_folder(none, row))
    return figures.SheetRow(name, images, _softmax(outcomes["logits"][chosen]))


def _file(defence: defenses.Defense) -> str:
    return folder_name(defenses.registry.to_string(defence))


def _title(defence: defenses.Defense) -> str:
    return labels.label_of(defenses.registry.to_string(defence))


def _adversary(row: Row) -> str:
    """Returns the sentence that says what the attack of a row was allowed to see."""
    if row.attack is None:
        return ""
    known = tables.ADVERSARIES.get(row.adversary, "")
    return f" Adversary: {row.adversary} ({known})."


def _distinct_label(context: Context, row: Row) -> str:
    """Returns the label of a row, with its adversary where there are several."""
    alone = len(context.experiment.evaluation.adversaries) == 1
    if row.attack is None or alone:
        return _label(row)
    return f"{_label(row)}, {labels.name_label(row.adversary).lower()}"


def _label(row: Row) -> str:
    return labels.label_of(row.name, norm=row.attack.norm if row.attack else "")


def _samples(context: Context) -> html.ReportFigure:
    # Not `trained.load`, which asks all processes of a job: here is but the first.
    params = load_params(context.folder.path / trained.folder("generator"))
    latents = models.sample_latents(
        context.generator, context.stream("samples"), _SAMPLES
    )
    return _sample_figure(np.asarray(context.generator.apply(params, latents)))


def _sample_figure(images: np.ndarray) -> html.ReportFigure:
    return html.ReportFigure(
        "Samples of the generator",
        f"{len(images)} latents drawn from the prior, none left out.",
        figures.to_png(figures.sample_grid(images)),
    )


def _error_histogram(context: Context, defence: defenses.Defense) -> html.ReportFigure:
    errors = {
        _distinct_label(context, row): read_rounds(
            context, outcome_folder(defence, row)
        )["error"]
        for row in rows_of(defence, context.experiment.evaluation)
    }
    return html.ReportFigure(
        f"Reconstruction errors by {_title(defence)}",
        "Mean square over the pixels between an image and its projection.",
        figures.to_png(figures.error_histogram(errors)),
    )


def _separations(context: Context) -> Iterator[dict[str, Any]]:
    """Yields how errors differ from those of clean images, by defence and row."""
    block = context.experiment.evaluation
    for defence in _projecting(context):
        clean = None
        for row in rows_of(defence, block):
            errors = read_rounds(context, outcome_folder(defence, row))["error"]
            found = evaluation.separation(errors, clean, block.confidence)
            clean = errors if clean is None else clean
            yield {
                "defence": defenses.registry.to_string(defence),
                "attack": row.name,
                "norm": row.attack.norm if row.attack else "",
                "adversary": row.adversary,
                **found._asdict(),
            }


def _one_of_each_class(classes: np.ndarray, count: int) -> np.ndarray:
    """Returns the places of `count` images: the first of each class, then the next."""
    rank = np.zeros(len(classes), int)
    for value in np.unique(classes):
        places = np.flatnonzero(classes == value)
        rank[places] = np.arange(len(places))
    order = np.lexsort((classes, rank))
    return order[: min(count, len(classes))]


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.softmax(logits, axis=-1))


def _write_page(
    context: Context,
    results: pd.DataFrame | None,
    shown: list[tables.Table],
    pictures: list[html.ReportFigure],
) -> None:
    status = context.folder.status
    environment = {
        **status["versions"],
        "devices": f"{status['devices']['devices']} x {status['devices']['kind']}",
        "processes": status["devices"]["processes"],
    }
    page = html.Report(
        title=context.experiment.title,
        tables=shown,
        figures=pictures,
        stage_seconds=status.get("stage_seconds", {}),
        config=context.folder.config,
        environment=environment,
        command=_command(status["command"]),
        explanation=html.explanation_of(context.experiment.stages),
        folded_tables=[] if results is None else [tables.cost_table(results)],
    )
    context.folder.write_text("report/report.html", html.render_html(page))


def _command(command: list[str]) -> str:
    """Returns the command line as a user types it."""
    return shlex.join(["python", "-m", "robust_manifold.main", *command[1:]])
