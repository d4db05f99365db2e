"""How good the generator is, by what inversion needs of it."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from robust_manifold import data, evaluation, inversion, models
from robust_manifold.config import Data
from robust_manifold.core import batching
from robust_manifold.core.prior import Prior, Uniform
from robust_manifold.core.types import Latent, Params, PRNGKey, Scalar
from robust_manifold.findings import columns, training
from robust_manifold.findings.finding import Finding, Passage, Shown, Words
from robust_manifold.findings.measures_table import measures_table
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import figures, html
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.pace import Pace, Part
from robust_manifold.stages.table.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)

SUMMARY = "measures.csv"
FOLDER = "measures/inversion"
PICTURES = "measures/pictures.npz"
FEATURES = "input of the last dense layer"

_WALKS, _WALK_STEPS = 6, 9
_SHOWN_SAMPLES = 10
_SAMPLES = 60


def find(context: Context) -> list[str]:
    """Writes `measures.csv`, `measures/inversion/` and `measures/pictures.npz`."""
    networks = {name: trained.load(context, name) for name in context.networks.roles}
    split = context.data.measured
    stored = stored_images(context, [FOLDER], split.size)
    parts = {FOLDER: Part(split.size, stored=stored)}
    with Pace("measure", "images", parts) as pace:
        compute_rounds(
            context,
            FOLDER,
            lambda _, part: _invert(context, networks, part),
            pace.teller(FOLDER),
            split,
        )
    samples = _samples(context, networks["generator"])
    measured = _measures(context, networks["classifier"], samples)
    context.folder.write_text(SUMMARY, evaluation.measures_to_csv([measured]))
    context.folder.write_npz(PICTURES, _pictures(context, networks, samples))
    return [SUMMARY, PICTURES, *round_paths(context, [FOLDER], split.size)]


def _invert(context: Context, networks: dict[str, Params], part: data.Split):
    """Returns what is stored of one round of inversions."""
    block, spanner = context.experiment.measures, context.networks.spanner
    images = data.to_float(part.images)
    found = inversion.invert(
        spanner.generate,
        networks["generator"],
        images,
        key=context.stream("measure"),
        latent_shape=spanner.latent_shape,
        solver=block.solver,
        restarts=block.restarts,
        prior=spanner.prior,
        encode=spanner.encode,
        encoder_params=networks.get("encoder"),
        ids=part.ids,
        batch_size=context.data.batch_size,
    )
    arrays = {name: np.asarray(value) for name, value in found._asdict().items()}
    arrays["projections"] = arrays.pop("image")
    classify = context.networks.classifier.apply
    of_images, of_projections = (
        batching.apply_examples(classify, networks["classifier"], batch)
        for batch in (images, arrays["projections"])
    )
    return arrays | {
        "labels": part.labels,
        "logits": of_images,
        "projection_logits": of_projections,
    }


def _measures(
    context: Context, classifier: Params, samples: np.ndarray
) -> evaluation.GeneratorMeasures:
    """Returns the line of measures.csv."""
    blocks = context.experiment
    found = read_rounds(context, FOLDER, context.data.measured.size)
    # Real images that no network was trained on, and as many as there are samples.
    split = context.data.dataset.test
    chosen = np.linspace(0, split.size - 1, min(len(samples), split.size)).astype(int)
    real, fake = (
        batching.apply_examples(
            context.networks.classifier.features, classifier, images
        )
        for images in (data.to_float(split.images[chosen]), samples)
    )
    logits = batching.apply_examples(
        context.networks.classifier.apply, classifier, samples
    )
    classes = len(context.data.dataset.class_names)
    seconds = context.folder.status.get("stage_seconds", {}).get("fit_generator")
    elsewhere = blocks.generator.taken_from
    classifier_text = trained.model_text(context, "classifier")
    origin = trained.origin(context, "generator")
    return evaluation.summarise_generator(
        generator=trained.model_text(context, "generator"),
        training=origin.training,
        data=_data_text(blocks.data),
        classifier=classifier_text,
        solver=inversion.registry.to_string(blocks.measures.solver),
        restarts=inversion.restarts_registry.to_string(blocks.measures.restarts),
        steps=origin.step,
        classes=classes,
        errors=found["error"],
        labels=found["labels"],
        predictions=evaluation.predictions_of(found["projection_logits"]),
        clean_predictions=evaluation.predictions_of(found["logits"]),
        features=f"{FEATURES} of {classifier_text}",
        samples=evaluation.measure_samples(
            real,
            fake,
            evaluation.predictions_of(logits),
            classes=classes,
            k=blocks.measures.neighbours,
        ),
        seconds=None if elsewhere else seconds,
        confidence=blocks.evaluation.confidence,
    )


def _data_text(block: Data) -> str:
    """Returns the data set and what was made of it: runs that differ do not compare."""
    made = {
        "label": block.label,
        "crop": block.crop,
        "side": block.image_size,
        "split seed": block.split_seed,
    }
    return ", ".join([block.source, *(f"{k} {v}" for k, v in made.items() if v)])


def _samples(context: Context, params: Params) -> np.ndarray:
    """Returns images of latents drawn from the prior, the same in every run."""
    model = context.networks.generator
    count = context.experiment.measures.samples
    latents = models.sample_latents(model, context.stream("samples"), count)
    return batching.apply_examples(model.apply, params, np.asarray(latents))


def _pictures(
    context: Context, networks: dict[str, Params], samples: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns what the figures of the report show."""
    shown = samples[:_SHOWN_SAMPLES]
    images, flip = context.data.dataset.train.images, context.experiment.data.flip
    neighbours, distances = _nearest(shown, images, flip)
    return {
        "samples": samples[:_SAMPLES],
        "neighbours": neighbours,
        "distances": distances,
        "walks": _walks(
            context.networks.generator, networks["generator"], context.stream("walks")
        ),
    }


