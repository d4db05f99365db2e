"""Optimisers as specs: frozen, hashable, built into optax transformations at use."""

import abc
import dataclasses
import math
from typing import Literal

import jax
import optax

from robust_manifold.core.spec import Registry, check

registry: Registry["Optimizer"] = Registry("optimizer")


@dataclasses.dataclass(frozen=True)
class Optimizer(abc.ABC):
    """The base of all optimisers.

    Attributes:
      learning_rate: the step size at its highest.
      schedule: "constant", or "cosine" decay to zero over all steps.
    """

    learning_rate: float
    schedule: Literal["constant", "cosine"] = "constant"

    def __post_init__(self):
        check(
            0 < self.learning_rate < math.inf,
            self,
            "learning_rate",
            "a finite number above 0",
        )

    def build(self, total_steps: int) -> optax.GradientTransformation:
        """Returns the optax transformation for a training of `total_steps`."""
        if self.schedule == "cosine":
            return self._transform(
                optax.cosine_decay_schedule(self.learning_rate, total_steps)
            )
        return self._transform(self.learning_rate)

    @abc.abstractmethod
    def _transform(
        self, learning_rate: optax.ScalarOrSchedule
    ) -> optax.GradientTransformation: ...


def as_optimizer(optimizer: Optimizer | str) -> Optimizer:
    """Returns the optimiser that a config's text describes, or the optimiser itself.

    Raises:
      UsageError: for a text that `registry` cannot build.
    """
    return optimizer if isinstance(optimizer, Optimizer) else registry.build(optimizer)


@registry.register("adam")
@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015); `b1=0.5` is customary for GANs.

    Attributes:
      b1: decay of the mean of gradients, in [0, 1).
      b2: decay of the mean of squared gradients, in [0, 1).
      weight_decay: a step also moves every kernel towards zero by this times the
        learning rate (AdamW, Loshchilov and Hutter, 2019); vectors, which are biases
        and the scales of normalisations, are left alone.
    """

    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check(0 <= self.b1 < 1, self, "b1", "0 to below 1")
        check(0 <= self.b2 < 1, self, "b2", "0 to below 1")
        check(
            0 <= self.weight_decay < math.inf,
            self,
            "weight_decay",
            "a finite number, 0 or more",
        )

    def _transform(self, learning_rate):
        if not self.weight_decay:
            return optax.adam(learning_rate, b1=self.b1, b2=self.b2)
        return optax.adamw(
            learning_rate,
            b1=self.b1,
            b2=self.b2,
            weight_decay=self.weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        )


@registry.register("momentum")
@dataclasses.dataclass(frozen=True)
class Momentum(Optimizer):
    """Gradient descent with momentum, as in Goodfellow's Algorithm 1.

    Attributes:
      momentum: decay of the velocity, in [0, 1); 0 is plain gradient descent.
      nesterov: whether to look ahead.
    """

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self):
        super().__post_init__()
        check(0 <= self.momentum < 1, self, "momentum", "0 to below 1")

    def _transform(self, learning_rate):
        return optax.sgd(learning_rate, momentum=self.momentum, nesterov=self.nesterov)
