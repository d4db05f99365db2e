"""One train step of a classifier by cross-entropy."""

import dataclasses
import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from robust_manifold.core import keys
from robust_manifold.core.spec import check
from robust_manifold.core.types import Params, PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.training.optimizers import Optimizer


class ClassifierState(NamedTuple):
    """All that a training of a classifier carries from step to step."""

    step: Int[Array, ""]
    params: Params
    optimizer: optax.OptState


class ClassifierMetrics(NamedTuple):
    """What a step measures on its batch."""

    loss: Scalar
    accuracy: Scalar


@dataclasses.dataclass(frozen=True)
class ClassifierTraining:
    """Training of a classifier by the mean cross-entropy of its batches.

    Attributes:
      optimizer: the optimiser's spec.
      steps: number of steps of the whole training.
    """

    optimizer: Optimizer
    steps: int

    def __post_init__(self):
        check(self.steps >= 1, self, "steps", "1 or more")

    def init(self, model: Model, key: PRNGKey) -> ClassifierState:
        """Returns the state before the first step."""
        params = model.init(keys.stream(key, "init"))
        optimizer = self.optimizer.build(self.steps).init(params)
        return ClassifierState(jnp.zeros((), jnp.int32), params, optimizer)

    @functools.partial(
        jax.jit, static_argnames=("self", "model"), donate_argnames="state"
    )
    def step(
        self,
        model: Model,
        key: PRNGKey,
        state: ClassifierState,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
    ) -> tuple[ClassifierState, ClassifierMetrics]:
        """Returns the state after one step on a batch, and the step's metrics.

        Args:
          model: the classifier.
          key: of the whole training; each step folds its own number into it.
          state: donated; use the returned one.
          images: pixels in [0, 1].
          labels: class numbers.
        """
        chex.assert_equal_shape_prefix([images, labels], 1)
        step_key = jax.random.fold_in(keys.stream(key, "step"), state.step)

        def loss_of(params):
            logits, params = model.train(params, images, step_key)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.mean(losses), (logits, params)

        gradients = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (logits, params)), gradient = gradients(state.params)
        updates, optimizer = self.optimizer.build(self.steps).update(
            gradient, state.optimizer, params
        )
        # Batch statistics have a zero gradient, so the update leaves them as they are.
        params = optax.apply_updates(params, updates)
        accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == labels)
        return (
            ClassifierState(state.step + 1, params, optimizer),
            ClassifierMetrics(loss, accuracy),
        )
