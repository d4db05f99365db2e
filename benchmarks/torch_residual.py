"""`residual_cnn` in PyTorch, with a trained classifier's weights, for inference."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    """The network for images [batch, channels, height, width] of even sides.

    Attributes:
      first: the first convolution.
      blocks: the residual blocks of all stages.
      norm: the last batch normalisation.
      dense: the logits.
    """

    def __init__(self, params):
        """Takes the variables of the package's network, as NumPy arrays."""
        super().__init__()
        weights = _Layers(params)
        self.first = weights.convolution()
        blocks = []
        while weights.left("Conv"):
            blocks.append(_Block(weights))
        self.blocks = nn.Sequential(*blocks)
        self.norm = weights.batch_norm()
        kernel, bias = (
            params["params"]["Dense_0"][name] for name in ("kernel", "bias")
        )
        self.dense = nn.Linear(*kernel.shape)
        _fill(self.dense.weight, kernel.T)
        _fill(self.dense.bias, bias)

    def forward(self, images):
        x = self.blocks(self.first(images))
        return self.dense(F.relu(self.norm(x)).mean((2, 3)))


class _Block(nn.Module):
    """Two normalised, activated convolutions beside a shortcut."""

    def __init__(self, weights):
        super().__init__()
        self.norm = weights.batch_norm()
        # Blocks that halve the sides have a 1x1 convolution as their shortcut.
        halves = weights.kernel_size() == 1
        stride = 2 if halves else 1
        self.shortcut = weights.convolution(stride) if halves else None
        self.first = weights.convolution(stride)
        self.inner_norm = weights.batch_norm()
        self.second = weights.convolution()

    def forward(self, x):
        active = F.relu(self.norm(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        y = self.first(active)
        return shortcut + self.second(F.relu(self.inner_norm(y)))


class _Convolution(nn.Conv2d):
    """A convolution without bias that pads as "SAME" does, on even sides."""

    def forward(self, x):
        if self.stride[0] == 2 and self.kernel_size[0] == 3:
            x = F.pad(x, (0, 1, 0, 1))
        return super().forward(x)


class _Layers:
    """A network's layers in the order in which Linen has named them."""

    def __init__(self, params):
        self.params, self.statistics = params["params"], params["batch_stats"]
        self.next = {"Conv": 0, "BatchNorm": 0}

    def left(self, kind) -> bool:
        return self._name(kind) in self.params

    def kernel_size(self) -> int:
        return len(self.params[self._name("Conv")]["kernel"])

    def convolution(self, stride=1) -> nn.Conv2d:
        kernel = self._take("Conv", self.params)["kernel"]
        size, _, channels, features = kernel.shape
        padding = size // 2 if stride == 1 else 0
        module = _Convolution(channels, features, size, stride, padding, bias=False)
        _fill(module.weight, kernel.transpose(3, 2, 0, 1))
        return module

    def batch_norm(self) -> nn.BatchNorm2d:
        statistics = self.statistics[self._name("BatchNorm")]
        values = self._take("BatchNorm", self.params)
        module = nn.BatchNorm2d(len(values["bias"]))
        _fill(module.weight, values["scale"])
        _fill(module.bias, values["bias"])
        _fill(module.running_mean, statistics["mean"])
        _fill(module.running_var, statistics["var"])
        return module

    def _name(self, kind):
        return f"{kind}_{self.next[kind]}"

    def _take(self, kind, table):
        found = table[self._name(kind)]
        self.next[kind] += 1
        return found


def _fill(tensor, values):
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(np.array(values)))
