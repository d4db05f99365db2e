"""Stage `fit_classifiers`: trains the classifiers of `config.classifiers`.

They come after the generator, which the training of some of them needs.
"""

import functools
from typing import Any

from robust_manifold.config import CLASSIFIER
from robust_manifold.runtime import console, load_params
from robust_manifold.stages import roles
from robust_manifold.stages.context import Context
from robust_manifold.stages.fitting import fit_classifier
from robust_manifold.stages.inputs import needed
from robust_manifold.stages.networks import trained


def run(context: Context) -> list[str]:
    """Writes `checkpoints/classifier-NAME` of each that the run needs."""
    named = needed.named_classifiers(context.experiment)
    for name in context.experiment.classifiers:
        if name not in named:
            console.info(f"fit_classifiers  {name} is left out: no column names it")
    # Each after the one that it starts from.
    return [_fit(context, name) for name in named]


def _fit(context: Context, name: str) -> str:
    block = context.experiment.classifier_of(name)
    given = functools.partial(_given, context, name)
    if not block.needs_spanner:
        return fit_classifier.fit(context, name, given=given)
    return fit_classifier.fit(
        context,
        name,
        adapt=lambda training: training.with_spanner(context.networks.spanner),
        given=given,
    )


def _given(context: Context, name: str) -> dict[str, Any]:
    """Returns what a training starts with, besides its key."""
    block, given = context.experiment.classifier_of(name), {}
    if block.needs_spanner:
        given["spanner"] = trained.load_spanner(context)
    if block.start == CLASSIFIER:
        given["start"] = trained.load_classifier(context, CLASSIFIER)
    elif block.start:
        # Of this stage, which has not finished yet.
        role = roles.of_classifier(block.start)
        given["start"] = load_params(context.folder.path / trained.folder(role))
    return given