class _Nearest(NamedTuple):
    """What the generator was shown that is most like each sample."""

    images: np.ndarray
    distances: np.ndarray


def _nearest(samples: np.ndarray, images: np.ndarray, flip: bool) -> _Nearest:
    """Returns the training image nearest to each sample, mirrored where that is nearer.

    Args:
      samples: generated images, float32.
      images: the training images, uint8.
      flip: whether the training saw mirror images too.
    """
    indices, distances = evaluation.nearest_neighbours(samples, images)
    found = data.to_float(images[indices])
    if not flip:
        return _Nearest(found, distances)
    # A mirrored sample is as far from an image as the sample is from its mirror image.
    indices, mirrored = evaluation.nearest_neighbours(samples[:, :, ::-1], images)
    mirrors = data.to_float(images[indices])[:, :, ::-1]
    nearer = (mirrored < distances)[:, None, None, None]
    return _Nearest(np.where(nearer, mirrors, found), np.minimum(distances, mirrored))


def _walks(model: models.Model, params: Params, key: PRNGKey) -> np.ndarray:
    """Returns images on the way from one draw of the prior to another."""
    latents = models.sample_latents(model, key, 2 * _WALKS)
    # Both ends are of one class: there is no way between two.
    size = latents.shape[-1] - model.latent_classes
    starts, ends = latents[::2, :size], latents[1::2, :size]
    shares = jnp.linspace(0, 1, _WALK_STEPS)
    between = functools.partial(_between, model.prior)
    moves = jax.vmap(jax.vmap(between, (None, None, 0)), (0, 0, None))
    places = jnp.pad(
        moves(starts, ends, shares), ((0, 0), (0, 0), (0, model.latent_classes))
    )
    classes = np.arange(_WALKS)[:, None] % max(1, model.latent_classes)
    labels = jnp.asarray(np.broadcast_to(classes, places.shape[:-1]))
    places = models.latents_of_classes(model, places, labels)
    return np.asarray(model.apply(params, places))


