"""The networks and the training of `experiments/mnist.py` in PyTorch, step for step."""

import copy
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Draws(NamedTuple):
    """The random numbers of one step.

    Attributes:
      latents: [k, batch, latent], for the discriminator's steps.
      shares: [k, batch, 1, 1, 1], of the real image in each mixed one.
      last_latents: [batch, latent], for the generator's step.
    """

    latents: torch.Tensor
    shares: torch.Tensor
    last_latents: torch.Tensor


class Metrics(NamedTuple):
    discriminator_loss: float
    generator_loss: float


class Generator(nn.Module):
    """Dense, then stride-2 transposed convolutions; tanh * 0.5 + 0.5 at the end."""

    def __init__(self, params, memory_format):
        super().__init__()
        self.dense = nn.Linear(*params["Dense_0"]["kernel"].shape)
        kernels = _kernels(params, "ConvTranspose")
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(*k["kernel"].shape[2:], 4, 2, 1) for k in kernels
        )
        self.channels = kernels[0]["kernel"].shape[2]
        self.side = int((self.dense.out_features // self.channels) ** 0.5)
        self.memory_format = memory_format
        weights = (self.side, self.side, self.channels)
        # From rows of channels-last numbers to rows of channels-first ones.
        order = np.arange(self.dense.out_features).reshape(weights).transpose(2, 0, 1)
        _fill(self.dense.weight, params["Dense_0"]["kernel"].T[order.reshape(-1)])
        _fill(self.dense.bias, params["Dense_0"]["bias"][order.reshape(-1)])
        for module, values in zip(self.convolutions, kernels, strict=True):
            turned = values["kernel"][::-1, ::-1].transpose(2, 3, 0, 1)
            _fill(module.weight, turned)
            _fill(module.bias, values["bias"])
        self.to(memory_format=memory_format)

    def forward(self, latents):
        x = self.dense(latents).view(-1, self.channels, self.side, self.side)
        x = x.contiguous(memory_format=self.memory_format)
        for convolution in self.convolutions:
            x = convolution(F.relu(x))
        return 0.5 * torch.tanh(x) + 0.5


class Discriminator(nn.Module):
    """Stride-2 convolutions, LeakyReLU 0.2, one dense unit."""

    def __init__(self, params, memory_format):
        super().__init__()
        kernels = _kernels(params, "Conv")
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*k["kernel"].shape[2:], 4, 2, 1) for k in kernels
        )
        for module, values in zip(self.convolutions, kernels, strict=True):
            _fill(module.weight, values["kernel"].transpose(3, 2, 0, 1))
            _fill(module.bias, values["bias"])
        weights = params["Dense_0"]["kernel"]
        self.dense = nn.Linear(len(weights), 1)
        channels = kernels[-1]["kernel"].shape[3]
        side = int((len(weights) // channels) ** 0.5)
        order = np.arange(len(weights)).reshape(side, side, channels)
        _fill(self.dense.weight, weights[order.transpose(2, 0, 1).reshape(-1)].T)
        _fill(self.dense.bias, params["Dense_0"]["bias"])
        self.to(memory_format=memory_format)

    def forward(self, images):
        x = images
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.2)
        return self.dense(x.flatten(1))[:, 0]


class Training:
    """k steps of the discriminator, one of the generator, and its moving average."""

    def __init__(self, loss, params, adam, average_decay, memory_format):
        self.loss = loss
        self.generator = Generator(params[0], memory_format)
        self.discriminator = Discriminator(params[1], memory_format)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.average_decay = average_decay
        # `fused` is the fastest of PyTorch's forms of Adam here.
        self.optimizers = [
            torch.optim.Adam(network.parameters(), fused=True, **adam)
            for network in (self.generator, self.discriminator)
        ]
        self.steps = 0

    def step(self, minibatches: torch.Tensor, draws: Draws) -> Metrics:
        """Takes k minibatches [k, batch, channels, height, width]."""
        losses = [
            self._discriminator_step(*minibatch)
            for minibatch in zip(minibatches, draws.latents, draws.shares, strict=True)
        ]
        loss = self._generator_step(draws.last_latents)
        self._remember()
        self.steps += 1
        return Metrics(sum(losses) / len(losses), loss)

    def _discriminator_step(self, real, latents, shares):
        with torch.no_grad():
            fake = self.generator(latents)
        on_real, on_fake = self.discriminator(real), self.discriminator(fake)
        if self.loss == "wgan_gp":
            loss = (
                on_fake.mean()
                - on_real.mean()
                + 10 * self._penalty(shares * real + (1 - shares) * fake)
            )
        else:
            loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        return self._descend(1, loss)

    def _penalty(self, mixed):
        mixed.requires_grad_()
        outputs = self.discriminator(mixed).sum()
        (slopes,) = torch.autograd.grad(outputs, mixed, create_graph=True)
        norms = (slopes.square().sum((1, 2, 3)) + 1e-12).sqrt()
        return (norms - 1).square().mean()

    def _generator_step(self, latents):
        # No gradient at weights that are not trained here.
        self.discriminator.requires_grad_(False)
        outputs = self.discriminator(self.generator(latents))
        gan = self.loss == "wgan_gp"
        loss = -outputs.mean() if gan else F.softplus(-outputs).mean()
        value = self._descend(0, loss)
        self.discriminator.requires_grad_(True)
        return value

    def _descend(self, which, loss):
        self.optimizers[which].zero_grad()
        loss.backward()
        self.optimizers[which].step()
        return loss.detach()

    @torch.no_grad()
    def _remember(self):
        decay = min(self.average_decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(
            list(self.average.parameters()),
            list(self.generator.parameters()),
            1 - decay,
        )


def _kernels(params, kind):
    names = sorted(name for name in params if name.startswith(kind + "_"))
    return [params[name] for name in names]


def _fill(parameter, values):
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values)))
