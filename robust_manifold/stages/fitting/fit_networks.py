"""Stage `fit_networks`: trains those of `config.networks` that have a training."""

import dataclasses

import numpy as np

from robust_manifold import data, training
from robust_manifold.core import batching
from robust_manifold.core.types import Image, Params, PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.stages import roles
from robust_manifold.stages.context import Context
from robust_manifold.stages.fitting.training_loop import Task, train
from robust_manifold.stages.inputs import needed
from robust_manifold.stages.networks import trained

LOSS = "validation_loss"
"""The mean loss of the validation images."""


def run(context: Context) -> list[str]:
    """Writes `checkpoints/network-ROLE` of each."""
    return [_fit(context, name) for name in needed.trained_networks(context.experiment)]


def _fit(context: Context, name: str) -> str:
    role, model = roles.of_network(name), context.networks.trained_by_role(name)
    if trained.take_from_elsewhere(context, role, model):
        return trained.output(context, role)
    block, key = context.networks.block_of(role), context.stream(f"fit_{role}")
    fitting, steps = block.training, context.networks.network_steps(name)
    train(
        context,
        Task(
            name=role,
            init=lambda: fitting.init(model, key, steps),
            step=lambda state, batch: fitting.step(
                model, steps, key, state, batch.images
            ),
            params=fitting.network_params,
            steps=steps,
            batch_size=block.batch_size,
            validate=lambda params: _validate(
                context, role, _Loss(fitting, model), params
            ),
            metadata=trained.metadata(context, role, model),
            score=None,
        ),
    )
    return trained.output(context, role)


@dataclasses.dataclass(frozen=True)
class _Loss:
    """The loss of one image."""

    training: training.NetworkTraining
    model: Model

    def __call__(self, params: Params, key: PRNGKey, image: Image) -> Scalar:
        return self.training.loss(self.model, params, key, image)


def _validate(
    context: Context, role: str, loss: _Loss, params: Params
) -> dict[str, float]:
    """Returns the mean loss of the validation images."""
    split = context.data.dataset.validation
    if not split.size:
        return {}
    found = batching.map_examples(
        loss,
        params,
        data.to_float(split.images),
        key=context.stream(f"validate {role}"),
        ids=split.ids,
    )
    return {LOSS: float(np.mean(found))}
