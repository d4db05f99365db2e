"""A Linen module as pure functions of its parameters."""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params, PRNGKey


class Functions(NamedTuple):
    """The functions of a `Model`, where they are documented."""

    init: Callable[[PRNGKey], Params]
    apply: Callable[[Params, Array], Array]
    train: Callable[[Params, Array, PRNGKey], tuple[Array, Params]]
    features: Callable[[Params, Array], Array]


def functions_of(
    module: nn.Module,
    input_shape: tuple[int, ...],
    prepare: Callable[[Array], Array] = lambda rows: rows,
) -> Functions:
    """Returns the functions of a module that is called as `module(rows, train)`.

    Args:
      module: takes a batch of rows, each of `input_shape`.
      input_shape: of one example.
      prepare: what becomes of every batch before the module sees it.
    """

    # Compiled, so that the forward pass that only gives the shapes is not run.
    @jax.jit
    def init(key: PRNGKey) -> Params:
        return module.init(key, prepare(jnp.zeros((1, *input_shape))), False)

    def apply(params: Params, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        batch, rows = _rows(inputs, input_shape)
        outputs = module.apply(params, prepare(rows), False)
        return outputs.reshape(*batch, *outputs.shape[1:])  # type: ignore[union-attr]

    def train(
        params: Params, inputs: Float[Array, "b ..."], key: PRNGKey
    ) -> tuple[Float[Array, "b ..."], Params]:
        batch, rows = _rows(inputs, input_shape)
        if len(batch) != 1:
            raise UsageError(
                f"inputs in training have the shape {inputs.shape}; allowed: one "
                f"batch axis before {input_shape}."
            )
        outputs, updated = module.apply(
            params, prepare(rows), True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return outputs, {**params, **updated}

    def features(params: Params, inputs: Float[Array, "..."]) -> Float[Array, "... d"]:
        batch, rows = _rows(inputs, input_shape)
        seen = _inputs_of_dense(module, params, prepare(rows))
        if not seen:
            raise UsageError("This model has no features; allowed: a dense layer.")
        last = seen[-1]
        return last.reshape(*batch, -1)

    return Functions(init, apply, train, features)


def _rows(inputs: Array, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Array]:
    """Returns the batch axes of the inputs, and the inputs with these as one axis."""
    count = inputs.ndim - len(shape)
    if count < 0 or inputs.shape[count:] != shape:
        raise UsageError(
            f"inputs of a model have the shape {inputs.shape}; allowed: {shape} after "
            "any batch axes."
        )
    batch = inputs.shape[:count]
    return batch, inputs.reshape(math.prod(batch), *shape)


def _inputs_of_dense(module: nn.Module, params: Params, rows: Array) -> list[Array]:
    """Returns the inputs of the dense layers in the order in which they are called."""
    seen = []

    def record(call, arguments, named, context):
        if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
            seen.append(arguments[0])
        return call(*arguments, **named)

    with nn.intercept_methods(record):
        module.apply(params, rows, False)
    return seen
