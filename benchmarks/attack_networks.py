"""One classifier for all libraries: the package's, and the same weights in PyTorch."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import known_networks
import numpy as np
import runs
import torch
import torch_residual
from layers import MEMORY_FORMATS
from torch import nn

from robust_manifold import models
from robust_manifold.core import norms
from robust_manifold.models.residual import ResidualCNN

NORMS = ("linf", "l2", "l0")


class Case(NamedTuple):
    """What is attacked.

    Attributes:
      name: of the run.
      classifier: the package's network.
      torch: the same one for images [n, channels, height, width].
      images: [n, height, width, channels] in [0, 1].
      labels: [n].
    """

    name: str
    classifier: runs.Network
    torch: nn.Module
    images: np.ndarray
    labels: np.ndarray

    def first(self, count) -> "Case":
        return self._replace(images=self.images[:count], labels=self.labels[:count])

    def part(self, start, stop) -> "Case":
        rows = slice(start, stop)
        return self._replace(images=self.images[rows], labels=self.labels[rows])

    def torch_batch(self):
        """Images and labels for PyTorch."""
        return torch_batch(self.images, self.labels)

    def correct(self, images=None) -> np.ndarray:
        """Which images the package's network classifies as labelled."""
        images = self.images if images is None else images
        return logits_of(self.classifier, images).argmax(axis=-1) == self.labels

    def accuracy(self, images=None) -> float:
        return float(self.correct(images).mean())

    def distances(self, images, norm) -> np.ndarray:
        """Norm of each perturbation."""
        deltas = jnp.asarray(images) - jnp.asarray(self.images)
        if norm == "l0":
            # A pixel counts once; peers' tanh moves untouched ones by rounding.
            return np.asarray((jnp.abs(deltas).max(axis=-1) > 1e-5).sum(axis=(1, 2)))
        return np.asarray(jax.vmap(lambda delta: norms.norm(delta, norm))(deltas))

    def check(self, name, images, norm=None, epsilon=None):
        """Ends the benchmark unless images are in the box and in any ball given."""
        assert images.shape == self.images.shape, (name, images.shape)
        assert np.isfinite(images).all(), name
        assert images.min() >= -1e-6 and images.max() <= 1 + 1e-6, name
        if epsilon is not None:
            farthest = self.distances(images, norm).max()
            assert farthest <= epsilon * (1 + 1e-4), (name, farthest)


def load(path, count) -> Case:
    """Returns the classifier of a run, or a known one, with its first test images."""
    if path in known_networks.CLASSIFIERS:
        return known(path, count)
    run = runs.Run(path)
    labels = np.asarray(run.test.labels[:count])
    return _case(run.path.name, run.classifier, run.images(count), labels)


def known(name, count) -> Case:
    """Returns a classifier of `known_networks` with its first test images."""
    network, test = known_networks.classifier(name)
    return _case(name, network, test.images[:count], np.asarray(test.labels[:count]))


def _case(name, classifier, images, labels) -> Case:
    network = torch_network(classifier, images.shape[1:])
    case = Case(name, classifier, network, images, labels)
    with torch.no_grad():
        theirs = network(case.torch_batch()[0]).numpy()
    ours = logits_of(classifier, images)
    # Before anything is compared: the networks are one.
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    return case._replace(torch=fastest_form(case))


def torch_network(classifier, image_shape) -> nn.Module:
    """Returns the PyTorch network with a classifier's weights, for inference."""
    classes = classifier.model.output_shape[0]
    if isinstance(classifier.spec, ResidualCNN):
        network = torch_residual.Residual(jax.device_get(classifier.params))
    else:
        shape = {"image_shape": image_shape, "classes": classes}
        layers = models.torch_layers(classifier.spec, **shape)
        network = nn.Sequential(*(eval(f"nn.{text}", {"nn": nn}) for text in layers))
        weights = models.to_torch(classifier.spec, classifier.params, **shape)
        tensors = {k: torch.from_numpy(np.array(v)) for k, v in weights.items()}
        network.load_state_dict(tensors)
    # Attacks differentiate images; gradients of weights would be work for nothing.
    return network.eval().requires_grad_(False)


def fastest_form(case) -> nn.Module:
    """Returns PyTorch's network in the memory format whose gradients are faster."""
    images, labels = case.first(64).torch_batch()
    images.requires_grad_()
    seconds = {}
    for _ in range(4):
        for memory_format in MEMORY_FORMATS.values():
            network = case.torch.to(memory_format=memory_format)
            start = time.perf_counter()
            loss = nn.functional.cross_entropy(network(images), labels)
            torch.autograd.grad(loss, images)
            taken = time.perf_counter() - start
            seconds[memory_format] = min(taken, seconds.get(memory_format, taken))
    return case.torch.to(memory_format=min(seconds, key=seconds.__getitem__))


def torch_batch(images, labels) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images and labels as PyTorch has them."""
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def logits_of(classifier, images) -> np.ndarray:
    return np.asarray(jax.jit(classifier.model.apply)(classifier.params, images))


def pixels(images: torch.Tensor) -> np.ndarray:
    """Returns PyTorch's images as the package has them."""
    return images.detach().numpy().transpose(0, 2, 3, 1)
