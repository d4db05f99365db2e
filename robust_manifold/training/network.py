"""What a training of a network by role is: a frozen spec and pure steps."""

import abc
import functools
from typing import Any

import jax
from jaxtyping import Array, Float

from robust_manifold.core import keys
from robust_manifold.core.spec import Registry
from robust_manifold.core.types import Image, Params, PRNGKey, Scalar
from robust_manifold.models import Model


class NetworkTraining(abc.ABC):
    """The base of all trainings of networks that defences find by their role.

    Subclasses are frozen dataclasses.
    """

    @abc.abstractmethod
    def check_network(self, model: Model, image_shape: tuple[int, ...]) -> None:
        """Raises a `UsageError` if it cannot train such a network on such images."""

    @abc.abstractmethod
    def init(self, model: Model, key: PRNGKey, steps: int) -> Any:
        """Returns the state before the first step: a NamedTuple of arrays, with `step`.

        Args:
          model: the network.
          key: of the whole training.
          steps: of the whole training.

        Raises:
          UsageError: for less than one step.
        """

    @functools.partial(
        jax.jit, static_argnames=("self", "model", "steps"), donate_argnames="state"
    )
    def step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: Any,
        images: Float[Array, "batch height width channels"],
    ) -> tuple[Any, Any]:
        """Returns the state after one step, and its metrics: a NamedTuple of scalars.

        Compiled, with `self`, `model` and `steps` static.

        Args:
          model: the network.
          steps: of the whole training.
          key: of the whole training; each step folds its own number into it.
          state: donated; use the returned one.
          images: pixels in [0, 1].
        """
        step_key = jax.random.fold_in(keys.stream(key, "step"), state.step)
        return self._step(model, steps, step_key, state, images)

    @abc.abstractmethod
    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: Any,
        images: Float[Array, "batch height width channels"],
    ) -> tuple[Any, Any]:
        """Returns what `step` does; `key` is this step's own."""

    @abc.abstractmethod
    def loss(self, model: Model, params: Params, key: PRNGKey, image: Image) -> Scalar:
        """Returns the loss of one image, in inference mode: what validation measures.

        Args:
          model: the network.
          params: of it.
          key: the image's own random key.
          image: pixels in [0, 1].
        """

    @abc.abstractmethod
    def network_params(self, state: Any) -> Params:
        """Returns the trained parameters, as later stages use them."""


registry: Registry[NetworkTraining] = Registry("network training")
"""All trainings of networks by role, by the names that configs use."""
