"""The models' Linen modules written down as PyTorch's: order, shapes and layouts."""

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
from jax import lax

from robust_manifold.models import classifiers, encoders, generators, mlp
from robust_manifold.models.model import Shape
from robust_manifold.models.strided import StridedNetwork


class Tensor(NamedTuple):
    """One tensor of a PyTorch module.

    Attributes:
      name: its name in the module, such as "weight".
      shape: its shape in PyTorch.
      linen: the name of the same numbers in the table of a model's parameters.
      convert: returns them in Flax's layout; it moves numbers and changes none.
    """

    name: str
    shape: Shape
    linen: str
    convert: Callable[[np.ndarray], np.ndarray]


class Layer(NamedTuple):
    """One module of an `nn.Sequential`: the call that makes it, and its tensors."""

    text: str
    tensors: tuple[Tensor, ...] = ()


def layers_of(module: nn.Module, input_shape: Shape) -> tuple[Layer, ...] | None:
    """Returns the PyTorch modules of a Linen module; None if it is no plain sequence.

    Args:
      module: what `ModelSpec.module` returns.
      input_shape: the shape of one input.
    """
    write = _FORMS.get(type(module))
    if write is None or getattr(module, "spectral_norm", False):
        return None
    sequence = _Sequence(input_shape)
    write(sequence, module)
    return tuple(sequence.layers)


