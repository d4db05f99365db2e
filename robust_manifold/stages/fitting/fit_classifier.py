"""Stage `fit_classifier`: trains the run's classifier, or takes it from elsewhere."""

from collections.abc import Callable
from typing import Any

import numpy as np

from robust_manifold import data, evaluation, models, training
from robust_manifold.config import CLASSIFIER
from robust_manifold.core import batching
from robust_manifold.core.types import Params
from robust_manifold.stages import roles
from robust_manifold.stages.context import Context
from robust_manifold.stages.fitting.training_loop import SCORE, Task, train
from robust_manifold.stages.networks import trained


def run(context: Context) -> list[str]:
    """Writes `checkpoints/classifier`."""
    return [fit(context, CLASSIFIER)]


def fit(
    context: Context,
    name: str,
    *,
    adapt: Callable[[training.ClassifierTraining], training.ClassifierTraining]
    | None = None,
    given: Callable[[], dict[str, Any]] = dict,
) -> str:
    """Makes one classifier; returns the file that shows it to be whole.

    Args:
      context: the run.
      name: of the classifier.
      adapt: returns the training as it is used in this run.
      given: returns more arguments of its `init`.
    """
    role = roles.of_classifier(name)
    block, model = context.networks.block_of(role), context.networks.classifier_of(name)
    if trained.take_from_elsewhere(context, role, model):
        return trained.output(context, role)
    key, steps = context.stream(f"fit_{role}"), context.networks.classifier_steps(name)
    fitting = block.training if adapt is None else adapt(block.training)
    dataset = context.data.dataset
    train_split, validation = dataset.train, dataset.validation

    def init():
        arguments = given()
        if fitting.starts_from_images and arguments.get("start") is None:
            arguments["start"] = fitting.start(
                model, key, data.to_float(train_split.images), train_split.labels
            )
        return fitting.init(model, key, steps, **arguments)

    def validate(params):
        if not validation.size:
            return {}
        if fitting.numbers:
            return {ERROR: mean_error(model, params, validation)}
        return {SCORE: _accuracy(model, params, validation)}

    train(
        context,
        Task(
            name=role,
            init=init,
            step=lambda state, batch: fitting.step(
                model, steps, key, state, batch.images, batch.labels
            ),
            params=fitting.train_params,
            steps=steps,
            batch_size=block.batch_size,
            validate=validate,
            metadata=trained.metadata(context, role, model),
            score=_score_of(fitting),
            mode="min" if fitting.numbers else "max",
        ),
    )
    return trained.output(context, role)


ERROR = "validation_error"
"""The mean absolute error of a regression, by which its best parameters are kept."""


def _score_of(fitting: training.ClassifierTraining) -> str | None:
    """Returns the measure that says which of a training's parameters are best.

    Where it aims at more than clean images, the best on these are often its first.
    """
    if isinstance(fitting, training.SquaredError):
        return ERROR if fitting.attack is None else None
    return SCORE if type(fitting) is training.CrossEntropy else None


def mean_error(model: models.Model, params: Params, split: data.Split) -> float:
    """Returns the mean distance of a network's outputs from the targets of a split."""
    outputs = batching.apply_examples(model.apply, params, data.to_float(split.images))
    return float(evaluation.absolute_errors(outputs, split.labels).mean())


def _accuracy(model: models.Model, params: Params, split: data.Split) -> float:
    """Returns the share of a split that the classifier gets right."""
    images = data.to_float(split.images)
    logits = batching.apply_examples(model.apply, params, images)
    return float(np.mean(evaluation.predictions_of(logits) == split.labels))
