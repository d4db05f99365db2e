"""A live PyTorch module as a classifier of one image, with PyTorch's own gradients."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from robust_manifold.adapters.classifier import Classifier, checked, checked_shape
from robust_manifold.adapters.inference import check_kind, framework
from robust_manifold.attacks.contract import first_line, stateful
from robust_manifold.core.callbacks import called
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params

_Image = Array | np.ndarray

_PROBED = 2
"""Images of the batch that a module is first tried on."""


def from_torch(
    module: Any,
    *,
    image_shape: Sequence[int],
    spec: Any = None,
    classes: int = 10,
) -> Classifier:
    """Returns a PyTorch module as a classifier of one image.

    PyTorch computes logits and gradients, for all images of a batch at once, wherever
    the module lies.  A gradient takes a forward pass more than PyTorch's own would.
    JAX cannot look inside: there are gradients by reverse mode alone, once, and no
    second derivatives.

    A state dict of one of this package's networks needs no PyTorch: with `spec` it
    becomes that network in JAX, which is faster; see `models.from_torch`.

    >>> import jax.numpy as jnp, torch
    >>> module = torch.nn.Sequential(
    ...     torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 10)
    ... )
    >>> apply, params = from_torch(module.eval(), image_shape=(8, 8, 1))
    >>> apply(params, jnp.ones((8, 8, 1))).shape
    (10,)

    Args:
      module: after `module.eval()`; called on a batch of images [n, channels, height,
        width], as is PyTorch's habit, of the type of its own weights and on their
        device.  It is the module itself, no copy: leave it as it is while it is used.
        With `spec`, a state dict.
      image_shape: (height, width, channels).
      spec: of `models.build`; only for a state dict.
      classes: of the spec.

    Raises:
      UsageError: if PyTorch is not installed, if it is no PyTorch module or in
        training mode, or unless its output is [n, classes]; of a state dict as
        `models.from_torch`.
    """
    shape = checked_shape(image_shape)
    if isinstance(module, Mapping):
        return _of_state_dict(module, shape, spec, classes)
    torch = framework("torch", "torch")
    check_kind("module", module, torch.nn.Module, "a PyTorch module, or a state dict")
    if spec is not None:
        raise UsageError("spec is given; allowed: with a state dict alone.")
    for name, part in module.named_modules():
        if part.training:
            where = ".".join(filter(None, ("module", name, "training")))
            raise stateful("apply", f"{where} is True")
    return checked(_Torch(module, shape, _classes_of(module, shape)), (), shape)


def _of_state_dict(state_dict, image_shape, spec, classes) -> Classifier:
    """Returns one of the package's own networks, with weights from PyTorch."""
    from robust_manifold import models

    if spec is None:
        raise UsageError(
            "module is a state dict; allowed: one with spec=, which of this package's "
            "networks it is of, such as spec='small_cnn'; or the module itself."
        )
    arrays = {
        # Those on a GPU have no NumPy form.
        name: np.asarray(tensor.cpu() if hasattr(tensor, "cpu") else tensor)
        for name, tensor in state_dict.items()
    }
    model = models.build(spec, image_shape=image_shape, classes=classes)
    params = models.from_torch(spec, arrays, image_shape=image_shape, classes=classes)
    return checked(model.apply, params, image_shape)


def _classes_of(module: Any, image_shape: tuple[int, int, int]) -> int:
    """Returns how many logits a module gives; it is tried on two black images."""
    height, width, channels = image_shape
    network = _Torch(module, image_shape, 0)
    images = np.zeros((_PROBED, *image_shape), np.float32)
    given = (
        f"{_PROBED} images of shape {(channels, height, width)}, from image_shape "
        f"{image_shape} with channels last"
    )
    wanted = f"allowed: logits [{_PROBED}, classes], of 2 classes or more"
    try:
        logits = network.tensors(images)[1]
    except Exception as error:
        raise UsageError(
            f"module fails on a batch of {given} ({first_line(error)}); {wanted}."
        ) from error
    shape = getattr(logits, "shape", None)
    if shape is None:
        raise UsageError(
            f"module gives a {type(logits).__name__} for {given}; {wanted}, alone."
        )
    if len(shape) != 2 or shape[0] != _PROBED or shape[1] < 2:
        raise UsageError(f"module gives {tuple(shape)} for {given}; {wanted}.")
    if not logits.is_floating_point():
        raise UsageError(f"module gives {logits.dtype} for {given}; {wanted}.")
    return int(shape[1])


@dataclasses.dataclass(frozen=True)
class _Torch:
    """A module, equal to itself alone, and what JAX must know of it."""

    module: Any
    image_shape: tuple[int, int, int]
    classes: int

    def __call__(self, params: Params, image: Array) -> Array:
        del params
        if image.shape != self.image_shape:
            raise UsageError(
                f"an image has the shape {image.shape}; allowed: {self.image_shape}, "
                "the image_shape of this classifier, channels last."
            )
        return _logits(self, image)

    def tensors(self, images: np.ndarray, gradient: bool = False) -> tuple[Any, Any]:
        """Returns a batch of images [n, h, w, c] as PyTorch has it, and its logits."""
        torch = framework("torch", "torch")
        if self.module.training:
            raise stateful("apply", "module.training is True by now")
        own = [
            tensor
            for tensor in (*self.module.parameters(), *self.module.buffers())
            if tensor.is_floating_point()
        ]
        like = own[0] if own else torch.zeros(())
        # A copy, since what JAX hands over cannot be written to.
        first = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous()
        inputs = first.to(like).requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            # Of a copy, since a first layer may work in place.
            return inputs, self.module(inputs.clone())

    # JAX calls these from within its programs: they may use NumPy and PyTorch alone.

    def forward(self, image: Any) -> np.ndarray:
        """Returns logits [..., classes] of images [..., h, w, c]."""
        images = np.asarray(image)
        axes = images.shape[:-3]
        _, logits = self.tensors(images.reshape(-1, *self.image_shape))
        return _array(logits, images).reshape(*axes, self.classes)

    def backward(self, image: Any, cotangent: Any) -> np.ndarray:
        """Returns gradients [..., h, w, c] of the logits' products with cotangents."""
        torch = framework("torch", "torch")
        images, cotangents = np.asarray(image), np.array(cotangent)
        inputs, logits = self.tensors(
            images.reshape(-1, *self.image_shape), gradient=True
        )
        if not logits.requires_grad:
            # Nothing leads from the logits back to the images.
            return np.zeros_like(images)
        weights = torch.from_numpy(cotangents.reshape(-1, self.classes)).to(logits)
        (gradient,) = torch.autograd.grad(
            logits, inputs, weights, materialize_grads=True
        )
        last = _array(gradient, images).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(last).reshape(images.shape)


def _array(tensor: Any, like: np.ndarray) -> np.ndarray:
    # No NumPy array is of type bfloat16, which a module may have.
    return tensor.detach().cpu().double().numpy().astype(like.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _logits(network: _Torch, image: _Image) -> Array:
    shape = jax.ShapeDtypeStruct((network.classes,), image.dtype)
    return called(network.forward, shape, image)


def _with_image(network: _Torch, image: _Image) -> tuple[Array, _Image]:
    return _logits(network, image), image


def _gradient(network: _Torch, image: _Image, cotangent: Array) -> tuple[Array]:
    shape = jax.ShapeDtypeStruct(image.shape, image.dtype)
    return (called(network.backward, shape, image, cotangent),)


_logits.defvjp(_with_image, _gradient)
