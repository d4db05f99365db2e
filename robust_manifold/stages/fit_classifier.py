"""Stage `fit_classifier`: trains the classifier, or takes it from elsewhere."""

from robust_manifold.stages import predict, trained
from robust_manifold.stages.context import Context
from robust_manifold.stages.training_loop import SCORE, Task, train


def run(context: Context) -> list[str]:
    """Writes `checkpoints/classifier`."""
    block, model = context.experiment.classifier, context.classifier
    if trained.take_from_elsewhere(context, "classifier", model):
        return [trained.output(context, "classifier")]
    key = context.stream("fit_classifier")
    training, steps = block.training, context.classifier_steps
    validation = context.dataset.validation

    def validate(params):
        if not validation.size:
            return {}
        return {SCORE: predict.accuracy(model, params, validation)}

    train(
        context,
        Task(
            name="classifier",
            init=lambda: training.init(model, key, steps),
            step=lambda state, batch: training.step(
                model, steps, key, state, batch.images, batch.labels
            ),
            params=training.train_params,
            steps=steps,
            batch_size=block.batch_size,
            validate=validate,
            metadata=trained.metadata(context, "classifier", model),
        ),
    )
    return [trained.output(context, "classifier")]
