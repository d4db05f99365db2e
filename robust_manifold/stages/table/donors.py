"""Where a cascade begins beside the clean images: fixed donors, the same in any table.

A donor is attacked in a column's stead, and its images are starts.  None of them is
another column, so that a figure does not depend on which columns stand beside it.
"""

from collections.abc import Iterator
from typing import Any

from robust_manifold import defenses, models
from robust_manifold.config import Column
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.core.networks import ENCODER, GENERATOR
from robust_manifold.evaluation import cascades
from robust_manifold.runtime import published
from robust_manifold.runtime.weight_files import WeightFile
from robust_manifold.stages.context import Context
from robust_manifold.stages.inputs import elsewhere
from robust_manifold.stages.networks import trained

_SEARCHES = {"mnist_vae_decoder": defenses.DefenseGAN(steps=50, restarts=2)}
"""Inversions of published generators whose images carry over best, by validation
digits: of 32, at linf 0.2, those of this one broke 13 behind a full inversion of the
same generator, where those of four steps of Levenberg-Marquardt broke 6."""


def donors_of(context: Context, column: Column) -> tuple[cascades.Donor, ...]:
    """Returns the donors of a column.

    They are its classifier without the defence, and that classifier behind a short
    inversion of each published generator of the run's training images or, where none
    fits, of the run's own.

    Args:
      context: the run.
      column: of its table.

    Raises:
      UsageError: if published weights are damaged.
    """
    classify = context.networks.classifier_of(column.classifier).apply
    params = trained.load_classifier(context, column.classifier)
    wants = context.experiment.wants
    donors = [] if column.bare else [cascades.bare_network(classify, params, wants)]
    spanners = [*_published(context)]
    # Only where the stage needs it, or it need not be there yet.
    if not spanners and GENERATOR in context.networks.roles_of(["attack"]):
        own = context.networks.spanner, trained.load_spanner(context)
        spanners = [("the generator", *own)]
    for name, spanner, spanned in spanners:
        search = _SEARCHES.get(name)
        donors.append(
            cascades.inverted(name, spanner, spanned, classify, params, search, wants)
        )
    return tuple(donors)


def _published(context: Context) -> Iterator[tuple[str, Spanner, SpannerParams]]:
    """Yields the published generators of these training images, each with its encoder.

    Equal training images have equal shapes.
    """
    found = {}
    for name in published.names():
        weights = published.read(name)
        if weights.metadata.get("trained_on") == _trained_on(context):
            found[name] = weights
    for name, weights in found.items():
        if weights.metadata.get("role") != GENERATOR:
            continue
        generator, params = _built(context, weights)
        digest = elsewhere.digest(weights.metadata["model"], params)
        encoder = encoding = None
        for other in found.values():
            of = other.metadata.get(trained.GENERATOR)
            if other.metadata.get("role") == ENCODER and of == digest:
                model, encoding = _built(context, other)
                encoder = model.apply
        yield (
            name,
            Spanner(
                generator.apply,
                generator.input_shape,
                generator.starts,
                encoder,
                generator.class_generator,
            ),
            SpannerParams(params, encoding),
        )


def _trained_on(context: Context) -> str:
    return context.data.digests["train"]["sha256"]


def _built(context: Context, weights: WeightFile) -> tuple[models.Model, Any]:
    model = models.build(
        weights.metadata["model"],
        image_shape=context.data.dataset.image_shape,
        classes=len(context.data.dataset.class_names),
        outputs=context.data.dataset.outputs,
    )
    return model, models.from_table(model, weights.table)
