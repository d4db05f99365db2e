"""Generators: networks from a latent to an image with pixels in [0, 1]."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from robust_manifold.core.prior import Normal, Prior
from robust_manifold.core.spec import check
from robust_manifold.models.layers import (
    ConvTranspose,
    dcgan_normal,
    glorot_uniform,
    he_normal,
)
from robust_manifold.models.model import GeneratorSpec, Shape, registry, unsupported
from robust_manifold.models.strided import halving_widths


class _DCGAN(nn.Module):
    """Dense to `start`, then one stride-2 transposed convolution for each width."""

    start: Shape
    widths: tuple[int, ...]
    channels: int
    kernel_size: int
    batch_norm: bool

    @nn.compact
    def __call__(self, latent, train):
        x = nn.Dense(_size(self.start), kernel_init=dcgan_normal)(latent)
        x = self.activate(x.reshape(-1, *self.start), train)
        for features in self.widths:
            x = self.activate(self.double(features)(x), train)
        return _unit_tanh(self.double(self.channels)(x))

    def double(self, features):
        kernel = (self.kernel_size, self.kernel_size)
        return ConvTranspose(features, kernel, 2, kernel_init=dcgan_normal)

    def activate(self, x, train):
        if self.batch_norm:
            x = nn.BatchNorm(
                use_running_average=not train, momentum=0.9, scale_init=_near_one
            )(x)
        return nn.relu(x)


class _WGAN(nn.Module):
    """The generator of Gulrajani et al. for 28x28: 4, 8 cut to 7, 14, 28."""

    width: int
    channels: int

    @nn.compact
    def __call__(self, latent, train):
        del train  # neither dropout nor batch statistics
        start = (4, 4, 4 * self.width)
        x = nn.Dense(_size(start), kernel_init=glorot_uniform)(latent)
        x = nn.relu(x.reshape(-1, *start))
        x = nn.relu(self.double(2 * self.width)(x))[:, :7, :7]
        x = nn.relu(self.double(self.width)(x))
        return nn.sigmoid(self.double(self.channels)(x))

    def double(self, features):
        return ConvTranspose(features, (5, 5), 2, kernel_init=he_normal)


class _Decoder(nn.Module):
    """Two hidden layers, then every pixel."""

    hidden: int
    image_shape: Shape

    @nn.compact
    def __call__(self, latent, train):
        del train  # neither dropout nor batch statistics
        x = latent
        for _ in range(2):
            x = nn.leaky_relu(nn.Dense(self.hidden, kernel_init=he_normal)(x), 0.1)
        x = nn.Dense(_size(self.image_shape), kernel_init=glorot_uniform)(x)
        return nn.sigmoid(x).reshape(-1, *self.image_shape)


def _size(shape):
    height, width, channels = shape
    return height * width * channels


def _unit_tanh(x):
    return 0.5 * jnp.tanh(x) + 0.5


def _near_one(key, shape, dtype=jnp.float32):
    """DCGAN's start for the scales of batch normalisation, N(1, 0.02)."""
    return 1 + dcgan_normal(key, shape, dtype)


@registry.register("dcgan_generator")
@dataclasses.dataclass(frozen=True)
class DCGANGenerator(GeneratorSpec):
    """The generator of Radford et al. 2016, of any width, for sides such as 28 or 64.

    A dense layer to sides of 3 to 8 (28: 7, 64: 4), then stride-2 transposed
    convolutions that double the sides and halve the channels down to `width`; ReLU
    between, tanh * 0.5 + 0.5 at the end.  Weights start as N(0, 0.02).  It is also the
    decoder of a convolutional VAE, with `conv_encoder`.

    Attributes:
      latent_size: dimensions of the latent.
      width: channels before the last layer.
      kernel_size: side of every kernel.
      batch_norm: whether to normalise every hidden layer.
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
        *rest, last = halving_widths(self, image_shape, self.width)
        height, width, channels = image_shape
        halvings = len(rest) + 1
        start = (height >> halvings, width >> halvings, last)
        widths = tuple(reversed(rest))
        return _DCGAN(start, widths, channels, self.kernel_size, self.batch_norm)


@registry.register("inc_celeba_generator")
@dataclasses.dataclass(frozen=True)
class INCCelebAGenerator(GeneratorSpec):
    """The Robust Manifold Defense's generator of faces (arXiv 1712.09196), 64x64.

    Dense 4x4x1024, then 5x5 stride-2 transposed convolutions to 512, 256, 128 and the
    image; batch normalisation of every channel, and ReLU, on all but the last, which
    is tanh * 0.5 + 0.5.  Weights start as N(0, 0.02).  Latents are drawn from N(-1, 1)
    in every dimension, as in the authors' released code.

    Attributes:
      latent_size: dimensions of the latent.
    """

    latent_size: int = 100

    prior: ClassVar[Prior] = Normal(-1.0, 1.0)

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        if image_shape[:2] != (64, 64):
            raise unsupported(self, image_shape, "(64, 64, channels)")
        return _DCGAN((4, 4, 1024), (512, 256, 128), image_shape[2], 5, True)


@dataclasses.dataclass(frozen=True)
class _WGANGenerator(GeneratorSpec):
    width: int = 64

    def __post_init__(self):
        """Checks the fields."""
        super().__post_init__()
        check(self.width >= 1, self, "width", "1 or more")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        if image_shape[:2] != (28, 28):
            raise unsupported(self, image_shape, "(28, 28, channels)")
        return _WGAN(self.width, image_shape[2])


@registry.register("defense_gan_generator")
@dataclasses.dataclass(frozen=True)
class DefenseGANGenerator(_WGANGenerator):
    """Defense-GAN's generator (Samangouei et al. 2018) for 28x28.

    Dense 4x4x256, then 5x5 stride-2 transposed convolutions to 128 (cut from 8x8 to
    7x7), 64 and the image; ReLU between, sigmoid at the end, no batch normalisation.
    Kernels start with He's normal, the dense layer with Glorot's uniform.

    Attributes:
      latent_size: dimensions of the latent.
      width: channels before the last layer.
    """

    latent_size: int = 128
    width: int = 64


@registry.register("inc_generator")
@dataclasses.dataclass(frozen=True)
class INCGenerator(_WGANGenerator):
    """The Robust Manifold Defense's generator of digits (arXiv 1712.09196), 28x28.

    Dense 4x4x128, then 5x5 stride-2 transposed convolutions to 64 (cut from 8x8 to
    7x7), 32 and the image; ReLU between, sigmoid at the end, no batch normalisation.
    Kernels start with He's normal, the dense layer with Glorot's uniform.

    Attributes:
      latent_size: dimensions of the latent.
      width: channels before the last layer.
    """

    latent_size: int = 32
    width: int = 32


@registry.register("vae_decoder")
@dataclasses.dataclass(frozen=True)
class VAEDecoder(GeneratorSpec):
    """The decoder of the Robust Manifold Defense's VAE: 20-500-500-784.

    LeakyReLU 0.1 between, sigmoid at the end.  Hidden weights start with He's
    normal, the last with Glorot's uniform.

    Attributes:
      latent_size: dimensions of the latent.
      hidden: units of both hidden layers.
    """

    latent_size: int = 20
    hidden: int = 500

    def __post_init__(self):
        """Checks the fields."""
        super().__post_init__()
        check(self.hidden >= 1, self, "hidden", "1 or more")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        return _Decoder(self.hidden, image_shape)
