"""Networks from elsewhere: files of weights, other runs; held to a config's model."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from robust_manifold import models
from robust_manifold.config import CLASSIFIER
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params
from robust_manifold.runtime import console, read_params_metadata
from robust_manifold.runtime.weight_files import WeightFile
from robust_manifold.stages import roles


class Wanted(NamedTuple):
    """A network as a config asks for it."""

    place: str
    """The block of the config, such as "classifiers.robust"."""
    text: str
    """The model as a config writes it."""
    model: models.Model


def folder(name: str) -> str:
    """Returns the folder of parameters, relative to a run folder."""
    return f"checkpoints/{name}/params"


def digest(model: str, params: Params) -> str:
    """Returns a checksum of a network: of its model's text and its parameters."""
    found = hashlib.sha256(model.encode())
    table = models.to_table(params)
    for name in sorted(table):
        array = np.ascontiguousarray(table[name])
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.data)
    return found.hexdigest()


def fitted(wanted: Wanted, file: str, stored: WeightFile) -> Params:
    """Returns the parameters that a file holds.

    Raises:
      UsageError: if they do not fit the model, or have PyTorch's layout.
    """
    if stored.metadata.get("layout") == "torch":
        raise UsageError(
            f"{file} has PyTorch's names and layouts; convert it with: python -m "
            "robust_manifold.weights import."
        )
    params = models.from_table(wanted.model, stored.table)
    text = stored.metadata.get("model")
    if text not in (None, wanted.text):
        console.warning(
            f"config.{wanted.place}.weights: {file} was written for {text}, and is "
            f"read as {wanted.text}; names and shapes fit."
        )
    return params


def check_run(
    wanted: Wanted, role: str, other: str, where: Path, trained_on: str
) -> None:
    """Refuses another run's network that does not fit or saw other images.

    Args:
      wanted: what it has to fit.
      role: of the network that is looked for.
      other: the run's workdir.
      where: the folder of its parameters.
      trained_on: the checksum of this run's training images.

    Raises:
      UsageError: if there is none, it has other shapes, or was trained otherwise.
    """
    place = f"config.{wanted.place}"
    if not any(where.glob("*/manifest.json")):
        raise UsageError(
            f"{place}.from_run is {other!r}, which holds no finished {role}; "
            "allowed: the workdir of a run that has one."
        )
    kind = role if roles.classifier_of(role) is None else CLASSIFIER
    stored = read_params_metadata(where)
    for field in ("input_shape", "output_shape"):
        found, expected = tuple(stored.metadata[field]), getattr(wanted.model, field)
        if found != expected:
            of_images = field == "input_shape" or kind == "generator"
            other_shape = "image shape" if of_images else "shape of outputs"
            what = _SHAPES.get((kind, field), other_shape)
            raise UsageError(
                f"{place}.from_run: the {kind} in {other!r} has the {what} "
                f"{_short(found)}, {place}.model has {_short(expected)}; they "
                "have to be equal."
            )
    if stored.metadata.get("trained_on") is None:
        console.warning(
            f"{place}.from_run: what the {kind} in {other!r} was trained on is "
            "not known; it came from a file of weights."
        )
    elif stored.metadata["trained_on"] != trained_on:
        raise UsageError(
            f"{place}.from_run: the {kind} in {other!r} was trained on other "
            f"images of {stored.metadata['data']!r}, perhaps on these test images; "
            "give that run's config.data."
        )
    leaves = _leaves(wanted.model)
    if leaves != stored.shapes:
        differing = sorted(
            leaf
            for leaf in leaves.keys() | stored.shapes.keys()
            if leaves.get(leaf) != stored.shapes.get(leaf)
        )
        raise UsageError(
            f"{place}.from_run: {other!r} holds {stored.metadata['model']!r}, "
            f"which does not fit {place}.model at {differing[0]!r}"
            + (f" and {len(differing) - 1} more places." if differing[1:] else ".")
        )


_SHAPES = {
    ("generator", "input_shape"): "latent_size",
    ("classifier", "output_shape"): "number of classes",
    ("encoder", "output_shape"): "number of outputs",
}
"""What a sentence calls shapes that are none of images."""


def kept(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is known of a network's training, from run to run."""
    # What a file of weights left unknown stays so.
    return {k: stored[k] for k in ("training", "step", "trained_on") if k in stored}


def _leaves(model: models.Model) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a model's parameters by their names."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }


def _short(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else "x".join(map(str, shape))