class _Sequence:
    """Layers written down one after another, and the shape that the last one gives."""

    def __init__(self, shape: Shape):
        self.shape: Shape = shape
        self.layers: list[Layer] = []
        self._counts: collections.Counter[str] = collections.Counter()

    def add(self, text: str) -> None:
        """Adds a module without tensors that leaves the shape as it is."""
        self.layers.append(Layer(text))

    def convolution(
        self, features: int, side: int, stride: int = 1, padding: str = "SAME"
    ) -> None:
        height, width, channels = self.shape
        pads = lax.padtype_to_pads(
            (height, width), (side, side), (stride, stride), padding
        )
        (top, bottom), (left, right) = pads
        even = top == bottom == left == right
        if not even:
            # PyTorch's own padding is the same on all sides.
            self.add(f"ZeroPad2d(({left}, {right}, {top}, {bottom}))")
        arguments = [f"{channels}, {features}, {side}"]
        arguments += [f"stride={stride}"] if stride > 1 else []
        arguments += [f"padding={top}"] if even and top else []
        self.shape = (
            (height + top + bottom - side) // stride + 1,
            (width + left + right - side) // stride + 1,
            features,
        )
        self._weighted(
            f"Conv2d({', '.join(arguments)})",
            "Conv",
            (features, channels, side, side),
            lambda array: array.transpose(2, 3, 1, 0),
        )

    def doubling(self, features: int, side: int) -> None:
        """Adds a transposed convolution of stride 2 and "SAME" padding."""
        height, width, channels = self.shape
        # Zeros that flax puts before the spread-out inputs, less those after them.
        before = side - 1 if side < 3 else -(-side // 2)
        surplus = 2 * before - side
        padding = side - 1 - before
        arguments = [f"{channels}, {features}, {side}, stride=2"]
        arguments += [f"padding={padding}"] if padding else []
        self.shape = (2 * height, 2 * width, features)
        self._weighted(
            f"ConvTranspose2d({', '.join(arguments)})",
            "ConvTranspose",
            (channels, features, side, side),
            lambda array: array.transpose(2, 3, 0, 1)[::-1, ::-1],
        )
        if surplus:
            self._cut(surplus)

    def cut(self, height: int, width: int) -> None:
        """Adds what keeps the first rows and columns of a square image."""
        surplus = self.shape[0] - height
        assert surplus == self.shape[1] - width
        self._cut(surplus)
        self.shape = (height, width, self.shape[2])

    def _cut(self, surplus: int) -> None:
        self.add(f"ZeroPad2d((0, -{surplus}, 0, -{surplus}))")

    def max_pool(self, window: int, stride: int) -> None:
        """Adds pooling with "SAME" padding."""
        sizes = self.shape[:2]
        pads = lax.padtype_to_pads(sizes, (window,) * 2, (stride,) * 2, "SAME")
        (top, bottom), (left, right) = pads
        arguments = [f"{window}, stride={stride}"]
        if top == bottom == left == right:
            arguments += [f"padding={top}"] if top else []
        elif top == left == 0:
            # Windows that reach over the lower and the right edge are kept.
            arguments += ["ceil_mode=True"]
        else:
            sides = f"({left}, {right}, {top}, {bottom})"
            self.add(f"ConstantPad2d({sides}, float('-inf'))")
        self.add(f"MaxPool2d({', '.join(arguments)})")
        height, width = (-(-size // stride) for size in sizes)
        self.shape = (height, width, self.shape[2])

    def flatten(self) -> Shape | None:
        """Adds flattening where it is needed, and returns the image's shape."""
        if len(self.shape) == 1:
            return None
        image = self.shape
        self.add("Flatten()")
        self.shape = (_size(image),)
        return image

    def dense(
        self,
        features: int,
        *,
        flattened: Shape | None = None,
        image: Shape | None = None,
    ) -> None:
        """Adds a dense layer, from a flattened image or to one that is made of it."""
        inputs = self.shape[0]
        rows = _channels_last(flattened or (1, 1, inputs))
        columns = _channels_last(image or (1, 1, features))
        self._weighted(
            f"Linear({inputs}, {features})",
            "Dense",
            (features, inputs),
            lambda array: array.T[rows][:, columns],
            lambda array: array[columns],
        )
        self.shape = (features,)
        if image is not None:
            height, width, channels = self.shape = image
            self.add(f"Unflatten(1, ({channels}, {height}, {width}))")

    def batch_norm(self) -> None:
        channels = self.shape[-1]
        name = self._next("BatchNorm")
        tensors = {
            "weight": f"params/{name}/scale",
            "bias": f"params/{name}/bias",
            "running_mean": f"batch_stats/{name}/mean",
            "running_var": f"batch_stats/{name}/var",
        }
        kind = "BatchNorm2d" if len(self.shape) == 3 else "BatchNorm1d"
        self.layers.append(
            Layer(
                f"{kind}({channels})",
                tuple(
                    Tensor(name, (channels,), linen, _as_it_is)
                    for name, linen in tensors.items()
                ),
            )
        )

    def _weighted(
        self,
        text: str,
        kind: str,
        shape: Shape,
        weight: Callable[[np.ndarray], np.ndarray],
        bias: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """Adds a layer of a weight, of this shape in PyTorch, and a bias."""
        name = self._next(kind)
        features = shape[1] if kind == "ConvTranspose" else shape[0]
        tensors = (
            Tensor("weight", shape, f"params/{name}/kernel", weight),
            Tensor("bias", (features,), f"params/{name}/bias", bias or _as_it_is),
        )
        self.layers.append(Layer(text, tensors))

    def _next(self, kind: str) -> str:
        """Returns the name that Linen gives the next layer of a kind."""
        number = self._counts[kind]
        self._counts[kind] += 1
        return f"{kind}_{number}"


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


def _size(shape: Shape) -> int:
    return int(np.prod(shape))


def _channels_last(shape: Shape) -> np.ndarray:
    """Returns where PyTorch keeps each number of a flattened image [h, w, c]."""
    height, width, channels = shape
    places = np.arange(_size(shape)).reshape(channels, height, width)
    return places.transpose(1, 2, 0).ravel()


def _dropout(sequence: _Sequence, share: float) -> None:
    if share:
        sequence.add(f"Dropout({share!r})")


def _write_classifier(sequence: _Sequence, network: Any) -> None:
    _dropout(sequence, network.input_dropout)
    for layer in network.convolutions:
        sequence.convolution(
            layer.features, layer.kernel_size, layer.stride, layer.padding
        )
        sequence.add("ReLU()")
        if layer.pool:
            sequence.max_pool(layer.pool, 2)
        if layer.normalize:
            sequence.add("LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)")
    image = sequence.flatten()
    _dropout(sequence, network.dropout)
    for layer in network.dense:
        sequence.dense(layer.features, flattened=image)
        sequence.add("ReLU()")
        _dropout(sequence, layer.dropout)
        image = None
    sequence.dense(network.classes, flattened=image)


def _write_strided(sequence: _Sequence, network: StridedNetwork) -> None:
    for layer, features in enumerate(network.widths):
        sequence.convolution(features, network.kernel_size, 2)
        if network.batch_norm and layer > 0:
            sequence.batch_norm()
        sequence.add("LeakyReLU(0.2)")
    outputs = _size(network.output_shape)
    sequence.dense(outputs, flattened=sequence.flatten())


def _write_encoder(sequence: _Sequence, network: Any) -> None:
    sequence.dense(network.hidden, flattened=sequence.flatten())
    sequence.add("LeakyReLU(0.1)")
    sequence.dense(network.outputs)


def _write_dcgan(sequence: _Sequence, network: Any) -> None:
    sequence.dense(_size(network.start), image=network.start)
    for features in network.widths:
        if network.batch_norm:
            sequence.batch_norm()
        sequence.add("ReLU()")
        sequence.doubling(features, network.kernel_size)
    if network.batch_norm:
        sequence.batch_norm()
    sequence.add("ReLU()")
    sequence.doubling(network.channels, network.kernel_size)
    sequence.add("Tanh()")


def _write_wgan(sequence: _Sequence, network: Any) -> None:
    start = (4, 4, 4 * network.width)
    sequence.dense(_size(start), image=start)
    sequence.add("ReLU()")
    sequence.doubling(2 * network.width, 5)
    sequence.add("ReLU()")
    sequence.cut(7, 7)
    sequence.doubling(network.width, 5)
    sequence.add("ReLU()")
    sequence.doubling(network.channels, 5)
    sequence.add("Sigmoid()")


def _write_decoder(sequence: _Sequence, network: Any) -> None:
    for _ in range(2):
        sequence.dense(network.hidden)
        sequence.add("LeakyReLU(0.1)")
    # Sigmoid works on every pixel alone, so the image may be formed before it.
    sequence.dense(_size(network.image_shape), image=network.image_shape)
    sequence.add("Sigmoid()")


_ACTIVATIONS = {
    "leaky_relu": "LeakyReLU(0.01)",
    "relu": "ReLU()",
    "softplus": "Softplus()",
    "tanh": "Tanh()",
}


def _write_mlp(sequence: _Sequence, network: Any) -> None:
    image = sequence.flatten()
    for features in network.widths:
        sequence.dense(features, flattened=image)
        sequence.add(_ACTIVATIONS[network.activation])
        image = None
    shape = network.output_shape
    sequence.dense(_size(shape), flattened=image, image=shape or None)


_FORMS: dict[type[nn.Module], Callable[[_Sequence, Any], None]] = {
    classifiers._Network: _write_classifier,
    StridedNetwork: _write_strided,
    encoders._Encoder: _write_encoder,
    generators._DCGAN: _write_dcgan,
    generators._WGAN: _write_wgan,
    generators._Decoder: _write_decoder,
    mlp._MLP: _write_mlp,
}
"""How each kind of Linen module is written down."""