def _between(prior: Prior, start: Latent, end: Latent, share: Scalar) -> Latent:
    """Returns the latent that lies a share of the way from one draw to another."""
    if isinstance(prior, Uniform):
        return _straight(start, end, share)
    return prior.centre + _on_the_sphere(
        start - prior.centre, end - prior.centre, share
    )


def _straight(start: Latent, end: Latent, share: Scalar) -> Latent:
    return (1 - share) * start + share * end


def _on_the_sphere(start: Latent, end: Latent, share: Scalar) -> Latent:
    """Moves by equal angles, since normal latents of many dimensions fill a shell."""
    cosine = start @ end / (jnp.linalg.norm(start) * jnp.linalg.norm(end))
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    # Between two latents on one line through the centre no way around it is shortest.
    bent = jnp.sin(angle) > 1e-3
    sine = jnp.where(bent, jnp.sin(angle), 1.0)
    turned = (
        jnp.sin((1 - share) * angle) * start + jnp.sin(share * angle) * end
    ) / sine
    return jnp.where(bent, turned, _straight(start, end, share))


def _show(context: Context) -> Shown:
    measured = evaluation.read_measures(context.folder.read_text(SUMMARY))
    confidence = context.experiment.evaluation.confidence
    table = measures_table(measured, confidence=confidence)
    return Shown([table], figures=[*_figures(context)])


def _results(group: Group) -> Iterator[Passage]:
    frames = group.frames(SUMMARY, evaluation.read_measures)
    if frames:
        several = len(frames) > 1
        table = measures_table(
            pd.concat(frames, ignore_index=True),
            names=[f"Seed {seed}" for seed in group.seeds] if several else None,
            confidence=group.confidence,
        )
        yield Passage("The generator", [table])


def _figures(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields what the generator makes: samples, reconstructions, walks, neighbours."""
    stored = context.folder.read_npz(PICTURES)
    mirrored = " or mirror image of one" if context.experiment.data.flip else ""
    conditional = context.networks.generator.latent_classes
    yield "samples", training.sample_figure(stored["samples"])
    yield "reconstructions", _reconstructions(context)
    yield (
        "interpolation",
        html.ReportFigure(
            "From latent to latent",
            "Each row goes from one draw of the prior to another, by equal steps"
            + (", within a class." if conditional else "."),
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
    found = read_rounds(context, FOLDER, context.data.measured.size)
    count = context.experiment.report.pictures
    groups = []
    for title, chosen in columns.groups(context, found["labels"], count):
        images = data.to_float(context.data.measured.images[chosen])
        projections = found["projections"][chosen]
        sheet = [
            figures.SheetRow(
                "test image", images, columns.softmax(found["logits"][chosen])
            ),
            figures.SheetRow(
                "projection",
                projections,
                columns.softmax(found["projection_logits"][chosen]),
            ),
        ]
        groups.append(figures.SheetGroup(title, found["labels"][chosen], sheet))
    names = context.data.dataset.class_names
    block = context.experiment.measures
    return html.ReportFigure(
        "Reconstructions of test images",
        f"G(z*) of the {_starts(block.restarts.count)}. Under each image: the "
        "class that the classifier gives it and its probability.",
        figures.to_png(figures.projection_sheet(groups, class_names=names)),
    )


def _starts(count: int) -> str:
    return f"best of {count} starts" if count > 1 else "one start"


_WORDS = Words(
    "A generator of images",
    "A generator G makes images from latents z. What it is good for here is inversion: "
    "how near to a new image x the nearest G(z*) comes, and whether a classifier still "
    "sees in G(z*) what it saw in x. The table measures both on images that no "
    "training saw, and compares the generator's samples with such images.",
)

FINDING = Finding(
    name="measure",
    find=find,
    writes=(SUMMARY, "measures/"),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
    words=lambda context: _WORDS,
)
