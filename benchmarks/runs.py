"""What a benchmark needs of a finished run: its networks, weights and images."""

import contextlib
import functools
import json
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import flax
import jax
import numpy as np

from robust_manifold import data, models
from robust_manifold.core.types import Params
from robust_manifold.runtime import load_params, read_params_metadata

PEERS = (
    "foolbox",
    "torchattacks",
    "adversarial-robustness-toolbox",
    "adv-lib",
    "pyautoattack",
)


class Network(NamedTuple):
    """A model with its trained parameters.

    Attributes:
      text: the model as a config writes it.
      model: the functions.
      params: on the device.
    """

    text: str
    model: models.Model
    params: Params

    @property
    def spec(self):
        return models.registry.build(self.text)

    def arrays(self):
        """The trained numbers by layer, as NumPy arrays, for other libraries."""
        return jax.tree.map(np.asarray, self.params["params"])


class Run:
    """A run folder, read only; what is not asked for is not loaded."""

    def __init__(self, path):
        self.path = Path(path)

    def __str__(self):
        return f"{self.path.name}: {self.generator.text}"

    @functools.cached_property
    def generator(self) -> Network:
        return self._network("generator")

    @functools.cached_property
    def classifier(self) -> Network:
        return self._network("classifier")

    @functools.cached_property
    def encoder(self) -> Network | None:
        if not any(self._folder("encoder").glob("*/manifest.json")):
            return None
        return self._network("encoder")

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        """The images, as the run's config names them."""
        block = json.loads((self.path / "config.json").read_text())["data"]
        return data.load(
            block["source"],
            data_dir=block["data_dir"] or None,
            validation_examples=block["validation_examples"],
            test_examples=block["test_examples"],
            label=block["label"] or None,
            class_names=tuple(block["class_names"]),
            crop=block["crop"],
            image_size=block["image_size"] or None,
            cache_dir=block["cache_dir"],
            seed=block["split_seed"],
        )

    @property
    def test(self) -> data.Split:
        return self.dataset.test

    def images(self, count) -> np.ndarray:
        """The first test images, [count, h, w, c] in [0, 1]; all if there are less."""
        return data.to_float(self.test.images[:count])

    def stage_seconds(self, stage) -> float | None:
        status = json.loads((self.path / "status.json").read_text())
        return status.get("stage_seconds", {}).get(stage)

    def _folder(self, role):
        return self.path / "checkpoints" / role / "params"

    def _network(self, role):
        stored = read_params_metadata(self._folder(role)).metadata
        text, takes, gives = (
            stored[name] for name in ("model", "input_shape", "output_shape")
        )
        spec = models.registry.build(text)
        if role == "generator":
            image_shape, classes = gives, takes[0] - spec.latent_size
        else:
            image_shape, classes = takes, gives[0]
        model = models.build(spec, image_shape=image_shape, classes=classes)
        return Network(text, model, load_params(self._folder(role)))


def generated(generator, count) -> np.ndarray:
    """Images of a generator: for what does not depend on the pixels."""
    latents = models.sample_latents(generator.model, jax.random.key(1), count)
    return np.asarray(jax.jit(generator.model.apply)(generator.params, latents))


def describe_versions(torch=None) -> str:
    """The day, the versions of what is measured, and the machine.

    Args:
      torch: PyTorch's version, or words in its place; None: it is not here.
    """
    named = {"python": sys.version.split()[0], "jax": jax.__version__}
    named |= {"flax": flax.__version__, "torch": torch or "none"}
    for name in PEERS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            named[name] = metadata.version(name)
    versions = ", ".join(f"{name} {version}" for name, version in named.items())
    return f"{time.strftime('%Y-%m-%d')}; {versions}; {describe_machine()}"


def describe_machine() -> str:
    """The processors and how busy they are."""
    device = jax.devices()[0]
    return (
        f"{len(os.sched_getaffinity(0))} x {processor()}, load "
        f"{os.getloadavg()[0]:.1f}; {jax.device_count()} x {device.device_kind} "
        f"({device.platform})"
    )


def processor() -> str:
    """Returns the processor's name, as the system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or "CPU"
