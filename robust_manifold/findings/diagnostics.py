"""How inversion works: error curves, recoveries, projections of projections."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import numpy as np

from robust_manifold import data, defenses, evaluation, inversion, models
from robust_manifold.core import batching
from robust_manifold.core.manifold import SpannerParams
from robust_manifold.core.types import PRNGKey
from robust_manifold.findings.diagnostics_tables import checks_table, solvers_table
from robust_manifold.findings.finding import Finding, Shown, Words
from robust_manifold.reporting import figures, html, labels, tables
from robust_manifold.reporting.labels import restarts_label
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.pace import Pace, Part
from robust_manifold.stages.table.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)
from robust_manifold.stages.table.rows import folder_name

TABLE = "diagnostics.csv"
SUMMARY = "diagnostics.json"
REPETITION = "diagnostics/projections"
RECOVERY = "diagnostics/recoveries"


def find(context: Context) -> list[str]:
    """Writes `diagnostics.csv`, `diagnostics.json` and the rounds they sum up.

    Raises:
      Interrupted: if the run was asked to stop.
    """
    params, block = trained.load_spanner(context), context.experiment.diagnostics
    split, n = context.data.diagnosed, block.recoveries
    with Pace("diagnose", "images", _parts(context)) as pace:

        def rounds(label: str, folder: str, compute: Callable, split: data.Split):
            told = pace.teller(folder, show=("of", label))
            compute_rounds(context, folder, compute, told, split)

        for solver in block.solvers:
            rounds(
                inversion.registry.name_of(solver),
                solver_folder(solver),
                lambda _, part, s=solver: _curves(context, params, s, part),
                split,
            )
        rounds(
            "projections",
            REPETITION,
            lambda _, part: _project_twice(context, params, part),
            split,
        )
        if n:
            drawn = _latents(context)
            rounds(
                "recoveries",
                RECOVERY,
                lambda place, part: _recover(context, params, drawn[place], part.ids),
                _numbered(n),
            )
    lines = [_line(context, solver) for solver in block.solvers]
    context.folder.write_text(TABLE, evaluation.solvers_to_csv(lines))
    context.folder.write_json(SUMMARY, _summary(context))
    folders = [*map(solver_folder, block.solvers), REPETITION]
    stored = round_paths(context, folders, split.size)
    stored += round_paths(context, [RECOVERY], n) if n else []
    return [TABLE, SUMMARY, *stored]


def _parts(context: Context) -> dict[Hashable, Part]:
    """Returns what the stage inverts, by folder."""
    blocks, size = context.experiment, context.networks.generator.input_shape[0]
    parts: dict[Hashable, Part] = {}

    def add(folder: str, n: int, cost: float) -> None:
        stored = stored_images(context, [folder], n) if n else 0
        parts[folder] = Part(n, cost, stored)

    for solver in blocks.diagnostics.solvers:
        cost = float(passes_of(context, solver)[-1])
        if blocks.diagnostics.restarts.halve_at:
            # Once more, with restarts none of which is dropped.
            whole = dataclasses.replace(blocks.diagnostics.restarts, halve_at=())
            search = inversion.Search(solver, whole)
            cost += defenses.search_passes(search, size)
        add(solver_folder(solver), context.data.diagnosed.size, cost)
    search = inversion.Search(blocks.measures.solver, blocks.measures.restarts)
    cost = defenses.search_passes(search, size)
    add(REPETITION, context.data.diagnosed.size, 2 * cost)
    add(RECOVERY, blocks.diagnostics.recoveries, cost)
    return parts


def solver_folder(solver: inversion.Solver) -> str:
    """Returns where the errors of a solver lie, relative to the run folder."""
    return f"diagnostics/{folder_name(inversion.registry.to_string(solver))}"


def passes_of(context: Context, solver: inversion.Solver) -> np.ndarray:
    """Returns the passes an image through the generator after 0, 1, ... all steps."""
    (size,) = context.networks.generator.input_shape
    segments = context.experiment.diagnostics.restarts.segments(solver.steps)
    return evaluation.cumulated_passes(segments, solver.passes(size))


def _arguments(
    context: Context, params: SpannerParams, images: np.ndarray, ids: np.ndarray
) -> dict[str, Any]:
    """Returns the arguments that all inversions of the stage share."""
    spanner = context.networks.spanner
    given = context.experiment.evaluation.batch_size
    return {
        "generate": spanner.generate,
        "params": params.generator,
        "images": images,
        "latent_shape": spanner.latent_shape,
        "prior": spanner.prior,
        "encode": spanner.encode,
        "encoder_params": params.encoder,
        "ids": ids,
        "batch_size": min(given, len(images)) if given else None,
    }


def _curves(
    context: Context, params: SpannerParams, solver: inversion.Solver, part: data.Split
) -> Mapping[str, np.ndarray]:
    """Returns the errors of all restarts of one solver after each of its steps."""
    restarts = context.experiment.diagnostics.restarts
    images = data.to_float(part.images)
    curves = functools.partial(
        inversion.error_curves,
        **_arguments(context, params, images, part.ids),
        # Of no solver: all have the same starts.
        key=context.stream("diagnose"),
        solver=solver,
    )
    followed = np.asarray(curves(restarts=restarts))
    # How many find the best basin is told by restarts none of which is dropped.
    whole = dataclasses.replace(restarts, halve_at=())
    to_the_end = followed if whole == restarts else np.asarray(curves(restarts=whole))
    return {"curves": followed, "restart_errors": to_the_end[:, :, -1]}


def _project_twice(
    context: Context, params: SpannerParams, part: data.Split
) -> Mapping[str, np.ndarray]:
    """Returns the errors of P(x) against x, and of P(P(x)) against P(x)."""
    # One and the same projection, that of stage measure: equal starts for an image.
    project = functools.partial(_project, context, params, context.stream("measure"))
    first = project(data.to_float(part.images), part.ids)
    projections = np.asarray(first.image)
    finite = np.asarray(np.isfinite(projections).all(axis=(1, 2, 3)))
    # Images have pixels in [0, 1], whatever the generator made.
    shown = np.where(finite[:, None, None, None], np.clip(projections, 0, 1), 0)
    again = np.asarray(project(shown, part.ids).error)
    return {"error": np.asarray(first.error), "again": np.where(finite, again, np.nan)}


def _recover(
    context: Context, params: SpannerParams, latents: np.ndarray, ids: np.ndarray
) -> Mapping[str, np.ndarray]:
    """Returns what is found for images whose latents are known."""
    images = batching.apply_examples(
        context.networks.generator.apply, params.generator, latents
    )
    images = np.clip(images, 0, 1)
    key = context.stream("diagnose recoveries")
    found = _project(context, params, key, images, ids)
    return {
        "latents": latents,
        "found": np.asarray(found.latent),
        "error": np.asarray(found.error),
    }


def _project(
    context: Context,
    params: SpannerParams,
    key: PRNGKey,
    images: np.ndarray,
    ids: np.ndarray,
) -> inversion.Inversion:
    block = context.experiment.measures
    return inversion.invert(
        **_arguments(context, params, images, ids),
        key=key,
        solver=block.solver,
        restarts=block.restarts,
    )


def _latents(context: Context) -> np.ndarray:
    """Returns the latents to be found again: draws of the prior, of all classes."""
    n = context.experiment.diagnostics.recoveries
    return np.asarray(
        models.sample_latents(
            context.networks.generator, context.stream("recoveries"), n
        )
    )


def _numbered(n: int) -> data.Split:
    """Returns n examples that are but numbers, for rounds of anything else."""
    images = np.zeros((n, 1, 1, 1), np.uint8)
    return data.Split(images, np.zeros(n, np.int32), np.arange(n, dtype=np.int64))


def _line(context: Context, solver: inversion.Solver) -> evaluation.SolverLine:
    """Returns the line of diagnostics.csv for one solver."""
    found = read_rounds(context, solver_folder(solver), context.data.diagnosed.size)
    restarts = context.experiment.diagnostics.restarts
    return evaluation.summarise_solver(
        solver=inversion.registry.to_string(solver),
        restarts=inversion.restarts_registry.to_string(restarts),
        passes=float(passes_of(context, solver)[-1]),
        curves=found["curves"],
        restart_errors=found["restart_errors"],
        confidence=context.experiment.evaluation.confidence,
    )


def _summary(context: Context) -> dict[str, Any]:
    """Returns what diagnostics.json says of projections of projections and recoveries.

    Its parts are an `evaluation.Repetition` and an `evaluation.Recovery`, or None.
    """
    found = read_rounds(context, REPETITION, context.data.diagnosed.size)
    repetition = evaluation.summarise_repetition(
        errors=found["error"],
        again_errors=found["again"],
        pixels=int(np.prod(context.data.dataset.image_shape)),
    )
    recovery = None
    if n := context.experiment.diagnostics.recoveries:
        found = read_rounds(context, RECOVERY, n)
        model = context.networks.generator
        size = model.input_shape[0] - model.latent_classes
        recovery = evaluation.summarise_recovery(
            errors=found["error"],
            latents=found["latents"][:, :size],
            found=found["found"][:, :size],
            confidence=context.experiment.evaluation.confidence,
        )._asdict()
    return {"repetition": repetition._asdict(), "recovery": recovery}


def _show(context: Context) -> Shown:
    return Shown([*_tables(context)], figures=[*_figures(context)])


def _tables(context: Context) -> Iterator[tables.Table]:
    """Yields the tables of the report."""
    confidence = context.experiment.evaluation.confidence
    solvers = evaluation.read_solvers(context.folder.read_text(TABLE))
    yield solvers_table(solvers, near=evaluation.NEAR, confidence=confidence)
    block = context.experiment.measures
    yield checks_table(
        context.folder.read_json(SUMMARY),
        solver=inversion.registry.to_string(block.solver),
        restarts=inversion.restarts_registry.to_string(block.restarts),
        confidence=confidence,
    )


def _figures(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields the figures of the report by the names of their files."""
    yield from _solvers(context)
    n = context.data.diagnosed.size
    found = read_rounds(context, REPETITION, n)
    if np.isfinite(found["error"]).any():
        yield (
            "inversion-again",
            html.ReportFigure(
                "Projections projected again",
                f"P(x) is the projection of each of {n:,} test images x. A projection "
                "is an image that the generator can make: projected again, it would "
                "stay where it is if inversion were perfect.",
                figures.to_png(
                    figures.error_decades(
                        {
                            "P(x) against x": found["error"],
                            "P(P(x)) against P(x)": found["again"],
                        }
                    )
                ),
            ),
        )
    if context.experiment.diagnostics.recoveries:
        yield from _recoveries(context)


