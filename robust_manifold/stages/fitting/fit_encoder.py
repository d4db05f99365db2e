"""Stage `fit_encoder`: trains an encoder for the generator, or takes it over."""

import jax.numpy as jnp
import numpy as np

from robust_manifold import data, models
from robust_manifold.core import batching
from robust_manifold.core.types import Params
from robust_manifold.runtime import console, load_params, read_params_metadata
from robust_manifold.stages.context import Context
from robust_manifold.stages.fitting.training_loop import Task, train
from robust_manifold.stages.networks import trained

ERROR = "validation_error"
"""Mean squared error of validation images and what becomes of their guesses."""


def run(context: Context) -> list[str]:
    """Writes `checkpoints/encoder`."""
    block, model = context.experiment.encoder, context.networks.encoder
    if trained.take_from_elsewhere(context, "encoder", model):
        return [trained.output(context, "encoder")]
    key = context.stream("fit_encoder")
    setting, fit = context.networks.encoder_setting, block.training
    generator = batching.replicate(trained.load(context, "generator"))
    train(
        context,
        Task(
            name="encoder",
            init=lambda: fit.init(setting, key, _of_partner(context)),
            step=lambda state, batch: fit.step(
                setting, key, generator, state, batch.images, batch.labels
            ),
            params=fit.encoder_params,
            steps=setting.steps,
            batch_size=block.batch_size,
            validate=lambda params: _validate(context, generator, params),
            metadata=trained.metadata(context, "encoder", model),
            score=ERROR,
            mode="min",
        ),
    )
    return [trained.output(context, "encoder")]


def _of_partner(context: Context) -> Params:
    """Returns the encoder that the generator was trained with; None if there is none.

    Only one of the same model will do.
    """
    role = context.experiment.generator.training.role
    folder = context.folder.path / trained.folder(role)
    if not any(folder.glob("*/manifest.json")):
        return None
    text = trained.model_text(context, "encoder")
    if read_params_metadata(folder).metadata["model"] != text:
        return None
    console.info(f"fit_encoder  goes on from the {role} of this run")
    return load_params(folder)


def _validate(context: Context, generator: Params, encoder: Params) -> dict[str, float]:
    """Returns the error of the validation images' guesses, each of its own class."""
    split = context.data.dataset.validation
    if not split.size:
        return {}
    images = data.to_float(split.images)
    guesses = batching.apply_examples(context.networks.encoder.apply, encoder, images)
    mean, _ = np.split(guesses, 2, axis=-1)
    latents = models.with_classes(
        context.networks.generator, jnp.asarray(mean), jnp.asarray(split.labels)
    )
    guessed = batching.apply_examples(
        context.networks.generator.apply, generator, np.asarray(latents)
    )
    return {ERROR: float(np.mean((guessed - images) ** 2))}
