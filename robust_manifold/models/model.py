"""Model, the only seam to Flax, and the specs from which models are built."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.core.errors import UsageError
from robust_manifold.core.prior import Normal, Prior
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import Params, PRNGKey

Shape = tuple[int, ...]


class Model(NamedTuple):
    """A network as pure functions of its parameters.

    Parameters are the Linen variables {"params": ..., and perhaps "batch_stats"}.

    Attributes:
      init: returns fresh parameters, as `init(key)`.
      apply: returns the outputs in inference mode, as `apply(params, inputs)`, for
        ONE example or any leading batch axes.
      train: returns (outputs, parameters) in training mode, as
        `train(params, inputs, key)`, for a batch [b, ...]: dropout is on and drawn
        from the key, batch statistics are those of the batch, and the returned
        parameters hold the updated running statistics, all else unchanged.
      input_shape: the shape of one example.
      output_shape: the shape of one output.
      prior: the distribution of a generator's latents, one draw a dimension.
      latent_classes: where a generator is class-conditional, the number of classes:
        the largest of that many last entries of a latent says which class the image
        is of.  A draw from the prior is then of any class with equal probability,
        and no gradient leads from class to class: inversion stays in the class that
        it started in.  0 for all other models.
    """

    init: Callable[[PRNGKey], Params]
    apply: Callable[[Params, Array], Array]
    train: Callable[[Params, Array, PRNGKey], tuple[Array, Params]]
    input_shape: Shape
    output_shape: Shape
    prior: Prior = Normal()
    latent_classes: int = 0


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What all specs of models share; a spec says what to build, not for which data."""

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module, called as `module(inputs, train)` on a batch.

        Args:
          image_shape: (height, width, channels) of the images.
          classes: the number of classes; classifiers only.

        Raises:
          UsageError: if the network can't take such images.
        """
        raise NotImplementedError

    def input_shape(self, image_shape: Shape) -> Shape:
        """Returns the shape of one input, given that of the images."""
        return image_shape


@dataclasses.dataclass(frozen=True)
class GeneratorSpec(ModelSpec):
    """Maps a latent [latent_size] to an image, pixels in [0, 1]."""

    latent_size: int = 64

    def __post_init__(self):
        """Checks the fields."""
        check(self.latent_size >= 1, self, "latent_size", "1 or more")

    def input_shape(self, image_shape: Shape) -> Shape:
        """Returns the shape of one latent."""
        return (self.latent_size,)


@dataclasses.dataclass(frozen=True)
class DiscriminatorSpec(ModelSpec):
    """Maps an image to one score: a logit, or a critic's value (no sigmoid)."""


@dataclasses.dataclass(frozen=True)
class ClassifierSpec(ModelSpec):
    """Maps an image to logits [classes]."""


@dataclasses.dataclass(frozen=True)
class EncoderSpec(ModelSpec):
    """Maps an image to mean and log variance of a latent, [2 * latent_size]."""

    latent_size: int = 20

    def __post_init__(self):
        """Checks the fields."""
        check(self.latent_size >= 1, self, "latent_size", "1 or more")


registry: Registry[ModelSpec] = Registry("model")
"""All specs of models, by the names that configs use."""


def build(
    spec: ModelSpec | str,
    *,
    image_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
) -> Model:
    """Returns the model that `spec` describes; equal arguments give the same object.

    Its functions are therefore equal as static arguments of compiled functions.

    >>> model = build("madry_cnn")
    >>> model.input_shape, model.output_shape
    ((28, 28, 1), (10,))
    >>> build("dcgan_generator(latent_size=8)").input_shape
    (8,)

    Args:
      spec: a spec, or its text as in a config, such as "small_cnn(width=32)".
      image_shape: (height, width, channels) of the images.
      classes: the number of classes; ignored unless the model is a classifier.

    Raises:
      UsageError: for an unknown name or field, a value that the spec refuses, or
        images that the network can't take.
    """
    if isinstance(spec, str):
        spec = registry.build(spec)
    shape = tuple(int(size) for size in image_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise UsageError(
            f"image_shape is {shape}; allowed: (height, width, channels), "
            "each 1 or more."
        )
    if not isinstance(spec, ClassifierSpec):
        classes = 0
    elif classes < 2:
        raise UsageError(f"classes is {classes}; allowed: 2 or more.")
    return _build(spec, shape, classes)


@functools.cache
def _build(spec: ModelSpec, image_shape: Shape, classes: int) -> Model:
    module = spec.module(image_shape, classes)
    return _from_linen(module, spec.input_shape(image_shape))


def count_parameters(params: Params) -> int:
    """Returns the number of trained numbers; running statistics do not count."""
    return sum(leaf.size for leaf in jax.tree.leaves(params["params"]))


def unsupported(spec: ModelSpec, image_shape: Shape, allowed: str) -> UsageError:
    """Returns the error for images that a network can't take.

    Args:
      spec: the spec of the network.
      image_shape: (height, width, channels) of the images.
      allowed: what is allowed, to end the sentence "...; allowed: ...".
    """
    return UsageError(
        f"image_shape of {registry.name_of(spec)} is {image_shape}; allowed: {allowed}."
    )


def _from_linen(module: nn.Module, input_shape: Shape) -> Model:
    rank = len(input_shape)

    # Compiled, so that the forward pass that only gives the shapes is not run.
    @jax.jit
    def init(key: PRNGKey) -> Params:
        return module.init(key, jnp.zeros((1, *input_shape)), False)

    def apply(params: Params, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        batch = _leading(inputs)
        rows = inputs.reshape(math.prod(batch), *input_shape)
        outputs = module.apply(params, rows, False)
        return outputs.reshape(*batch, *outputs.shape[1:])  # type: ignore[union-attr]

    def train(
        params: Params, inputs: Float[Array, "b ..."], key: PRNGKey
    ) -> tuple[Float[Array, "b ..."], Params]:
        if len(_leading(inputs)) != 1:
            raise UsageError(
                f"inputs in training have the shape {inputs.shape}; allowed: one "
                f"batch axis before {input_shape}."
            )
        outputs, updated = module.apply(
            params, inputs, True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return outputs, {**params, **updated}

    def _leading(inputs: Array) -> Shape:
        if inputs.shape[inputs.ndim - rank :] != input_shape or inputs.ndim < rank:
            raise UsageError(
                f"inputs of a model have the shape {inputs.shape}; allowed: "
                f"{input_shape} after any batch axes."
            )
        return inputs.shape[: inputs.ndim - rank]

    def example(key):
        return apply(init(key), jnp.zeros(input_shape))

    output_shape = jax.eval_shape(example, jax.random.key(0)).shape
    return Model(init, apply, train, input_shape, output_shape)
