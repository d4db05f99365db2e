"""Training of a regression by squared error, of images as they are or attacked."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.attacks import Attack
from robust_manifold.core import keys
from robust_manifold.core.criterion import Farthest
from robust_manifold.core.spec import check
from robust_manifold.core.types import PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.training.adversarial import check_attack, partly_attacked
from robust_manifold.training.classifier import ClassifierState, Descending, registry
from robust_manifold.training.optimizers import Adam, Optimizer, as_optimizer

_WANTED = Farthest()
"""What an attack in training wants: the largest error inside its budget."""


class RegressionMetrics(NamedTuple):
    """What a step measures on its batch.

    Attributes:
      loss: the mean squared error, in the unit of the targets squared.
      error: the mean distance of outputs from their targets; of one output the mean
        absolute error.
    """

    loss: Scalar
    error: Scalar


@registry.register("squared_error")
@dataclasses.dataclass(frozen=True)
class SquaredError(Descending):
    """Training by the mean squared distance of outputs from their targets.

    With an attack it is adversarial training on the same loss (Madry et al. 2018):
    every minibatch is first moved to where the parameters before the step are the
    farthest from the targets, then a step is taken on the outcome.

    Attributes:
      optimizer: the optimiser, or its text as in a config.
      average_decay: decay of the exponential moving average of the parameters; 0
        keeps the last parameters themselves.
      attack: a stepped attack, or its text as in a config; None: none.
      clean_share: share of each minibatch that stays as it is, rounded to whole
        images, in [0, 1).
    """

    optimizer: Optimizer | str = Adam(0.001)
    average_decay: float = 0.0
    attack: Attack | str | None = None
    clean_share: float = 0.0

    numbers = True

    def __post_init__(self):
        object.__setattr__(self, "optimizer", as_optimizer(self.optimizer))
        check(0 <= self.average_decay < 1, self, "average_decay", "0 to below 1")
        if self.attack is not None:
            check_attack(self)
            assert isinstance(self.attack, Attack)
            # Refuses one that needs classes, before any work.
            self.attack.fitting(_WANTED, 1)

    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: ClassifierState,
        images: Float[Array, "batch height width channels"],
        labels: Float[Array, "batch outputs"],
    ) -> tuple[ClassifierState, Any]:
        """One step down the gradient of the mean squared error."""
        if self.attack is not None:
            attack_key = keys.stream(key, "attack")
            images = partly_attacked(
                self, model, state.params, images, labels, attack_key, _WANTED
            )

        def loss_of(networks):
            (params,) = networks
            outputs, params = model.train(params, images, key)
            squared = jax.vmap(_WANTED.misfit)(outputs, labels)
            return jnp.mean(squared), ((params,), squared)

        state, descended = self._descended(steps, state, loss_of)
        error = jnp.mean(jnp.sqrt(descended.measured))
        return state, RegressionMetrics(descended.loss, error)
