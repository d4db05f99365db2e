"""A residual classifier for images of any size, such as faces."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from robust_manifold.core.spec import check
from robust_manifold.models.layers import Conv, glorot_uniform, he_normal
from robust_manifold.models.model import ClassifierSpec, Shape, registry, unsupported

_SMALLEST_SIDE = 16
_HALVED_SIDE = 48
"""From this side on the first convolution halves the sides, to spare time."""


class _ResidualNetwork(nn.Module):
    classes: int
    widths: tuple[int, ...]
    blocks: int
    first_stride: int
    dropout: float

    @nn.compact
    def __call__(self, image, train):
        x = self.convolve(image, self.widths[0], 3, self.first_stride)
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                halve = stage > 0 and block == 0
                x = self.block(x, width, 2 if halve else 1, train)
        x = jnp.mean(self.activate(x, train), axis=(1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, kernel_init=glorot_uniform)(x)

    def block(self, x, width, stride, train):
        """Two normalised, activated convolutions beside a shortcut."""
        active = self.activate(x, train)
        shortcut = x
        if x.shape[-1] != width:
            shortcut = self.convolve(active, width, 1, stride)
        y = self.convolve(active, width, 3, stride)
        return shortcut + self.convolve(self.activate(y, train), width, 3, 1)

    def activate(self, x, train):
        return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))

    def convolve(self, x, features, size, stride):
        kernel = (size, size)
        return Conv(features, kernel, stride, use_bias=False, kernel_init=he_normal)(x)


@registry.register("residual_cnn")
@dataclasses.dataclass(frozen=True)
class ResidualCNN(ClassifierSpec):
    """A residual network with pre-activation (He et al. 2016, arXiv 1603.05027).

    A 3x3 convolution, with stride 2 for sides of 48 or more; three stages of residual
    blocks with `width`, 2 * `width` and 4 * `width` channels, of which the second and
    third halve the sides; batch normalisation and ReLU before every convolution but
    the first; the mean over all positions, dropout, logits.  A block that changes
    the number of channels has a 1x1 convolution as its shortcut.

    Attributes:
      width: channels of the first stage.
      blocks: residual blocks of each stage, of two 3x3 convolutions each.
      dropout: the share of the logits' inputs that is zeroed in training.
    """

    width: int = 32
    blocks: int = 2
    dropout: float = 0.0

    def __post_init__(self):
        """Checks the fields."""
        check(self.width >= 1, self, "width", "1 or more")
        check(self.blocks >= 1, self, "blocks", "1 or more")
        check(0 <= self.dropout < 1, self, "dropout", "0 to below 1")

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        smallest = min(image_shape[:2])
        if smallest < _SMALLEST_SIDE:
            raise unsupported(self, image_shape, f"sides of {_SMALLEST_SIDE} or more")
        return _ResidualNetwork(
            classes,
            widths=(self.width, 2 * self.width, 4 * self.width),
            blocks=self.blocks,
            first_stride=2 if smallest >= _HALVED_SIDE else 1,
            dropout=self.dropout,
        )
