"""The stride-2 networks that discriminators and convolutional encoders are made of."""

import math

import flax.linen as nn
from flax.typing import Initializer

from robust_manifold.models.layers import (
    Conv,
    doublings,
    flatten,
    normalized_call,
)
from robust_manifold.models.model import ModelSpec, Shape, unsupported


class StridedNetwork(nn.Module):
    """Stride-2 convolutions with LeakyReLU 0.2, then one dense layer.

    Attributes:
      output_shape: of one output; () for a score.
      widths: channels after each convolution.
      kernel_size: side of every kernel.
      batch_norm: whether to normalise all convolutions but the first.
      conv_init: initialiser of the kernels.
      dense_init: initialiser of the dense layer.
      spectral_norm: whether to divide every weight by its largest singular value.
    """

    output_shape: Shape
    widths: tuple[int, ...]
    kernel_size: int
    batch_norm: bool
    conv_init: Initializer
    dense_init: Initializer
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, image, train):
        """Returns the outputs for a batch of images."""
        x = image
        for layer, features in enumerate(self.widths):
            kernel = (self.kernel_size, self.kernel_size)
            convolution = Conv(features, kernel, 2, kernel_init=self.conv_init)
            x = normalized_call(convolution, x, self.spectral_norm, train)
            # Normalising the first layer would hide the scale of the images.
            if self.batch_norm and layer > 0:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            x = nn.leaky_relu(x, 0.2)
        dense = nn.Dense(math.prod(self.output_shape), kernel_init=self.dense_init)
        x = normalized_call(dense, flatten(x), self.spectral_norm, train)
        return x.reshape(-1, *self.output_shape)


def halving_widths(spec: ModelSpec, image_shape: Shape, width: int) -> tuple[int, ...]:
    """Returns channels that double while the sides halve down to 3 to 8.

    Raises:
      UsageError: if the sides can't halve so far.
    """
    steps = doublings(image_shape)
    if not steps:
        raise unsupported(
            spec,
            image_shape,
            "sides of 3 to 8 times the same one of 2, 4, 8, ... (28x28, 32x48)",
        )
    return tuple(width << k for k in range(steps))
