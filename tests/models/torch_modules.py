"""PyTorch's modules in NumPy, from the formulas of its documentation.

Each is called as in PyTorch and returns a function of a batch (channels first) and of
the module's tensors, in inference mode.
"""

import numpy as np


def evaluate(layers, state, inputs):
    """Returns what `nn.Sequential(*layers)` with the state dict gives for a batch."""
    outputs = inputs.astype(np.float64)
    for place, text in enumerate(layers):
        tensors = {
            name.split(".")[1]: array.astype(np.float64)
            for name, array in state.items()
            if name.startswith(f"{place}.")
        }
        outputs = eval(text, globals())(outputs, **tensors)
    return outputs


def Linear(inputs, outputs):
    def call(x, weight, bias):
        assert x.shape[1:] == (inputs,) and weight.shape == (outputs, inputs)
        return x @ weight.T + bias

    return call


def Conv2d(inputs, outputs, side, stride=1, padding=0):
    def call(x, weight, bias):
        assert weight.shape == (outputs, inputs, side, side)
        x = _pad(x, (padding,) * 4, 0)
        height, width = ((n - side) // stride + 1 for n in x.shape[2:])
        result = bias[:, None, None]
        for i, j in np.ndindex(side, side):
            rows = x[:, :, i : i + stride * height : stride]
            seen = rows[..., j : j + stride * width : stride]
            result = result + np.einsum(
                "nchw,oc->nohw", seen[..., :height, :width], weight[..., i, j]
            )
        return result

    return call


def ConvTranspose2d(inputs, outputs, side, stride=1, padding=0):
    def call(x, weight, bias):
        assert weight.shape == (inputs, outputs, side, side)
        n, _, height, width = x.shape
        sizes = ((size - 1) * stride + side for size in (height, width))
        result = np.zeros((n, outputs, *sizes))
        # Every input adds its multiple of the kernel to the outputs it reaches.
        for i, j in np.ndindex(height, width):
            top, left = i * stride, j * stride
            result[:, :, top : top + side, left : left + side] += np.einsum(
                "nc,cohw->nohw", x[:, :, i, j], weight
            )
        return _pad(result, (-padding,) * 4, 0) + bias[:, None, None]

    return call


def BatchNorm2d(channels):
    def call(x, weight, bias, running_mean, running_var):
        columns = (weight, bias, running_mean, running_var)
        scale, shift, mean, variance = (c.reshape(channels, 1, 1) for c in columns)
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift

    return call


def MaxPool2d(window, stride, padding=0, ceil_mode=False):
    def call(x):
        x = _pad(x, (padding,) * 4, -np.inf)
        if ceil_mode:
            # One more window where the last one leaves a row or column over.
            height, width = (-(n - window) % stride for n in x.shape[2:])
            x = _pad(x, (0, width, 0, height), -np.inf)
        height, width = ((n - window) // stride + 1 for n in x.shape[2:])
        result = np.empty((*x.shape[:2], height, width))
        for i, j in np.ndindex(height, width):
            top, left = i * stride, j * stride
            seen = x[:, :, top : top + window, left : left + window]
            result[:, :, i, j] = seen.max(axis=(2, 3))
        return result

    return call


def LocalResponseNorm(size, alpha, beta, k):
    def call(x):
        sums = np.zeros_like(x)
        for channel in range(x.shape[1]):
            first = max(0, channel - size // 2)
            nearby = x[:, first : channel + size // 2 + 1]
            sums[:, channel] = (nearby**2).sum(axis=1)
        return x / (k + alpha / size * sums) ** beta

    return call


def ZeroPad2d(sides):
    return lambda x: _pad(x, sides, 0)


def ConstantPad2d(sides, value):
    return lambda x: _pad(x, sides, value)


def Flatten():
    return lambda x: x.reshape(len(x), -1)


def Unflatten(axis, shape):
    assert axis == 1
    return lambda x: x.reshape(-1, *shape)


def Dropout(share):
    return lambda x: x


def ReLU():
    return lambda x: np.maximum(x, 0)


def LeakyReLU(slope):
    return lambda x: np.where(x > 0, x, slope * x)


def Softplus():
    return lambda x: np.logaddexp(x, 0)


def Tanh():
    return np.tanh


def Sigmoid():
    return lambda x: 1 / (1 + np.exp(-x))


def _pad(x, sides, value):
    """Pads (left, right, top, bottom); a negative number cuts off."""
    left, right, top, bottom = sides
    widths = [(0, 0), (0, 0), (top, bottom), (left, right)]
    grown = [(max(a, 0), max(b, 0)) for a, b in widths]
    x = np.pad(x, grown, constant_values=value)
    height, width = x.shape[2:]
    return x[
        :,
        :,
        max(-top, 0) : height - max(-bottom, 0),
        max(-left, 0) : width - max(-right, 0),
    ]
