"""Encoders: networks from an image to mean and log variance of its latent."""

import dataclasses

import flax.linen as nn

from robust_manifold.core.spec import check
from robust_manifold.models.layers import flatten, glorot_uniform, he_normal
from robust_manifold.models.model import EncoderSpec, Shape, registry


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
