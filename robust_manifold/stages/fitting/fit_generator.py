"""Stage `fit_generator`: trains the generator, or takes it from elsewhere."""

import numpy as np

from robust_manifold import data, inversion
from robust_manifold.core.types import Params
from robust_manifold.stages.context import Context
from robust_manifold.stages.fitting.training_loop import Task, train
from robust_manifold.stages.networks import trained

ERROR = "validation_error"
"""Median error of validation images by inversion, logged while training."""

_VALIDATION_RESTARTS = 2


def run(context: Context) -> list[str]:
    """Writes `checkpoints/generator`, and its partner's parameters beside it."""
    block, model = context.experiment.generator, context.networks.generator
    if trained.take_from_elsewhere(context, "generator", model):
        return [trained.output(context, "generator")]
    key = context.stream("fit_generator")
    training, setting = block.training, context.networks.generator_setting
    final = train(
        context,
        Task(
            name="generator",
            init=lambda: training.init(setting, key),
            step=lambda state, batch: training.step(
                setting, key, state, batch.images, batch.labels
            ),
            params=training.generator_params,
            steps=setting.steps,
            batch_size=block.batch_size * training.minibatches,
            validate=lambda params: _validate(context, params),
            metadata=trained.metadata(context, "generator", model),
        ),
    )
    trained.save(
        context,
        training.role,
        training.partner_params(final),
        trained.metadata(context, training.role, context.networks.partner),
    )
    return [
        trained.output(context, "generator"),
        trained.output(context, training.role),
    ]


def _validate(context: Context, params: Params) -> dict[str, float]:
    """Returns the median error of the first validation images."""
    block = context.experiment.measures
    part = context.data.dataset.validation.take(slice(block.validation_examples))
    if not part.size:
        return {}
    found = inversion.invert(
        context.networks.generator.apply,
        params,
        data.to_float(part.images),
        key=context.stream("validate generator"),
        solver=block.solver,
        restarts=min(block.restarts.count, _VALIDATION_RESTARTS),
        latent_shape=context.networks.generator.input_shape,
        prior=context.networks.generator.starts,
        ids=part.ids,
    )
    return {ERROR: float(np.median(found.error))}
