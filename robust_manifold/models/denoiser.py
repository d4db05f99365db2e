"""A denoiser: a small network from a noisy image and its level to the clean image."""

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp

from robust_manifold.core.spec import check
from robust_manifold.models.layers import Conv, flatten, glorot_uniform, he_normal
from robust_manifold.models.model import DenoiserSpec, Shape, registry, unsupported


class _Denoiser(nn.Module):
    """Blocks at half and at a quarter of the sides, and dense layers between."""

    width: int
    bottleneck: int
    deviation: float
    mean: float

    @nn.compact
    def __call__(self, inputs, train):
        del train  # neither dropout nor batch statistics
        noisy, level = inputs[..., :-1], inputs[:, :1, :1, -1:]
        variance = level**2 + self.deviation**2
        x = _halved((noisy - self.mean) / jnp.sqrt(variance))
        # Where there is no noise its logarithm counts as that of very little.
        told = jnp.log(jnp.maximum(level, 1e-4)) / 2
        x = self.block(self.convolve(x, self.width, told), told)
        y = self.convolve(nn.silu(x), 2 * self.width, told, stride=2)
        y = self.block(y, told)
        z = nn.Dense(self.bottleneck, kernel_init=he_normal)(flatten(nn.silu(y)))
        z = nn.Dense(math.prod(y.shape[1:-1]) * 16, kernel_init=he_normal)(nn.silu(z))
        y = jnp.concatenate([y, z.reshape(*y.shape[:-1], 16)], axis=-1)
        y = nn.Dense(4 * self.width, kernel_init=he_normal)(nn.silu(y))
        x = self.block(x + _doubled(y), told)
        x = nn.Dense(4 * noisy.shape[-1], kernel_init=glorot_uniform)(nn.silu(x))
        # Each of the two sums counts most where it knows most (Karras et al. 2022).
        kept = self.deviation**2 / variance
        share = level * self.deviation / jnp.sqrt(variance)
        return self.mean + kept * (noisy - self.mean) + share * _doubled(x)

    def block(self, x, told):
        """Two convolutions beside a shortcut."""
        y = self.convolve(nn.silu(x), x.shape[-1], told)
        return x + self.convolve(nn.silu(y), x.shape[-1], told)

    def convolve(self, x, features, told, stride=1):
        level = jnp.broadcast_to(told, (*x.shape[:-1], 1))
        x = jnp.concatenate([x, level], axis=-1)
        return Conv(features, (3, 3), stride, kernel_init=he_normal)(x)


def _halved(x):
    """Returns images of half the sides: four pixels become channels of one."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, height // 2, width // 2, -1)


def _doubled(x):
    """Undoes `_halved`."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * height, 2 * width, -1)


@registry.register("denoiser")
@dataclasses.dataclass(frozen=True)
class Denoiser(DenoiserSpec):
    """A small convolutional denoiser for images under Gaussian noise of any level.

    Four pixels become one position.  There are residual blocks of two 3x3 convolutions
    with `width` channels, another with twice as many at half the sides, dense
    layers through a bottleneck, and a block on the way back.  Every convolution is told
    the level.  What the layers make is added to the noisy image, and both are weighed
    by the level, as Karras et al. (2022) have it.  Sides are multiples of four.

    Attributes:
      width: channels of the first convolutions.
      bottleneck: units of the dense layer in the middle.
      deviation: of clean pixels about their mean, for the weights.
      mean: of clean pixels.
    """

    width: int = 32
    bottleneck: int = 64
    deviation: float = 0.3
    mean: float = 0.13

    def __post_init__(self):
        """Checks the fields."""
        for field in ("width", "bottleneck"):
            check(getattr(self, field) >= 1, self, field, "1 or more")
        finite = 0 < self.deviation < math.inf
        check(finite, self, "deviation", "a finite number above 0")
        check(0 <= self.mean <= 1, self, "mean", "0 to 1")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        if any(side % 4 for side in image_shape[:2]):
            raise unsupported(self, image_shape, "sides that are multiples of 4")
        return _Denoiser(self.width, self.bottleneck, self.deviation, self.mean)
