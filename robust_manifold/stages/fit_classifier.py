"""Stage `fit_classifier`: trains the classifier, or takes it from another run."""

from robust_manifold.stages import predict, trained
from robust_manifold.stages.context import Context
from robust_manifold.stages.training_loop import SCORE, Task, train


def run(context: Context) -> list[str]:
    """Writes `checkpoints/classifier`."""
    block, model = context.experiment.classifier, context.classifier
    if block.from_run:
        trained.take_from_other_run(context, "classifier", model)
        return [trained.output("classifier")]
    training, key = context.classifier_training, context.stream("fit_classifier")
    validation = context.dataset.validation

    def validate(params):
        if not validation.size:
            return {}
        return {SCORE: predict.accuracy(model, params, validation)}

    train(
        context,
        Task(
            name="classifier",
            init=lambda: training.init(model, key),
            step=lambda state, batch: training.step(
                model, key, state, batch.images, batch.labels
            ),
            params=lambda state: state.params,
            steps=training.steps,
            batch_size=block.batch_size,
            validate=validate,
            metadata=trained.metadata(context, "classifier", model),
        ),
    )
    return [trained.output("classifier")]
