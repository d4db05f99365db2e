"""Encoders: networks from an image to mean and log variance of its latent."""

import dataclasses

import flax.linen as nn

from robust_manifold.core.spec import check
from robust_manifold.models.layers import (
    doublings,
    flatten,
    glorot_uniform,
    he_normal,
)
from robust_manifold.models.model import EncoderSpec, Shape, registry
from robust_manifold.models.strided import StridedNetwork, halving_widths


class _Encoder(nn.Module):
    hidden: int
    outputs: int

    @nn.compact
    def __call__(self, image, train):
        del train  # neither dropout nor batch statistics
        x = nn.Dense(self.hidden, kernel_init=he_normal)(flatten(image))
        x = nn.leaky_relu(x, 0.1)
        return nn.Dense(self.outputs, kernel_init=glorot_uniform)(x)


@registry.register("vae_encoder")
@dataclasses.dataclass(frozen=True)
class VAEEncoder(EncoderSpec):
    """The encoder of the Robust Manifold Defense's VAE: 784-500-(20, 20).

    LeakyReLU 0.1 between.  Hidden weights start with He's normal, the last with
    Glorot's uniform.

    Attributes:
      latent_size: dimensions of the latent; the output has twice as many.
      hidden: units of the hidden layer.
    """

    latent_size: int = 20
    hidden: int = 500

    def __post_init__(self):
        """Checks the fields."""
        super().__post_init__()
        check(self.hidden >= 1, self, "hidden", "1 or more")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        return _Encoder(self.hidden, 2 * self.latent_size)


@registry.register("conv_encoder")
@dataclasses.dataclass(frozen=True)
class ConvEncoder(EncoderSpec):
    """A convolutional encoder, the mirror image of `dcgan_generator` as its decoder.

    Stride-2 convolutions to `width`, 2 * `width`, ... until the sides are 3 to 8
    (28: 7, 64: 4), LeakyReLU 0.2, one dense layer.  Kernels start with He's normal,
    the dense layer with Glorot's uniform.

    Attributes:
      latent_size: dimensions of the latent; the output has twice as many.
      width: channels after the first layer.
      kernel_size: side of every kernel.
      batch_norm: whether to normalise all convolutions but the first.
    """

    latent_size: int = 64
    width: int = 64
    kernel_size: int = 4
    batch_norm: bool = False

    def __post_init__(self):
        """Checks the fields."""
        super().__post_init__()
        check(self.width >= 1, self, "width", "1 or more")
        check(self.kernel_size >= 2, self, "kernel_size", "2 or more")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        return StridedNetwork(
            (2 * self.latent_size,),
            halving_widths(self, image_shape, self.width),
            self.kernel_size,
            self.batch_norm,
            conv_init=he_normal,
            dense_init=glorot_uniform,
        )


def fitting_encoder(latent_size: int, image_shape: Shape) -> EncoderSpec:
    """Returns an encoder for a generator of such latents and images.

    It is convolutional where the sides of the images can be halved often enough.

    >>> fitting_encoder(64, (28, 28, 1))
    ConvEncoder(latent_size=64, width=32, kernel_size=4, batch_norm=False)

    Args:
      latent_size: dimensions of the latent, not counting the choice of a class.
      image_shape: (height, width, channels) of the images.
    """
    if doublings(image_shape):
        return ConvEncoder(latent_size, width=32)
    return VAEEncoder(latent_size)
