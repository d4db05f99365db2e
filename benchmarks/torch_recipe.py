"""Defense-GAN's inversion recipe in PyTorch, with a trained generator's weights."""

import dataclasses
import math
import time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import torch_gan
from torch import nn

from robust_manifold.models import generators

MEMORY_FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
TRIAL_STEPS = 5


class Decoder(nn.Module):
    """The VAE's decoder: two hidden layers, LeakyReLU 0.1; sigmoid at the end."""

    def __init__(self, params):
        super().__init__()
        names = ("Dense_0", "Dense_1", "Dense_2")
        self.layers = nn.ModuleList()
        for values in (params[name] for name in names):
            layer = nn.Linear(*values["kernel"].shape)
            _fill(layer.weight, values["kernel"].T)
            _fill(layer.bias, values["bias"])
            self.layers.append(layer)

    def forward(self, latents):
        x = latents
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), 0.1)
        return torch.sigmoid(self.layers[-1](x))


class Peer(NamedTuple):
    """A generator in PyTorch, in one of its memory formats.

    Attributes:
      network: from latents [batch, latent] to images as `targets` gives them.
      image_shape: (height, width, channels).
      memory_format: of the images; None for rows of pixels.
      device: where it computes.
    """

    network: nn.Module
    image_shape: tuple[int, int, int]
    memory_format: torch.memory_format | None
    device: torch.device

    def targets(self, images: np.ndarray) -> torch.Tensor:
        """Returns images [n, h, w, c] as the network gives them."""
        if self.memory_format is None:
            return torch.from_numpy(images.reshape(len(images), -1)).to(self.device)
        turned = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        return turned.contiguous(memory_format=self.memory_format).to(self.device)

    def images(self, outputs: torch.Tensor) -> np.ndarray:
        """Returns the network's results as [n, h, w, c]."""
        outputs = outputs.detach().cpu()
        if self.memory_format is None:
            return outputs.numpy().reshape(-1, *self.image_shape)
        return outputs.permute(0, 2, 3, 1).numpy()


class Found(NamedTuple):
    """The best latent of every restart: [n, restarts, latent], and its error."""

    latents: np.ndarray
    errors: np.ndarray


def peers(generator, device="cpu") -> dict[str, Peer]:
    """Returns the generator in each memory format; none if it has no counterpart."""
    spec, params = generator.spec, generator.arrays()
    shape, device = generator.model.output_shape, torch.device(device)
    if isinstance(spec, generators.VAEDecoder) and not spec.conditional:
        network = Decoder(params).requires_grad_(False).to(device)
        return {"rows": Peer(network, shape, None, device)}
    plain = isinstance(spec, generators.DCGANGenerator) and spec.kernel_size == 4
    if not plain or spec.batch_norm or spec.conditional:
        return {}
    found = {}
    for name, memory_format in MEMORY_FORMATS.items():
        network = torch_gan.Generator(params, memory_format).requires_grad_(False)
        found[name] = Peer(network.to(device), shape, memory_format, device)
    return found


def invert(peer, images, starts, recipe, batch_size) -> Found:
    """Descends from every start of every image, `batch_size` images at a time.

    Args:
      peer: the generator.
      images: [n, h, w, c].
      starts: [n, restarts, latent].
      recipe: a `GradientDescent`.
      batch_size: images whose restarts are one batch of the network.
    """
    parts = [
        _descend(peer, images[a : a + batch_size], starts[a : a + batch_size], recipe)
        for a in range(0, len(images), batch_size)
    ]
    return Found(*map(np.concatenate, zip(*parts, strict=True)))


class Form(NamedTuple):
    """A memory format, and how many images are computed at a time."""

    name: str
    peer: Peer
    batch_size: int


def fastest(peers, images, starts, recipe) -> Form:
    """Returns the form that takes a few steps in the least time."""
    few = dataclasses.replace(recipe, steps=TRIAL_STEPS)
    sizes = sorted({min(size, len(images)) for size in (10, 50, len(images))})
    forms = [Form(*item, size) for item in peers.items() for size in sizes]
    seconds = {}
    for _ in range(3):
        for form in forms:
            start = time.perf_counter()
            invert(form.peer, images, starts, few, form.batch_size)
            taken = time.perf_counter() - start
            seconds[form] = min(taken, seconds.get(form, math.inf))
    return min(forms, key=seconds.__getitem__)


def _descend(peer, images, starts, recipe):
    n, restarts, size = starts.shape
    latents = torch.from_numpy(starts.reshape(-1, size).copy()).to(peer.device)
    latents.requires_grad_()
    targets = peer.targets(np.repeat(images, restarts, axis=0))
    optimizer = torch.optim.SGD([latents], recipe.learning_rate, recipe.momentum)
    drop_at = math.ceil(recipe.decay_at * recipe.steps)
    best = latents.detach().clone()
    least = torch.full((len(latents),), torch.inf, device=peer.device)
    for step in range(recipe.steps):
        if step == drop_at:
            optimizer.param_groups[0]["lr"] *= recipe.decay
        errors = _errors(peer, latents, targets)
        optimizer.zero_grad()
        errors.sum().backward()
        best, least = _better(best, least, latents, errors)
        optimizer.step()
    with torch.no_grad():
        errors = _errors(peer, latents, targets)
    best, least = _better(best, least, latents, errors)
    return Found(
        best.cpu().numpy().reshape(starts.shape),
        least.cpu().numpy().reshape(n, restarts),
    )


def _errors(peer, latents, targets):
    return (peer.network(latents) - targets).square().flatten(1).mean(1)


@torch.no_grad()
def _better(best, least, latents, errors):
    better = errors < least
    best = torch.where(better[:, None], latents, best)
    return best, torch.where(better, errors, least)


def _fill(parameter, values):
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values)))
