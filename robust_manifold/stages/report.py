"""Stage `report`: tables, figures and the page, from stored files alone."""

import shlex
from collections.abc import Iterator

import jax
import numpy as np
import pandas as pd

from robust_manifold import defenses, evaluation
from robust_manifold.reporting import figures, html, labels, tables
from robust_manifold.runtime import Progress, console, read_metrics
from robust_manifold.stages import trained
from robust_manifold.stages.context import Context
from robust_manifold.stages.evaluate import images_of
from robust_manifold.stages.rounds import read_rounds
from robust_manifold.stages.rows import outcome_folder, rows

_SAMPLES = 60


def run(context: Context) -> list[str]:
    """Writes `report/` and prints the tables."""
    results = evaluation.read_results(context.folder.read_text("results.csv"))
    confidence = context.experiment.evaluation.confidence
    shown = tables.paper_tables(results, confidence=confidence)
    for extension, write in tables.WRITERS.items():
        text = "\n".join(write(table) for table in shown)
        context.folder.write_text(f"report/table.{extension}", text)
    pictures = []
    with Progress(5, "report", "figures") as progress:
        for number, (name, picture) in enumerate(_figures(context, results), start=1):
            context.folder.write_bytes(f"report/figures/{name}.png", picture.png)
            pictures.append(picture)
            progress.update(number)
    _write_page(context, results, shown, pictures)
    for table in shown:
        console.show(tables.to_console(table))
    console.show(f"Report: {context.folder.path / 'report' / 'report.html'}")
    return ["report/report.html", "report/table.md"]


def _figures(
    context: Context, results: pd.DataFrame
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields the figures of the report by the names of their files."""
    sheet = _projection_sheet(context)
    if sheet is not None:
        yield "projections", sheet
    if np.isfinite(results["epsilon"].to_numpy()).any():
        yield (
            "accuracy",
            html.ReportFigure(
                "Accuracy against ε",
                "Bands are the Wilson intervals of the table.",
                figures.to_png(figures.accuracy_curves(results)),
            ),
        )
    yield "samples", _samples(context)
    errors = _error_histogram(context)
    if errors is not None:
        yield "errors", errors
    records = read_metrics(context.folder.path / "metrics.jsonl")
    if records:
        yield (
            "training",
            html.ReportFigure(
                "Training",
                "What was logged, by step.",
                figures.to_png(figures.training_curves(records)),
            ),
        )


def _projecting(context: Context) -> defenses.Defense | None:
    """Returns the first defence of the table that makes projections."""
    for defence in context.experiment.evaluation.defences:
        if isinstance(defence, defenses.ProjectionDefense):
            return defence
    return None


def _projection_sheet(context: Context) -> html.ReportFigure | None:
    """Draws original, adversarial and projection of the first images of each class."""
    defence = _projecting(context)
    if defence is None:
        return None
    chosen = _one_of_each_class(context.test.labels, context.experiment.report.pictures)
    clean_row, *attacked = rows(context.experiment.evaluation)
    clean_images = images_of(context, clean_row)[chosen]
    none = defenses.NoDefense()
    has_none = none in context.experiment.evaluation.defences
    groups = []
    for row in [clean_row, *attacked]:
        outcomes = read_rounds(context, outcome_folder(defence, row))
        shown = [figures.SheetRow("original", clean_images)]
        if row.attack is not None:
            shown.append(
                figures.SheetRow("adversarial", images_of(context, row)[chosen])
            )
        if has_none:
            bare = read_rounds(context, outcome_folder(none, row))["logits"][chosen]
            shown[-1] = shown[-1]._replace(probabilities=_softmax(bare))
            if row.attack is not None:
                bare = read_rounds(context, outcome_folder(none, clean_row))["logits"]
                shown[0] = shown[0]._replace(probabilities=_softmax(bare[chosen]))
        shown.append(
            figures.SheetRow(
                "projection",
                outcomes["projections"][chosen],
                _softmax(outcomes["logits"][chosen]),
            )
        )
        groups.append(
            figures.SheetGroup(
                labels.label_of(row.name, norm=row.attack.norm if row.attack else ""),
                context.test.labels[chosen],
                shown,
            )
        )
    return html.ReportFigure(
        "Attacks and their projections",
        "Under each image: the class that the classifier gives it and its "
        "probability. The adversarial images were made against the bare classifier; "
        "the projections are what the defence classifies in their place.",
        figures.to_png(
            figures.projection_sheet(groups, class_names=context.dataset.class_names)
        ),
    )


def _samples(context: Context) -> html.ReportFigure:
    params = trained.load(context, "generator")
    latents = jax.random.normal(
        context.stream("samples"), (_SAMPLES, *context.generator.input_shape)
    )
    images = np.asarray(context.generator.apply(params, latents))
    return html.ReportFigure(
        "Samples of the generator",
        f"{_SAMPLES} latents drawn from the prior, none left out.",
        figures.to_png(figures.sample_grid(images)),
    )


def _error_histogram(context: Context) -> html.ReportFigure | None:
    defence = _projecting(context)
    if defence is None:
        return None
    errors = {
        labels.label_of(
            row.name, norm=row.attack.norm if row.attack else ""
        ): read_rounds(context, outcome_folder(defence, row))["error"]
        for row in rows(context.experiment.evaluation)
    }
    return html.ReportFigure(
        "Reconstruction errors",
        "Mean square over the pixels between an image and its projection.",
        figures.to_png(figures.error_histogram(errors)),
    )


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
    results: pd.DataFrame,
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
        folded_tables=[tables.cost_table(results)],
    )
    context.folder.write_text("report/report.html", html.render_html(page))


def _command(command: list[str]) -> str:
    """Returns the command line as a user types it."""
    return shlex.join(["python", "-m", "robust_manifold.main", *command[1:]])
