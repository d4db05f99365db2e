"""One step of an optimiser on one network or several, and the average of its steps."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from robust_manifold.core.types import Params, Scalar

Networks: TypeAlias = tuple[Params, ...]
"""The parameters of the networks that one loss trains together."""


class Descended(NamedTuple):
    """What one step of an optimiser gives."""

    networks: Networks
    memory: optax.OptState
    loss: Scalar
    """Before the step."""
    measured: Any


def remember(
    transform: optax.GradientTransformation, networks: Networks
) -> optax.OptState:
    """Returns the optimiser's memory before its first step."""
    return transform.init(_trained(networks))


def descend(
    loss_of: Callable[[Networks], tuple[Scalar, tuple[Networks, Any]]],
    networks: Networks,
    transform: optax.GradientTransformation,
    memory: optax.OptState,
) -> Descended:
    """Returns the networks one step down the gradient of a loss.

    Only what stands under "params" is trained.  Running statistics are taken from the
    networks that `loss_of` returns.

    Args:
      loss_of: returns (loss, (networks with updated statistics, anything measured)).
      networks: where the step begins.
      transform: the optimiser.
      memory: the optimiser's.
    """

    def loss_of_trained(trained):
        return loss_of(_with_trained(networks, trained))

    gradients = jax.value_and_grad(loss_of_trained, has_aux=True)
    (loss, (updated, measured)), gradient = gradients(_trained(networks))
    updates, memory = transform.update(gradient, memory, _trained(networks))
    trained = optax.apply_updates(_trained(networks), updates)
    return Descended(_with_trained(updated, trained), memory, loss, measured)


def moving_average(
    average: Params, params: Params, decay: float, step: Int[Array, ""]
) -> Params:
    """Returns the exponential moving average after a step.

    Args:
      average: before the step.
      params: after the step.
      decay: of the average, late in the training; 0 returns `params`.
      step: number of the step, from 0.
    """
    # The average starts short, so that a short training outgrows its first params.
    now = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(params, average, 1 - now)


def _trained(networks: Networks) -> tuple[Any, ...]:
    return tuple(network["params"] for network in networks)


def _with_trained(networks: Networks, trained: Any) -> Networks:
    return tuple(
        {**network, "params": params}
        for network, params in zip(networks, trained, strict=True)
    )
