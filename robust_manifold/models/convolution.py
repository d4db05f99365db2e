"""Convolution and transposed convolution, each with a lowering per platform.

A convolution y = c(x, w) is bilinear, and so are its two gradients, x = i(y, w) and
w = k(x, y).  The derivative of each of the three is again one of the three, so they
are three JAX primitives, closed under every order of differentiation, and a
transposed convolution is i with its kernel turned round.  A primitive, unlike
`jax.lax.platform_dependent`, keeps the residuals of one lowering only.

On GPU and TPU the three are XLA's own.  On CPU, XLA is fast for a plain convolution
only: one without a spread-out or reversed operand.  Inside `scan` and `fori_loop` its
gradients of a convolution take up to 130 times as long as outside.  There c and k are
plain convolutions, of rearranged operands where need be; i is one plain convolution for
each phase of the stride, or, where the result has few channels, one matrix product
whose blocks are added where they overlap.

XLA shares a plain convolution among the processor's cores only if its rows are long, or
its features many.  So all images are laid side by side in one, with zeros between them
(`_convolve_side_by_side`), which doubles the speed on two cores; and a convolution of
few channels with few features computes some neighbouring columns at once, as so many
more features (`_convolve_columns`).  benchmarks/convolutions.py measures each form.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.extend
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from robust_manifold.core.errors import UsageError

Pair: TypeAlias = tuple[int, int]
Padding: TypeAlias = str | Sequence[Sequence[int]]
"""A name ("SAME" or "VALID"), or (before, after) for the height and for the width."""

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# Of fewer channels the columns are computed in groups, and for as few channels of the
# result a matrix product beats a convolution.
_FEW_CHANNELS = 9
# Features that keep the vector units of a core busy.
_ENOUGH_FEATURES = 64
# XLA's fast convolutions have more channels, or features, than this.
_TOO_SMALL = 16
# From so many features on, times the stride, XLA shares a convolution by itself.
_MANY_FEATURES = 128
# With fewer multiply-adds in all, a longer program is not worth its compilation.
_WORTH_COMPILING = 1 << 21
# How many multiply-adds are worth it to move a number first.
_WORTH_MOVING = 50
# How much more arithmetic is worth it to share a convolution among cores.
_WORTH_SHARING = 1.5
# With so many terms a number, or more, XLA needs padding to be fast.
_MANY_TERMS = 256
# How much more arithmetic is worth one copy less.
_WORTH_A_COPY = 1.15
# Examples whose kernel gradients are summed at a time: their operands stay in cache.
_CHUNK = 64
_MAX_CHUNKS = 8


def convolution(
    inputs: Float[Array, "*batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width in_channels features"],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
) -> Float[Array, "*batch out_height out_width features"]:
    """Returns the convolution (cross-correlation) that `flax.linen.Conv` computes.

    Args:
      inputs: images, with any leading batch axes, or none.
      kernel: the weights; of the same dtype as `inputs`.
      strides: one step for both axes, or (vertical, horizontal).
      padding: "SAME", "VALID", or ((top, bottom), (left, right)).

    Raises:
      UsageError: if the shapes, strides or padding do not fit each other.
    """
    steps = _pair(strides)
    height, width = inputs.shape[-3:-1]
    _check_operands(inputs, kernel)
    if isinstance(padding, str):
        _check_name(padding)
        pads = lax.padtype_to_pads((height, width), kernel.shape[:2], steps, padding)
    else:
        pads = padding
    pads = _pads(pads)
    _check_size(_convolved(inputs.shape, kernel.shape, steps, pads), inputs, kernel)
    return _over_batch(
        lambda x: _convolve.bind(x, kernel, strides=steps, padding=pads), inputs
    )


def transposed_convolution(
    inputs: Float[Array, "*batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width in_channels features"],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
) -> Float[Array, "*batch out_height out_width features"]:
    """Returns the transposed convolution that `flax.linen.ConvTranspose` computes.

    The result is the convolution of the inputs, spread out by the strides, with the
    kernel as it stands (not turned round).

    Args:
      inputs: images, with any leading batch axes, or none.
      kernel: the weights; of the same dtype as `inputs`.
      strides: one step for both axes, or (vertical, horizontal).
      padding: "SAME" (the size is multiplied by the stride), "VALID", or
        ((top, bottom), (left, right)) around the spread-out inputs.

    Raises:
      UsageError: if the shapes, strides or padding do not fit each other.
    """
    steps = _pair(strides)
    _check_operands(inputs, kernel)
    sizes = kernel.shape[:2]
    if isinstance(padding, str):
        _check_name(padding)
        outer = tuple(
            _spread_pads(k, s, padding) for k, s in zip(sizes, steps, strict=True)
        )
    else:
        outer = _pads(padding)
    # The convolution whose input gradient this is.
    pads = tuple(
        (k - 1 - low, k - 1 - high) for k, (low, high) in zip(sizes, outer, strict=True)
    )
    out = tuple(
        (n - 1) * s + 1 + low + high - k + 1
        for n, s, k, (low, high) in zip(
            inputs.shape[-3:-1], steps, sizes, outer, strict=True
        )
    )
    _check_size((*out, kernel.shape[-1]), inputs, kernel)
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    return _over_batch(
        lambda x: _input_gradient.bind(
            x, turned, strides=steps, padding=pads, size=out
        ),
        inputs,
    )


def _over_batch(function: Callable[[Array], Array], inputs: Array) -> Array:
    """Applies a function of [n, h, w, c] to inputs with any leading axes."""
    batch = inputs.shape[:-3]
    if len(batch) == 1:
        return function(inputs)
    outputs = function(inputs.reshape((math.prod(batch), *inputs.shape[-3:])))
    return outputs.reshape((*batch, *outputs.shape[1:]))


def _pair(strides: int | Sequence[int]) -> Pair:
    pair = (strides, strides) if isinstance(strides, int) else tuple(strides)
    if len(pair) != 2 or min(pair) < 1:
        raise UsageError(
            f"strides is {strides!r}; allowed: a whole number of at least 1, or two."
        )
    return int(pair[0]), int(pair[1])


def _pads(padding: Sequence[Sequence[int]]) -> tuple[Pair, ...]:
    pads = tuple(tuple(map(int, pair)) for pair in padding)
    if len(pads) != 2 or any(len(pair) != 2 for pair in pads):
        raise UsageError(
            f"padding is {padding!r}; allowed: 'SAME', 'VALID', or two pairs of "
            "whole numbers."
        )
    return pads  # type: ignore[return-value]


def _check_name(padding: str) -> None:
    if padding not in ("SAME", "VALID"):
        raise UsageError(
            f"padding is {padding!r}; allowed: 'SAME', 'VALID', or two pairs of "
            "whole numbers."
        )


def _check_operands(inputs: Array, kernel: Array) -> None:
    if inputs.shape[-1] != kernel.shape[2]:
        raise UsageError(
            f"inputs of a convolution have {inputs.shape[-1]} channels; its kernel "
            f"takes {kernel.shape[2]}."
        )
    if inputs.dtype != kernel.dtype:
        raise UsageError(
            f"inputs of a convolution are {inputs.dtype}; allowed: the dtype of its "
            f"kernel, {kernel.dtype}."
        )


def _check_size(out: Sequence[int], inputs: Array, kernel: Array) -> None:
    if min(out) < 1:
        raise UsageError(
            f"inputs of {inputs.shape[-3]}x{inputs.shape[-2]} are too small for a "
            f"{kernel.shape[0]}x{kernel.shape[1]} kernel with this padding."
        )


def _spread_pads(size: int, stride: int, padding: str) -> Pair:
    """Returns the pads around inputs spread out by `stride`, as Flax places them."""
    if padding == "VALID":
        low = size - 1
        return low, size + stride - 2 + max(size - stride, 0) - low
    total = size + stride - 2
    low = size - 1 if stride > size - 1 else -(-total // 2)
    return low, total - low


def _convolved(
    inputs: Sequence[int], kernel: Sequence[int], strides: Pair, padding: Any
) -> tuple[int, int, int]:
    """Returns (height, width, features) of a convolution's result."""
    height, width = (
        (n + low + high - k) // s + 1
        for n, k, s, (low, high) in zip(
            inputs[-3:-1], kernel[:2], strides, padding, strict=True
        )
    )
    return height, width, kernel[3]


