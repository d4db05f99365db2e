"""Discriminators and critics: networks from an image to one score."""

import dataclasses

import flax.linen as nn

from robust_manifold.core.spec import check
from robust_manifold.models.layers import dcgan_normal, glorot_uniform, he_normal
from robust_manifold.models.model import DiscriminatorSpec, Shape, registry, unsupported
from robust_manifold.models.strided import StridedNetwork, halving_widths

_SCORE = ()
"""The shape of a discriminator's output."""


@registry.register("dcgan_discriminator")
@dataclasses.dataclass(frozen=True)
class DCGANDiscriminator(DiscriminatorSpec):
    """The mirror image of `dcgan_generator` (Radford et al. 2016).

    Stride-2 convolutions to `width`, 2 * `width`, ... until the sides are 3 to 8
    (28: 7, 64: 4), LeakyReLU 0.2, one dense unit.  Weights start as N(0, 0.02).

    Attributes:
      width: channels after the first layer.
      kernel_size: side of every kernel.
      batch_norm: whether to normalise all convolutions but the first, as Radford et
        al. do.
      spectral_norm: whether to divide every weight by its largest singular value
        (Miyato et al. 2018).
    """

    width: int = 64
    kernel_size: int = 4
    batch_norm: bool = False
    spectral_norm: bool = False

    def __post_init__(self):
        """Checks the fields."""
        check(self.width >= 1, self, "width", "1 or more")
        check(self.kernel_size >= 2, self, "kernel_size", "2 or more")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        return StridedNetwork(
            _SCORE,
            halving_widths(self, image_shape, self.width),
            self.kernel_size,
            self.batch_norm,
            conv_init=dcgan_normal,
            dense_init=dcgan_normal,
            spectral_norm=self.spectral_norm,
        )


@dataclasses.dataclass(frozen=True)
class _WGANCritic(DiscriminatorSpec):
    width: int = 64
    spectral_norm: bool = False

    def __post_init__(self):
        """Checks the fields."""
        check(self.width >= 1, self, "width", "1 or more")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        if image_shape[:2] != (28, 28):
            raise unsupported(self, image_shape, "(28, 28, channels)")
        widths = (self.width, 2 * self.width, 4 * self.width)
        return StridedNetwork(
            _SCORE,
            widths,
            kernel_size=5,
            batch_norm=False,
            conv_init=he_normal,
            dense_init=glorot_uniform,
            spectral_norm=self.spectral_norm,
        )


@registry.register("defense_gan_discriminator")
@dataclasses.dataclass(frozen=True)
class DefenseGANDiscriminator(_WGANCritic):
    """Defense-GAN's critic (Samangouei et al. 2018) for 28x28.

    5x5 stride-2 convolutions to 64, 128, 256, LeakyReLU 0.2, one dense unit.  Kernels
    start with He's normal, the dense unit with Glorot's uniform.

    Attributes:
      width: channels after the first layer.
      spectral_norm: whether to divide every weight by its largest singular value.
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
      spectral_norm: whether to divide every weight by its largest singular value.
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
        return StridedNetwork(
            _SCORE,
            (128, 256, 512, 1024),
            kernel_size=5,
            batch_norm=True,
            conv_init=dcgan_normal,
            dense_init=dcgan_normal,
        )
