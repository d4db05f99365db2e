"""Stage `fit_generator`: trains the generator, or takes it from another run."""

from robust_manifold.stages import trained
from robust_manifold.stages.context import Context
from robust_manifold.stages.training_loop import Task, train


def run(context: Context) -> list[str]:
    """Writes `checkpoints/generator`."""
    block, model = context.experiment.generator, context.generator
    if block.from_run:
        trained.take_from_other_run(context, "generator", model)
        return [trained.output("generator")]
    training, key = context.gan_training, context.stream("fit_generator")
    train(
        context,
        Task(
            name="generator",
            init=lambda: training.init(model, context.discriminator, key),
            step=lambda state, batch: training.step(
                model, context.discriminator, key, state, batch.images
            ),
            params=lambda state: state.generator_average,
            steps=training.steps,
            batch_size=block.batch_size * block.discriminator_steps,
            validate=lambda params: {},
            metadata=trained.metadata(context, "generator", model),
        ),
    )
    return [trained.output("generator")]