# The three maps as XLA has them.


def _convolve_xla(x, w, *, strides, padding):
    return lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=_DIMENSIONS
    )


def _input_gradient_xla(y, w, *, strides, padding, size):
    x = jax.ShapeDtypeStruct((y.shape[0], *size, w.shape[2]), y.dtype)
    convolve = functools.partial(_convolve_xla, w=w, strides=strides, padding=padding)
    return jax.linear_transpose(convolve, x)(y)[0]


def _kernel_gradient_xla(x, y, *, strides, padding, size):
    w = jax.ShapeDtypeStruct((*size, x.shape[3], y.shape[3]), x.dtype)
    convolve = functools.partial(_convolve_xla, x, strides=strides, padding=padding)
    return jax.linear_transpose(convolve, w)(y)[0]


# The three as the CPU likes them.


def _convolve_cpu(x, w, *, strides, padding):
    channels, features = w.shape[2:]
    rows, columns, _ = _convolved(x.shape, w.shape, strides, padding)
    if len(x) * rows * columns * math.prod(w.shape) < _WORTH_COMPILING:
        return _convolve_padded(x, w, strides, padding)
    # For a single channel the vector units of a core need fewer features.
    enough = _ENOUGH_FEATURES if channels > 1 else _ENOUGH_FEATURES // 2
    together = min(-(-enough // features), columns)
    if channels < _FEW_CHANNELS and together > 1:
        return _convolve_columns(x, w, strides, padding, columns, together)
    return _convolve_shared(x, w, strides, padding)


def _convolve_columns(x, w, strides, padding, columns, together):
    """Neighbouring columns of the result are features of one column.

    In memory the two are the same, so that nothing is left to rearrange.
    """
    groups = -(-columns // together)
    low, high = padding[1]
    reach = (groups * together - 1) * strides[1] + w.shape[1]
    pads = (padding[0], (low, max(high, reach - x.shape[2] - low)))
    steps = (strides[0], strides[1] * together)
    y = _convolve_shared(x, _beside(w, strides[1], together), steps, pads)
    return y.reshape(*y.shape[:2], groups * together, w.shape[3])[:, :, :columns]


def _beside(w, step, together):
    """Returns the kernel of neighbouring columns, `step` apart: the last axis grows."""
    kernels = [
        jnp.pad(w, [(0, 0), (k * step, (together - 1 - k) * step), (0, 0), (0, 0)])
        for k in range(together)
    ]
    return jnp.concatenate(kernels, axis=3)


def _convolve_shared(x, w, strides, padding):
    """The plain convolution, laid out so that all cores work on it."""
    channels, features = w.shape[2:]
    step = strides[1]
    columns = _convolved(x.shape, w.shape, strides, padding)[1]
    pitch = _pitch(x.shape[2], w.shape[1], step, padding[1][0], columns)
    moved = channels * strides[0] * step + features
    if (
        len(x) == 1
        or math.prod(w.shape) < _WORTH_MOVING * moved
        or features >= _MANY_FEATURES * step
        or max(channels, features) <= _TOO_SMALL
        or pitch > _WORTH_SHARING * columns * step
    ):
        return _convolve_padded(x, w, strides, padding)
    return _convolve_side_by_side(x, w, strides, padding, columns, pitch)


def _pitch(width, taps, step, low, columns):
    """Returns how far images side by side are apart, from first column to first column.

    No window that counts reaches a neighbour.
    """
    least = max(width + low, (columns - 1) * step + taps - low, columns * step)
    return -(-least // step) * step


def _convolve_side_by_side(x, w, strides, padding, columns, pitch):
    """All images beside each other as one, `pitch` columns apart."""
    n, height, width, channels = x.shape
    low, taps, step = padding[1][0], w.shape[1], strides[1]
    gap = (0, pitch - width, 0)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), gap, (0, 0, 0)])
    x = x.transpose(1, 0, 2, 3).reshape(1, height, n * pitch, channels)
    pads = (padding[0], (low, taps - step - low))
    y = _convolve_xla(x, w, strides=strides, padding=pads)
    y = y.reshape(y.shape[1], n, pitch // step, w.shape[3])
    return y[:, :, :columns].transpose(1, 0, 2, 3)


def _convolve_padded(x, w, strides, padding, dilation=(1, 1)):
    """XLA's own, which takes up to three times as long where nothing is padded."""
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        rhs_dilation=dilation,
        dimension_numbers=_DIMENSIONS,
    )
    if any(map(any, padding)) or math.prod(w.shape[:3]) < _MANY_TERMS:
        return convolve(x, w, padding=padding)
    if w.shape[:2] == strides == (1, 1):
        return jnp.tensordot(x, w[0, 0], 1)
    reach = (w.shape[0] - 1) * dilation[0] + 1
    rows = (x.shape[1] - reach) // strides[0] + 1
    return convolve(x, w, padding=((0, 1), (0, 0)))[:, :rows]


def _input_gradient_cpu(y, w, *, strides, padding, size):
    if w.shape[2] < _FEW_CHANNELS:
        return _input_gradient_product(y, w, strides, padding, size)
    blocks = -(-w.shape[1] // strides[1])
    arithmetic = blocks * strides[1] * (y.shape[2] + blocks - 1)
    if arithmetic <= _WORTH_A_COPY * w.shape[1] * y.shape[2] and strides[1] > 1:
        return _input_gradient_strips(y, w, strides, padding, size)
    return _input_gradient_phases(y, w, strides, padding, size)


def _input_gradient_phases(y, w, strides, padding, size):
    """The rows u of x with equal (u + pad) mod stride meet the same kernel rows."""
    phases = [
        [
            _phase(u, y.shape[1 + d], w.shape[d], strides[d], padding[d][0], size[d])
            for u in range(strides[d])
        ]
        for d in (0, 1)
    ]
    rows = []
    for taps_h, count_h, pads_h in phases[0]:
        columns = [
            _correlate(y, w[taps_h, taps_w], (pads_h, pads_w), (count_h, count_w))
            for taps_w, count_w, pads_w in phases[1]
        ]
        rows.append(_interleave(columns, axis=2)[:, :, : size[1]])
    return _interleave(rows, axis=1)[:, : size[0]]


def _input_gradient_strips(y, w, strides, padding, size):
    """As by phases, but all columns' phases are channels of one convolution.

    In memory, `stride` columns of x + pad lie as the channels of one column do, so that
    only rows are left to interleave.
    """
    n, _, width, features = y.shape
    (taps, step), channels = (w.shape[1], strides[1]), w.shape[2]
    blocks = -(-taps // step)
    w = jnp.pad(w, [(0, 0), (0, blocks * step - taps), (0, 0), (0, 0)])
    w = w.reshape(w.shape[0], blocks, step * channels, features)
    rows = []
    for u in range(strides[0]):
        taps_h, count, pads_h = _phase(
            u, y.shape[1], w.shape[0], strides[0], padding[0][0], size[0]
        )
        pads, counts = (pads_h, (blocks - 1,) * 2), (count, width + blocks - 1)
        rows.append(_correlate(y, w[taps_h], pads, counts).reshape(n, count, -1))
    strips = _interleave(rows, axis=1)[:, : size[0]]
    low = padding[1][0] * channels
    edges = (-low, low + size[1] * channels - strips.shape[2], 0)
    zero = jnp.zeros((), y.dtype)
    strips = lax.pad(strips, zero, [(0, 0, 0), (0, 0, 0), edges])
    return strips.reshape(n, *size, channels)


def _correlate(y, w, pads, size):
    """Returns what the kernel rows `w` make of y: [n, *size, channels]."""
    if 0 in w.shape or 0 in size:
        return jnp.zeros((y.shape[0], *size, w.shape[2]), y.dtype)
    return _convolve_plain(y, w[::-1, ::-1].swapaxes(2, 3), pads)


def _phase(u, n, taps, stride, pad, size):
    """Returns (the kernel rows, the number of result rows, the pads) of one phase.

    With v = u + pad = i * stride + k, kernel row k of input row i falls on u.
    """
    k = (u + pad) % stride
    blocks = len(range(k, taps, stride))
    count = len(range(u, size, stride))
    first = (u + pad - k) // stride
    pads = (blocks - 1 - first, first + count - n)
    return slice(k, None, stride), count, pads


def _convolve_plain(x, w, pads):
    """The stride-1 convolution, where a negative pad crops before, not inside, it."""
    crop = [(min(low, 0), min(high, 0), 0) for low, high in pads]
    if any(low or high for low, high, _ in crop):
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *crop, (0, 0, 0)])
    pads = [(max(low, 0), max(high, 0)) for low, high in pads]
    return _convolve_cpu(x, w, strides=(1, 1), padding=pads)


def _interleave(parts, axis):
    """Returns parts[0][0], parts[1][0], ..., parts[0][1], ... along `axis`."""
    if len(parts) == 1:
        return parts[0]
    longest = max(part.shape[axis] for part in parts)
    padded = []
    for part in parts:
        widths = [(0, 0)] * part.ndim
        widths[axis] = (0, longest - part.shape[axis])
        padded.append(jnp.pad(part, widths))
    stacked = jnp.stack(padded, axis + 1)
    shape = list(padded[0].shape)
    shape[axis] *= len(parts)
    return stacked.reshape(shape)


def _input_gradient_product(y, w, strides, padding, size):
    """One matrix product; its stride-by-stride blocks are added where they overlap."""
    n, out_h, out_w, features = y.shape
    channels = w.shape[2]
    (s_h, s_w), (b_h, b_w) = strides, (-(-w.shape[d] // strides[d]) for d in (0, 1))
    widths = [(0, b_h * s_h - w.shape[0]), (0, b_w * s_w - w.shape[1]), (0, 0), (0, 0)]
    blocks = jnp.pad(w, widths).reshape(b_h, s_h, b_w, s_w, channels, features)
    blocks = blocks.transpose(5, 0, 2, 1, 3, 4).reshape(features, -1)
    products = (y.reshape(-1, features) @ blocks).reshape(
        n, out_h, out_w, b_h, b_w, s_h * s_w * channels
    )
    zero = jnp.zeros((), y.dtype)
    total = None
    for i in range(b_h):
        for j in range(b_w):
            at = [(0, 0, 0), (i, b_h - 1 - i, 0), (j, b_w - 1 - j, 0), (0, 0, 0)]
            shifted = lax.pad(products[:, :, :, i, j], zero, at)
            total = shifted if total is None else total + shifted
    assert total is not None
    rows, columns = out_h + b_h - 1, out_w + b_w - 1
    full = total.reshape(n, rows, columns, s_h, s_w, channels)
    full = full.transpose(0, 1, 3, 2, 4, 5)
    full = full.reshape(n, rows * s_h, columns * s_w, channels)
    crop = [
        (-padding[d][0], size[d] + padding[d][0] - full.shape[1 + d], 0) for d in (0, 1)
    ]
    return lax.pad(full, zero, [(0, 0, 0), *crop, (0, 0, 0)])


def _kernel_gradient_cpu(x, y, *, strides, padding, size):
    if size == (1, 1) and not any(map(any, padding)):
        ends = ((n - 1) * s + 1 for n, s in zip(y.shape[1:3], strides, strict=True))
        x = lax.slice(x, (0, 0, 0, 0), (len(x), *ends, x.shape[3]), (1, *strides, 1))
        return jnp.tensordot(x, y, ((0, 1, 2), (0, 1, 2)))[None, None]
    return _kernel_gradient_examples(x, y, strides, padding, size)


def _kernel_gradient_examples(x, y, strides, padding, size):
    """A convolution over the examples, so channels change places with them."""
    n = x.shape[0]
    chunk = max(_CHUNK, -(-n // _MAX_CHUNKS))
    pads = []
    for d in (0, 1):
        low = padding[d][0]
        reach = (y.shape[1 + d] - 1) * strides[d] + size[d]
        pads.append((low, reach - x.shape[1 + d] - low))
    total = None
    for start in range(0, n, chunk):
        part = _convolve_padded(
            x[start : start + chunk].transpose(3, 1, 2, 0),
            y[start : start + chunk].transpose(1, 2, 0, 3),
            (1, 1),
            pads,
            dilation=strides,
        )
        total = part if total is None else total + part
    assert total is not None
    return total.transpose(1, 2, 0, 3)


# The primitives.


def _primitive(name, xla, cpu, shape):
    """Returns the primitive `name`: lowered by `xla`, on CPU by `cpu`."""
    primitive = jax.extend.core.Primitive(name)

    @functools.cache
    def compiled(parameters):
        return jax.jit(functools.partial(primitive.bind, **dict(parameters)))

    def abstract(a, b, **parameters):
        return a.update(shape=shape(a.shape, b.shape, **parameters), weak_type=False)

    primitive.def_impl(lambda a, b, **kw: compiled(tuple(sorted(kw.items())))(a, b))
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(xla, multiple_results=False))
    mlir.register_lowering(
        primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu"
    )
    return primitive


_convolve = _primitive(
    "convolve",
    _convolve_xla,
    _convolve_cpu,
    lambda x, w, strides, padding: (x[0], *_convolved(x, w, strides, padding)),
)
_input_gradient = _primitive(
    "convolve_input_gradient",
    _input_gradient_xla,
    _input_gradient_cpu,
    lambda y, w, strides, padding, size: (y[0], *size, w[2]),
)
_kernel_gradient = _primitive(
    "convolve_kernel_gradient",
    _kernel_gradient_xla,
    _kernel_gradient_cpu,
    lambda x, y, strides, padding, size: (*size, x[3], y[3]),
)


def _image_size(x):
    return x.aval.shape[1:3]


def _kernel_size(w):
    return w.aval.shape[:2]


ad.defbilinear(
    _convolve,
    lambda ct, x, w, **kw: _input_gradient.bind(ct, w, size=_image_size(x), **kw),
    lambda ct, x, w, **kw: _kernel_gradient.bind(x, ct, size=_kernel_size(w), **kw),
)
ad.defbilinear(
    _input_gradient,
    lambda ct, y, w, size, **kw: _convolve.bind(ct, w, **kw),
    lambda ct, y, w, size, **kw: _kernel_gradient.bind(
        ct, y, size=_kernel_size(w), **kw
    ),
)
ad.defbilinear(
    _kernel_gradient,
    lambda ct, x, y, size, **kw: _input_gradient.bind(y, ct, size=_image_size(x), **kw),
    lambda ct, x, y, size, **kw: _convolve.bind(x, ct, **kw),
)


def _merge(array, batch_axis, axis):
    """Moves the batch axis in front of `axis` and merges the two."""
    array = jnp.moveaxis(array, batch_axis, axis)
    shape = array.shape
    return array.reshape(*shape[:axis], -1, *shape[axis + 2 :])


def _split(array, batch, axis):
    shape = array.shape
    return array.reshape(*shape[:axis], batch, -1, *shape[axis + 1 :])


def _batched(primitive, xla, left, right):
    """Registers vmap: a batch of one operand is an axis of a single larger call.

    Args:
      primitive: the bilinear primitive.
      xla: its XLA form, used where both operands have a batch (a vmap over weights).
      left: (the axis of the first operand, the axis of the result) that takes a
        batch of the first operand.
      right: the same for the second operand.
    """

    def rule(arguments, axes, **parameters):
        (a, b), (axis_a, axis_b) = arguments, axes
        if axis_a is not None and axis_b is not None:
            own = functools.partial(xla, **parameters)
            return jax.vmap(own, in_axes=(axis_a, axis_b))(a, b), 0
        if axis_b is None:
            batch, (into, out) = a.shape[axis_a], left
            a = _merge(a, axis_a, into)
        else:
            batch, (into, out) = b.shape[axis_b], right
            b = _merge(b, axis_b, into)
        return _split(primitive.bind(a, b, **parameters), batch, out), out

    batching.primitive_batchers[primitive] = rule


_batched(_convolve, _convolve_xla, left=(0, 0), right=(3, 3))
_batched(_input_gradient, _input_gradient_xla, left=(0, 0), right=(2, 3))
_batched(_kernel_gradient, _kernel_gradient_xla, left=(3, 2), right=(3, 3))
