"""Weights from and for PyTorch: every sequential network as an `nn.Sequential`.

`torch_layers` writes that network down, one PyTorch module an entry; its state dict
has the names and shapes of `torch_table`.  With weights converted by `from_torch` or
`to_torch` both networks compute the same, but for what PyTorch has no module for:

* PyTorch's images are [batch, channels, height, width];
* a generator that ends in Tanh() gives pixels in [-1, 1] there, (x + 1) / 2 here;
* a discriminator gives [batch, 1] there, [batch] here;
* a class-conditional generator reads the latent and the one-hot class, joined.

PyTorch keeps the outputs of a layer before its inputs, and channels before height and
width, also where an image is flattened; its transposed convolution is the gradient of
a convolution, ours spreads the inputs out and turns no kernel.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params
from robust_manifold.models.model import ModelSpec, Shape, build, registry
from robust_manifold.models.torch_sequence import Layer, Tensor, layers_of
from robust_manifold.models.weights import check_table, from_table, to_table

_COUNTER = ".num_batches_tracked"
"""PyTorch's batch normalisation counts its batches, to no effect on the outputs."""


def torch_layers(
    spec: ModelSpec | str,
    *,
    image_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
) -> tuple[str, ...]:
    """Returns the modules of the `nn.Sequential` that a model is in PyTorch.

    >>> torch_layers("linear")
    ('Flatten()', 'Linear(784, 10)')

    Args:
      spec: a spec, or its text as in a config.
      image_shape: (height, width, channels) of the images.
      classes: the number of classes; of classifiers and conditional generators.

    Raises:
      UsageError: as `models.build`; and for a model that is no plain sequence.
    """
    return tuple(layer.text for layer in _layers(spec, image_shape, classes))


def torch_table(
    spec: ModelSpec | str,
    *,
    image_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
) -> dict[str, Shape]:
    """Returns the names and shapes of the state dict of `torch_layers`.

    A name is the module's place in the sequence and the tensor's own name.

    >>> torch_table("linear")
    {'1.weight': (10, 784), '1.bias': (10,)}

    Args:
      spec: see `torch_layers`.
      image_shape: see `torch_layers`.
      classes: see `torch_layers`.

    Raises:
      UsageError: see `torch_layers`.
    """
    tensors = _tensors(_layers(spec, image_shape, classes))
    return {name: tensor.shape for name, tensor in tensors.items()}


def from_torch(
    spec: ModelSpec | str,
    state_dict: Mapping[str, Any],
    *,
    image_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
) -> Params:
    """Returns the parameters that a PyTorch network holds.

    Args:
      spec: see `torch_layers`.
      state_dict: NumPy arrays by the names of `torch_table`.
      image_shape: see `torch_layers`.
      classes: see `torch_layers`.

    Raises:
      UsageError: see `torch_layers`; and if names are missing, unexpected, or of
        another shape, or numbers no floats, or not finite: the one sentence lists all
        of them.
    """
    tensors = _tensors(_layers(spec, image_shape, classes))
    arrays = {
        name: np.asarray(array)
        for name, array in state_dict.items()
        if not name.endswith(_COUNTER)
    }
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    check_table(f"PyTorch network of {_text(spec)!r}", arrays, shapes)
    model = build(spec, image_shape=image_shape, classes=classes)
    table = {
        tensor.linen: tensor.convert(arrays[name]) for name, tensor in tensors.items()
    }
    return from_table(model, table)


def to_torch(
    spec: ModelSpec | str,
    params: Params,
    *,
    image_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
) -> dict[str, np.ndarray]:
    """Returns the state dict that `from_torch` turns into `params`.

    Args:
      spec: see `torch_layers`.
      params: the parameters of that model.
      image_shape: see `torch_layers`.
      classes: see `torch_layers`.

    Raises:
      UsageError: see `torch_layers`; and if `params` are not the model's.
    """
    tensors = _tensors(_layers(spec, image_shape, classes))
    model = build(spec, image_shape=image_shape, classes=classes)
    table = to_table(from_table(model, to_table(params)))
    return {
        name: _converted_back(tensor, table[tensor.linen])
        for name, tensor in tensors.items()
    }


def _converted_back(tensor: Tensor, array: np.ndarray) -> np.ndarray:
    """Undoes `tensor.convert`, which moves numbers and changes none."""
    size = int(np.prod(tensor.shape))
    places = tensor.convert(np.arange(size).reshape(tensor.shape))
    result = np.empty(size, array.dtype)
    result[places.ravel()] = array.ravel()
    return result.reshape(tensor.shape)


def _tensors(layers: Sequence[Layer]) -> dict[str, Tensor]:
    return {
        f"{place}.{tensor.name}": tensor
        for place, layer in enumerate(layers)
        for tensor in layer.tensors
    }


def _layers(
    spec: ModelSpec | str, image_shape: Sequence[int], classes: int
) -> tuple[Layer, ...]:
    # Its checks give the better sentence for images that no network takes.
    model = build(spec, image_shape=image_shape, classes=classes)
    if isinstance(spec, str):
        spec = registry.build(spec)
    shape = tuple(int(size) for size in image_shape)
    layers = layers_of(spec.module(shape, classes), model.input_shape)
    if layers is None:
        raise UsageError(
            f"The model is {_text(spec)!r}, which is no plain sequence of layers; "
            "allowed for PyTorch's weights: models whose layers follow one another."
        )
    return layers


def _text(spec: ModelSpec | str) -> str:
    return spec if isinstance(spec, str) else registry.to_string(spec)
