"""One convolution in three libraries: the package's, Flax's and PyTorch's."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from timing import Contender

from robust_manifold.models.convolution import convolution, transposed_convolution

SCAN_LENGTH = 2
MEMORY_FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A 4x4 convolution of stride 2, or a transposed one, of a DCGAN.

    Attributes:
      transposed: which of the two.
      side: of the inputs.
      channels: of the inputs.
      features: channels of the outputs.
    """

    transposed: bool
    side: int
    channels: int
    features: int

    def __str__(self):
        out = self.side * 2 if self.transposed else self.side // 2
        kind = "transposed" if self.transposed else "convolution"
        return (
            f"{kind:12}{self.side:2}x{self.side:<2} x{self.channels:<3} -> "
            f"{out:2}x{out:<2} x{self.features:<3}"
        )

    def operands(self, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns images, a kernel, and a gradient at the outputs."""
        out = self.side * 2 if self.transposed else self.side // 2
        shapes = (
            (batch, self.side, self.side, self.channels),
            (4, 4, self.channels, self.features),
            (batch, out, out, self.features),
        )
        random = np.random.default_rng(0)
        return tuple(random.standard_normal(s, np.float32) for s in shapes)


def network_layers(side: int, channels: int, width: int) -> list[Layer]:
    """Returns the convolutions of `dcgan_generator` and `dcgan_discriminator`."""
    down = [channels]
    while side % 2 == 0 and side >= 6:
        side //= 2
        down.append(width << (len(down) - 1))
    pairs = list(zip(down, down[1:], strict=False))
    up = [Layer(True, side << k, b, a) for k, (a, b) in enumerate(reversed(pairs))]
    return up + [
        Layer(False, side << (len(pairs) - k), a, b) for k, (a, b) in enumerate(pairs)
    ]


def input_side(apply, x, w, g):
    """The outputs, and the gradient at the inputs."""
    y, pull = jax.vjp(lambda x: apply(x, w), x)
    return y, pull(g)[0]


def kernel_side(apply, x, w, g):
    """The gradient at the kernel."""
    return jax.vjp(lambda w: apply(x, w), w)[1](g)[0]


def contenders(layer, batch, compute):
    """Returns what is to be timed, by name, after a check that all results agree."""
    arrays = layer.operands(batch)
    operands = [jnp.asarray(array) for array in arrays]
    found = {}
    for name, apply in {"ours": ours(layer), "flax": flax(layer)}.items():
        call = functools.partial(compute, apply)
        found[name] = Contender(_compiled(call, operands))
        scan = _compiled(functools.partial(_scan, call), operands)
        found[f"{name} scan"] = Contender(scan, SCAN_LENGTH)
    for name, memory_format in MEMORY_FORMATS.items():
        run = in_torch(layer, compute, arrays, memory_format)
        found[f"torch {name}"] = Contender(run)
    expected = found["ours"].run()
    _check("flax", found["flax"].run(), expected)
    for name in MEMORY_FORMATS:
        results = found[f"torch {name}"].run()
        _check(
            "torch", [_from_torch(layer, part, compute) for part in results], expected
        )
    return found


def ours(layer):
    form = transposed_convolution if layer.transposed else convolution
    return lambda x, w: form(x, w, strides=2)


def flax(layer):
    linen = nn.ConvTranspose if layer.transposed else nn.Conv
    module = linen(layer.features, (4, 4), (2, 2), use_bias=False)
    return lambda x, w: module.apply({"params": {"kernel": w}}, x)


def in_torch(layer, compute, arrays, memory_format):
    """Returns the function that computes the same with PyTorch, as NCHW or NHWC."""
    x, w, g = arrays
    axes = (2, 3, 0, 1) if layer.transposed else (3, 2, 0, 1)
    if layer.transposed:
        w = w[::-1, ::-1]  # Flax does not turn the kernel round; PyTorch does
    x, w, g = (
        torch.from_numpy(array.transpose(order).copy()).contiguous(
            memory_format=memory_format
        )
        for array, order in ((x, (0, 3, 1, 2)), (w, axes), (g, (0, 3, 1, 2)))
    )
    form = F.conv_transpose2d if layer.transposed else F.conv2d
    if compute is kernel_side:
        w.requires_grad_()
        y = form(x, w, stride=2, padding=1)
        # The gradient alone: the outputs are not computed again.
        return lambda: torch.autograd.grad(y, w, g, retain_graph=True)
    x.requires_grad_()

    def call():
        y = form(x, w, stride=2, padding=1)
        return y.detach(), *torch.autograd.grad(y, x, g)

    return call


def _compiled(function, operands):
    program = jax.jit(function)
    return lambda: jax.block_until_ready(program(*operands))


def _scan(call, x, w, g):
    """Computes again and again, each time from a little of the last results."""

    def body(carry, _):
        x, g, _ = carry
        results = call(x, w, g)
        # All results leave the loop, so that none is computed in part only.
        first, last = jax.tree.leaves(results)[0], jax.tree.leaves(results)[-1]
        x = x.at[0].add(1e-9 * first.reshape(-1)[0])
        g = g.at[0].add(1e-9 * last.reshape(-1)[0])
        return (x, g, results), None

    nothing = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(call, x, w, g)
    )
    return jax.lax.scan(body, (x, g, nothing), length=SCAN_LENGTH)[0]


def _from_torch(layer, array, compute):
    if compute is input_side:
        return array.permute(0, 2, 3, 1).numpy()
    if layer.transposed:
        return array.flip(2, 3).permute(2, 3, 0, 1).numpy()
    return array.permute(2, 3, 1, 0).numpy()


def _check(name, found, expected):
    """Raises unless both results are the same but for rounding."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = np.max(np.abs(b))
        np.testing.assert_allclose(
            a / scale, b / scale, atol=2e-5, err_msg=f"{name} computes something else"
        )
