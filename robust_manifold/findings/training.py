"""How the networks were trained: what was logged, and samples of the generator."""

import numpy as np

from robust_manifold import models
from robust_manifold.findings.finding import Finding, Shown
from robust_manifold.reporting import figures, html
from robust_manifold.runtime import load_params, read_metrics
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained

_SAMPLES = 60


def _show(context: Context) -> Shown:
    """Returns samples, where no other finding shows some, and the training curves."""
    shown = []
    measured = "measure" in context.experiment.stages
    if "generator" in context.networks.roles and not measured:
        shown.append(("samples", _samples(context)))
    file = context.folder.path / "metrics.jsonl"
    if context.networks.roles and (records := read_metrics(file)):
        curves = figures.to_png(figures.training_curves(records))
        told = html.ReportFigure("Training", "What was logged, by step.", curves)
        shown.append(("training", told))
    return Shown(figures=shown)


def _samples(context: Context) -> html.ReportFigure:
    # Not `trained.load`, which asks all processes of a job: here is but the first.
    params = load_params(context.folder.path / trained.folder("generator"))
    latents = models.sample_latents(
        context.networks.generator, context.stream("samples"), _SAMPLES
    )
    return sample_figure(np.asarray(context.networks.generator.apply(params, latents)))


def sample_figure(images: np.ndarray) -> html.ReportFigure:
    """Returns the figure of images that a generator made of draws of the prior."""
    return html.ReportFigure(
        "Samples of the generator",
        f"{len(images)} latents drawn from the prior, none left out.",
        figures.to_png(figures.sample_grid(images)),
    )


FINDING = Finding(name="training", of="both", show=_show)
