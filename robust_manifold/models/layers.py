"""The Linen layers that the models are made of: flax's, but faster on a CPU."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Initializer
from jax import lax
from jaxtyping import Array, Float

from robust_manifold.models.convolution import (
    Padding,
    convolution,
    transposed_convolution,
)

he_normal = nn.initializers.he_normal()
glorot_uniform = nn.initializers.glorot_uniform()
dcgan_normal = nn.initializers.normal(0.02)
"""N(0, 0.02), with which DCGANs start every weight (Radford et al. 2016)."""


class Conv(nn.Module):
    """A convolution with a bias; parameters and values as `flax.linen.Conv` has them.

    Attributes:
      features: channels of the result.
      kernel_size: (height, width) of the kernel.
      strides: one step for both axes, or (vertical, horizontal).
      padding: "SAME", "VALID", or ((top, bottom), (left, right)).
      use_bias: whether to add one bias a channel.
      kernel_init: initialiser of the kernel.
      bias_init: initialiser of the bias.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()

    transposed = False

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "*batch height width channels"]
    ) -> Float[Array, "*batch out_height out_width features"]:
        """Returns the layer's result for inputs with any leading batch axes."""
        shape = (*self.kernel_size, inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,))
        inputs, kernel, bias = promote_dtype(inputs, kernel, bias)
        form = transposed_convolution if self.transposed else convolution
        outputs = form(inputs, kernel, strides=self.strides, padding=self.padding)
        if bias is not None:
            outputs += bias.reshape((1,) * (outputs.ndim - 1) + (-1,))
        return outputs


class ConvTranspose(Conv):
    """A transposed convolution; otherwise as `Conv`, and `flax.linen.ConvTranspose`."""

    transposed = True


def normalized_call(
    layer: nn.Module, inputs: Array, spectral_norm: bool, train: bool
) -> Array:
    """Returns `layer(inputs)`, perhaps with spectral normalisation of the layer.

    Spectral normalisation (Miyato et al. 2018) divides the weights by their largest
    singular value, a kernel being taken as the matrix [height * width * channels,
    features].  The value comes from one step of power iteration; in training its
    vector is kept in "batch_stats", so that it follows the weights.

    Args:
      layer: a convolution or dense layer.
      inputs: of the layer.
      spectral_norm: whether to normalise.
      train: whether to keep the vector.
    """
    if not spectral_norm:
        return layer(inputs)
    return nn.SpectralNorm(layer)(inputs, update_stats=train)


def max_pool(
    inputs: Float[Array, "*batch height width channels"],
    window: int,
    stride: int,
    padding: str = "SAME",
) -> Float[Array, "*batch out_height out_width channels"]:
    """Returns the largest value in each window.

    The maximum is taken over shifted slices: on a CPU the gradient of
    `lax.reduce_window` takes 3 to 14 times as long.  Equal largest values share the
    gradient, where `reduce_window` gives it to the first.

    Args:
      inputs: images, with any leading batch axes.
      window: height and width of the window.
      stride: step between windows.
      padding: "SAME" or "VALID".
    """
    sizes = inputs.shape[-3:-1]
    if window == stride and not any(size % window for size in sizes):
        return _largest_of_blocks(inputs, window)
    pads = lax.padtype_to_pads(sizes, (window,) * 2, (stride,) * 2, padding)
    widths = [(0, 0, 0)] * (inputs.ndim - 3) + [(a, b, 0) for a, b in pads]
    lowest = jnp.asarray(-jnp.inf, inputs.dtype)
    outputs = lax.pad(inputs, lowest, [*widths, (0, 0, 0)])
    for axis in (inputs.ndim - 3, inputs.ndim - 2):
        outputs = _max_along(outputs, axis, window, stride)
    return outputs


def _largest_of_blocks(inputs: Array, side: int) -> Array:
    """Returns the largest value in each of the blocks of `side` x `side` pixels."""
    *batch, height, width, channels = inputs.shape
    split = (height // side, side, width // side, side)
    rows = inputs.reshape(*batch, *split, channels)
    return _largest(_largest(rows, rows.ndim - 4), rows.ndim - 3)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _largest(inputs: Array, axis: int) -> Array:
    """Returns `inputs.max(axis)`, by slices, which XLA fuses with what is beside it."""
    return functools.reduce(jnp.maximum, _slices(inputs, axis))


@_largest.defjvp
def _largest_jvp(axis, primals, tangents):
    """Its transpose is a product of whole arrays, with nothing spread out or added."""
    (inputs,), (tangent,) = primals, tangents
    largest = _largest(inputs, axis)
    equals = [part == largest for part in _slices(inputs, axis)]
    count = sum(equal.astype(inputs.dtype) for equal in equals)
    # Where the largest is NaN, nothing equals it.
    share = jnp.expand_dims(1 / jnp.maximum(count, 1), axis)
    chosen = inputs == jnp.expand_dims(largest, axis)
    return largest, jnp.where(chosen, share * tangent, 0).sum(axis)


def _slices(inputs: Array, axis: int) -> list[Array]:
    """Returns the parts of an array along an axis, without that axis."""
    return [
        lax.index_in_dim(inputs, k, axis, keepdims=False)
        for k in range(inputs.shape[axis])
    ]


def _max_along(inputs: Array, axis: int, window: int, stride: int) -> Array:
    count = (inputs.shape[axis] - window) // stride + 1
    slices = [
        lax.slice_in_dim(inputs, k, k + (count - 1) * stride + 1, stride, axis)
        for k in range(window)
    ]
    largest = slices[0]
    for part in slices[1:]:
        largest = jnp.maximum(largest, part)
    return largest


def local_response_normalization(
    inputs: Float[Array, "*batch channels"],
    *,
    radius: int = 4,
    bias: float = 1.0,
    alpha: float = 0.001 / 9,
    beta: float = 0.75,
) -> Float[Array, "*batch channels"]:
    """Returns x / (bias + alpha * sum of x^2 over the nearby channels) ** beta.

    Source: Krizhevsky et al. 2012, section 3.3; the constants are those of
    TensorFlow's CIFAR-10 tutorial.

    Args:
      inputs: activations.
      radius: how many channels on either side count.
      bias: see the formula.
      alpha: see the formula.
      beta: see the formula.
    """
    squares = inputs**2
    widths = [(0, 0)] * (inputs.ndim - 1) + [(radius, radius)]
    padded = jnp.pad(squares, widths)
    channels = inputs.shape[-1]
    nearby = sum(
        (padded[..., k : k + channels] for k in range(1, 2 * radius + 1)),
        start=padded[..., :channels],
    )
    return inputs / (bias + alpha * nearby) ** beta


def flatten(inputs: Float[Array, " batch *shape"]) -> Float[Array, " batch size"]:
    """Returns each example of a batch as one row."""
    return inputs.reshape(inputs.shape[0], -1)


def doublings(image_shape: Sequence[int]) -> int:
    """Returns how often both sides halve down to sides of 3 to 8; 0 if they can't."""
    height, width = image_shape[:2]
    count = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 6:
        height, width, count = height // 2, width // 2, count + 1
    return count if 3 <= min(height, width) and max(height, width) <= 8 else 0
