"""Fully connected generator and discriminator for data of a few numbers."""

import dataclasses
import math
from typing import ClassVar, Literal, TypeAlias

import flax.linen as nn
import jax

from robust_manifold.core.prior import Prior, Uniform
from robust_manifold.core.spec import check
from robust_manifold.models.layers import flatten, normalized_call
from robust_manifold.models.model import (
    DiscriminatorSpec,
    GeneratorSpec,
    Shape,
    registry,
)

Activation: TypeAlias = Literal["leaky_relu", "relu", "softplus", "tanh"]

_ACTIVATIONS = {
    "leaky_relu": nn.leaky_relu,
    "relu": nn.relu,
    "softplus": nn.softplus,
    "tanh": nn.tanh,
}


class _MLP(nn.Module):
    """Dense layers; weights and biases start as U(-1, 1) / sqrt(inputs)."""

    output_shape: Shape
    widths: tuple[int, ...]
    activation: Activation
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, inputs, train):
        x = flatten(inputs)
        for width in self.widths:
            x = _ACTIVATIONS[self.activation](self.dense(width, x, train))
        x = self.dense(math.prod(self.output_shape), x, train)
        return x.reshape(-1, *self.output_shape)

    def dense(self, width, x, train):
        # Biases spread from the start: with biases of zero all units of the first
        # layer would bend at the same point of one-dimensional data.
        bound = x.shape[-1] ** -0.5
        start = _uniform(bound)
        layer = nn.Dense(width, kernel_init=start, bias_init=start)
        return normalized_call(layer, x, self.spectral_norm, train)


def _uniform(bound):
    def start(key, shape, dtype=float):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return start


def _check_layers(spec: "MLPGenerator | MLPDiscriminator") -> None:
    check(spec.hidden >= 1, spec, "hidden", "1 or more")
    check(spec.layers >= 1, spec, "layers", "1 or more")
    known = ", ".join(_ACTIVATIONS)
    check(spec.activation in _ACTIVATIONS, spec, "activation", known)


@registry.register("mlp_generator")
@dataclasses.dataclass(frozen=True)
class MLPGenerator(GeneratorSpec):
    """A fully connected generator whose outputs are any real numbers.

    For data of a few numbers, such as images of the shape (1, 1, 1), that need not
    lie in [0, 1].  Latents are uniform on (-1, 1), as in Figure 1 of Goodfellow et al.
    (2014).  Weights and biases start as U(-1, 1) / sqrt(inputs of the layer).

    Attributes:
      latent_size: dimensions of the latent.
      hidden: units of each hidden layer.
      layers: number of hidden layers.
      activation: of the hidden layers.
    """

    latent_size: int = 1
    hidden: int = 32
    layers: int = 2
    activation: Activation = "softplus"

    prior: ClassVar[Prior] = Uniform(-1.0, 1.0)

    def __post_init__(self):
        """Checks the fields."""
        super().__post_init__()
        _check_layers(self)

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        return _MLP(image_shape, (self.hidden,) * self.layers, self.activation)


@registry.register("mlp_discriminator")
@dataclasses.dataclass(frozen=True)
class MLPDiscriminator(DiscriminatorSpec):
    """A fully connected discriminator, the partner of `mlp_generator`.

    Weights and biases start as U(-1, 1) / sqrt(inputs of the layer).

    Attributes:
      hidden: units of each hidden layer.
      layers: number of hidden layers.
      activation: of the hidden layers.
      spectral_norm: whether to divide every weight by its largest singular value
        (Miyato et al. 2018).
    """

    hidden: int = 32
    layers: int = 2
    activation: Activation = "softplus"
    spectral_norm: bool = False

    def __post_init__(self):
        """Checks the fields."""
        _check_layers(self)

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        widths = (self.hidden,) * self.layers
        return _MLP((), widths, self.activation, self.spectral_norm)