def _solvers(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    block = context.experiment.diagnostics
    texts = [inversion.registry.to_string(solver) for solver in block.solvers]
    curves = {}
    names = labels.column_labels(texts)
    for name, solver in zip(names, block.solvers, strict=True):
        folder = solver_folder(solver)
        found = read_rounds(context, folder, context.data.diagnosed.size)
        curves[name] = figures.SolverCurve(
            evaluation.mean_best_curve(found["curves"]), passes_of(context, solver)
        )
    if not any(np.isfinite(curve.error).any() for curve in curves.values()):
        return
    restarts = inversion.restarts_registry.to_string(block.restarts)
    yield (
        "inversion-solvers",
        html.ReportFigure(
            "Error against steps and cost",
            f"Mean error of {context.data.diagnosed.size:,} test images, "
            f"{restarts_label(restarts)}, after each step of a solver. Passes go "
            "forward or backward through the generator, and those of all starts of an "
            "image are added up.",
            figures.to_png(figures.solver_curves(curves)),
        ),
    )


def _recoveries(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    n = context.experiment.diagnostics.recoveries
    errors = read_rounds(context, RECOVERY, n)["error"]
    if not np.isfinite(errors).any():
        return
    picture = figures.error_decades(
        {"P(G(z)) against G(z)": errors}, limit=evaluation.RECOVERED
    )
    yield (
        "inversion-recovery",
        html.ReportFigure(
            "Recovery of x = G(z)",
            f"Errors of the projections of {n:,} images of latents drawn from the "
            f"prior, which an error of {evaluation.RECOVERED:g} or less counts as "
            "found again. Each has a latent of error 0.",
            figures.to_png(picture),
        ),
    )


_WORDS = Words(
    "Inversion",
    "Inversion looks for the latent z* whose image G(z*) is nearest to an image x. The "
    "tables and figures show how near solvers come and at what cost, whether all "
    "starts lead to one place, and whether an image that the generator made is found "
    "again.",
)

FINDING = Finding(
    name="diagnose",
    find=find,
    writes=(TABLE, SUMMARY, "diagnostics/"),
    show=_show,
    words=lambda context: _WORDS,
)
