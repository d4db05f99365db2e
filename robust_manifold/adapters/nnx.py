"""A Flax NNX module as a classifier of one image."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import Array

from robust_manifold.adapters.classifier import Classifier, checked
from robust_manifold.adapters.inference import (
    check_kind,
    framework,
    inference_arguments,
)
from robust_manifold.attacks.contract import stateful
from robust_manifold.core.types import Params


def from_nnx(
    model: Any, *, image_shape: Sequence[int] | None = None, **arguments: Any
) -> Classifier:
    """Returns a Flax NNX module, as it is now, as a classifier of one image.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> class Network(nnx.Module):
    ...     def __init__(self, rngs):
    ...         self.norm = nnx.BatchNorm(1, rngs=rngs)
    ...         self.dense = nnx.Linear(64, 10, rngs=rngs)
    ...     def __call__(self, images):
    ...         return self.dense(self.norm(images).reshape(len(images), -1))
    >>> model = Network(nnx.Rngs(0))
    >>> model.eval()
    >>> apply, params = from_nnx(model)
    >>> apply(params, jnp.ones((8, 8, 1))).shape
    (10,)

    Args:
      model: after `model.eval()`; called on a batch of images [n, height, width,
        channels].
      image_shape: see `from_linen`.
      **arguments: more for the call; see `from_linen`.

    Raises:
      UsageError: if it is no NNX module, or has dropout or batch norm in training
        mode, or unless the output is a vector of logits.
    """
    nnx = framework("flax.nnx", "flax")
    check_kind("model", model, nnx.Module, "a Flax NNX module")
    for path, module in nnx.iter_modules(model):
        for flag in ("deterministic", "use_running_average"):
            if getattr(module, flag, None) is False:
                where = ".".join(["model", *map(str, path), flag])
                raise stateful("apply", f"{where} is False")
    graph, state = nnx.split(model)
    given = inference_arguments(model, arguments)
    return checked(_NNX(graph, given), _copied(state), image_shape)


def _copied(state: Any) -> Any:
    """Returns a state with variables of its own.

    What changes them then changes neither the user's model nor, inside a program,
    those that came from outside of it.
    """
    return jax.tree.map(lambda leaf: leaf, state)


@dataclasses.dataclass(frozen=True)
class _NNX:
    graph: Any
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, params: Params, image: Array) -> Array:
        merge = framework("flax.nnx", "flax").merge
        model = merge(self.graph, _copied(params))
        return model(image[None], **dict(self.arguments))[0]
