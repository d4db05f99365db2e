"""What the report shows of stage `diagnose`, from its stored files alone."""

from collections.abc import Iterator

import numpy as np

from robust_manifold import evaluation, inversion
from robust_manifold.reporting import figures, html, labels, tables
from robust_manifold.reporting import inversion as words
from robust_manifold.stages import diagnose
from robust_manifold.stages.context import Context
from robust_manifold.stages.rounds import read_rounds


def shown_tables(context: Context) -> Iterator[tables.Table]:
    """Yields the tables of the report."""
    confidence = context.experiment.evaluation.confidence
    solvers = evaluation.read_solvers(context.folder.read_text(diagnose.TABLE))
    yield words.solvers_table(solvers, near=evaluation.NEAR, confidence=confidence)
    block = context.experiment.measures
    yield words.checks_table(
        context.folder.read_json(diagnose.SUMMARY),
        solver=inversion.registry.to_string(block.solver),
        restarts=inversion.restarts_registry.to_string(block.restarts),
        confidence=confidence,
    )


def shown_figures(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields the figures of the report by the names of their files."""
    yield from _solvers(context)
    n = context.diagnosed.size
    found = read_rounds(context, diagnose.REPETITION, n)
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
        folder = diagnose.solver_folder(solver)
        found = read_rounds(context, folder, context.diagnosed.size)
        curves[name] = figures.SolverCurve(
            evaluation.mean_best_curve(found["curves"]),
            diagnose.passes_of(context, solver),
        )
    if not any(np.isfinite(curve.error).any() for curve in curves.values()):
        return
    restarts = inversion.restarts_registry.to_string(block.restarts)
    yield (
        "inversion-solvers",
        html.ReportFigure(
            "Error against steps and cost",
            f"Mean error of {context.diagnosed.size:,} test images, "
            f"{words.restarts_label(restarts)}, after each step of a solver. Passes go "
            "forward or backward through the generator, and those of all starts of an "
            "image are added up.",
            figures.to_png(figures.solver_curves(curves)),
        ),
    )


def _recoveries(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    n = context.experiment.diagnostics.recoveries
    errors = read_rounds(context, diagnose.RECOVERY, n)["error"]
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
