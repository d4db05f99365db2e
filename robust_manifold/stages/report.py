"""Stage `report`: tables, figures and the page, from stored files alone."""

import shlex
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from robust_manifold import data, defenses, evaluation, models
from robust_manifold.reporting import (
    explanations,
    figures,
    html,
    measures_table,
    tables,
)
from robust_manifold.reporting.labels import name_label
from robust_manifold.runtime import (
    console,
    devices,
    load_params,
    provenance,
    read_metrics,
)
from robust_manifold.stages import (
    audit_shown,
    convergence,
    defences_shown,
    detection_shown,
    diagnostics_shown,
    given_shown,
    manifold_shown,
    measure,
    pairs_shown,
    physical,
    pictures_shown,
    projections_shown,
    substitutes_shown,
    trained,
)
from robust_manifold.stages.context import Context
from robust_manifold.stages.rounds import read_rounds

_SAMPLES = 60


def run(context: Context) -> list[str]:
    """Writes `report/` and prints the tables, in the first process of a job."""
    if context.folder.primary:
        _report(context)
    devices.barrier("report written")
    return ["report/report.html", "report/table.md"]


class _Parts(NamedTuple):
    """What the page shows."""

    shown: list[tables.Table]
    folded: list[tables.Table]
    sections: list[html.Section]
    pictures: list[html.ReportFigure]


def _report(context: Context) -> None:
    results = None
    if "evaluate" in context.experiment.stages:
        results = evaluation.read_results(context.folder.read_text("results.csv"))
    shown, folded = list(_tables(context, results)), []
    sections = [] if results is None else list(_sections(context))
    if results is not None:
        folded = list(_folded_tables(context, results))
    told = [*shown, *(table for part in sections for table in part.tables)]
    every = [*told, *folded, *(table for part in sections for table in part.folded)]
    for extension, write in tables.WRITERS.items():
        text = "\n".join(write(table) for table in every)
        context.folder.write_text(f"report/table.{extension}", text)
    pictures = []
    for name, picture in _figures(context, results):
        context.folder.write_bytes(f"report/figures/{name}.png", picture.png)
        pictures.append(picture)
    timed = []
    if results is not None:
        # Not in table.*: a run that is made again gives those to the last byte.
        timed = list(defences_shown.timed_tables(context))
        if context.experiment.evaluation.attacks:
            folded.append(tables.cost_table(results))
    _write_page(context, _Parts([*shown, *timed], folded, sections, pictures))
    for table in [*told, *timed]:
        console.show(f"\n{tables.to_console(table)}")
    console.show(f"Report: {context.folder.path / 'report' / 'report.html'}")


def _tables(context: Context, results: pd.DataFrame | None) -> Iterator[tables.Table]:
    """Yields the tables of the report, by what the run's stages have measured."""
    confidence = context.experiment.evaluation.confidence
    if results is not None:
        yield from defences_shown.shown_tables(context, results)
        yield from physical.tables(context)
        if not defences_shown.is_large(results):
            yield from _error_tables(context)
        yield from substitutes_shown.shown_tables(context)
    if "measure" in context.experiment.stages:
        measured = evaluation.read_measures(context.folder.read_text("measures.csv"))
        yield measures_table(measured, confidence=confidence)
    if "diagnose" in context.experiment.stages:
        yield from diagnostics_shown.shown_tables(context)
    if "convergence" in context.experiment.stages:
        yield convergence.table(context)


def _folded_tables(context: Context, results: pd.DataFrame) -> Iterator[tables.Table]:
    """Yields the tables that are too long to stand among the others."""
    if defences_shown.is_large(results):
        yield from defences_shown.folded_tables(context, results)
        yield from _error_tables(context)


def _error_tables(context: Context) -> Iterator[tables.Table]:
    """Yields what reconstruction errors tell of attacks: a line a row of images."""
    yield from projections_shown.shown_tables(context)
    if detection_shown.is_measured(context):
        yield from detection_shown.shown_tables(context)


def _sections(context: Context) -> Iterator[html.Section]:
    """Yields the parts of the page that stand by themselves."""
    for shown in (audit_shown, manifold_shown, pairs_shown, given_shown):
        section = shown.shown_section(context)
        if section is not None:
            yield section


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
    yield from defences_shown.worst_case_figures(results)
    yield from projections_shown.shown_sheets(context)
    count = context.experiment.report.pictures
    yield from substitutes_shown.shown_figures(
        context, pictures_shown.one_of_each_class(context.test.labels, count)
    )
    yield from defences_shown.attack_figures(context, results)
    if detection_shown.is_measured(context):
        yield from detection_shown.shown_figures(context)
    yield from projections_shown.shown_errors(context)


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
    for title, chosen in pictures_shown.groups(context, found["labels"], count):
        images = data.to_float(context.measured.images[chosen])
        projections = found["projections"][chosen]
        sheet = [
            figures.SheetRow(
                "test image", images, pictures_shown.softmax(found["logits"][chosen])
            ),
            figures.SheetRow(
                "projection",
                projections,
                pictures_shown.softmax(found["projection_logits"][chosen]),
            ),
        ]
        groups.append(figures.SheetGroup(title, found["labels"][chosen], sheet))
    names = context.dataset.class_names
    block = context.experiment.measures
    return html.ReportFigure(
        "Reconstructions of test images",
        f"G(z*) of the {_starts(block.restarts.count)}. Under each image: the "
        "class that the classifier gives it and its probability.",
        figures.to_png(figures.projection_sheet(groups, class_names=names)),
    )


def _starts(count: int) -> str:
    return f"best of {count} starts" if count > 1 else "one start"


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


def _write_page(context: Context, parts: _Parts) -> None:
    status = context.folder.status
    computed = provenance.results_of(status)
    stages, evaluated = context.experiment.stages, _evaluated(context)
    title = context.experiment.title or explanations.heading_of(stages, evaluated)
    page = html.Report(
        title=title,
        tables=parts.shown,
        figures=parts.pictures,
        sections=parts.sections,
        stage_seconds=status.get("stage_seconds", {}),
        config=context.folder.config,
        environment=provenance.environment_of(computed),
        command="\n".join(map(_command, provenance.commands_of(computed))),
        explanation=explanations.explanation_of(stages, evaluated),
        folded_tables=parts.folded,
        notice=audit_shown.notice(context),
    )
    context.folder.write_text("report/report.html", html.render_html(page))


def _evaluated(context: Context) -> explanations.Evaluated:
    """Returns what the columns of the tables are."""
    defended = [column for column in context.columns if not column.bare]
    names = {
        projects: list(
            dict.fromkeys(
                name_label(defenses.registry.name_of(column.defence))
                for column in defended
                if column.projects is projects
            )
        )
        for projects in (True, False)
    }
    return explanations.Evaluated(
        projecting=names[True],
        other=names[False],
        bare=len(defended) < len(context.columns),
        attacked=bool(context.experiment.evaluation.attacks),
    )


def _command(command: list[str]) -> str:
    """Returns the command line as a user types it."""
    return shlex.join(["python", "-m", "robust_manifold.main", *command[1:]])
