"""Discriminators and critics: networks from an image to one score."""

import dataclasses

import flax.linen as nn
from flax.typing import Initializer

from robust_manifold.core.spec import check
from robust_manifold.models.layers import (
    Conv,
    dcgan_normal,
    doublings,
    flatten,
    glorot_uniform,
    he_normal,
)
from robust_manifold.models.model import DiscriminatorSpec, Shape, registry, unsupported


class _Critic(nn.Module):
    """Stride-2 convolutions with LeakyReLU 0.2, then one dense unit."""

    widths: tuple[int, ...]
    kernel_size: int
    batch_norm: bool
    conv_init: Initializer
    dense_init: Initializer

    @nn.compact
    def __call__(self, image, train):
        x = image
        for layer, features in enumerate(self.widths):
            kernel = (self.kernel_size, self.kernel_size)
            x = Conv(features, kernel, 2, kernel_init=self.conv_init)(x)
            # Normalising the first layer would hide the scale of the images.
            if self.batch_norm and layer > 0:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            x = nn.leaky_relu(x, 0.2)
        return nn.Dense(1, kernel_init=self.dense_init)(flatten(x))[:, 0]


@registry.register("dcgan_discriminator")
@dataclasses.dataclass(frozen=True)
class DCGANDiscriminator(DiscriminatorSpec):
    """The mirror image of `dcgan_generator`, without batch normalisation.

    Stride-2 convolutions to `width`, 2 * `width`, ... until the sides are 3 to 8
    (28: 7, 64: 4), LeakyReLU 0.2, one dense unit.  Weights start as N(0, 0.02).

    Attributes:
      width: channels after the first layer.
      kernel_size: side of every kernel.
    """

    width: int = 64
    kernel_size: int = 4

    def __post_init__(self):
        """Checks the fields."""
        check(self.width >= 1, self, "width", "1 or more")
        check(self.kernel_size >= 2, self, "kernel_size", "2 or more")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        steps = doublings(image_shape)
        if not steps:
            raise unsupported(
                self, image_shape, "sides of 3 to 8 times a power of two, such as 28"
            )
        widths = tuple(self.width << k for k in range(steps))
        return _Critic(widths, self.kernel_size, False, dcgan_normal, dcgan_normal)


@dataclasses.dataclass(frozen=True)
class _WGANCritic(DiscriminatorSpec):
    width: int = 64

    def __post_init__(self):
        """Checks the fields."""
        check(self.width >= 1, self, "width", "1 or more")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        if image_shape[:2] != (28, 28):
            raise unsupported(self, image_shape, "(28, 28, channels)")
        widths = (self.width, 2 * self.width, 4 * self.width)
        return _Critic(widths, 5, False, he_normal, glorot_uniform)


@registry.register("defense_gan_discriminator")
@dataclasses.dataclass(frozen=True)
class DefenseGANDiscriminator(_WGANCritic):
    """Defense-GAN's critic (Samangouei et al. 2018) for 28x28.

    5x5 stride-2 convolutions to 64, 128, 256, LeakyReLU 0.2, one dense unit.  Kernels
    start with He's normal, the dense unit with Glorot's uniform.

    Attributes:
      width: channels after the first layer.
    """

    width: int = 64


@registry.register("inc_discriminator")
@dataclasses.dataclass(frozen=True)
class INCDiscriminator(_WGANCritic):
    """The critic for `inc_generator`, 28x28: Defense-GAN's at half the width.

    The Robust Manifold Defense released its generator; this is that network's mirror
    image.  Initialised as Defense-GAN's.

    Attributes:
      width: channels after the first layer.
    """

    width: int = 32


@registry.register("inc_celeba_discriminator")
@dataclasses.dataclass(frozen=True)
class INCCelebADiscriminator(DiscriminatorSpec):
    """The discriminator for `inc_celeba_generator`, 64x64: that network's mirror image.

    5x5 stride-2 convolutions to 128, 256, 512, 1024, batch normalisation on all but
    the first, LeakyReLU 0.2, one dense unit.  Weights start as N(0, 0.02).
    """

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        if image_shape[:2] != (64, 64):
            raise unsupported(self, image_shape, "(64, 64, channels)")
        return _Critic((128, 256, 512, 1024), 5, True, dcgan_normal, dcgan_normal)
