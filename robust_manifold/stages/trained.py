"""Trained parameters: stored at the end of a training, read by all later stages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from robust_manifold import models
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params
from robust_manifold.runtime import (
    console,
    load_params,
    read_params_metadata,
    save_params,
)
from robust_manifold.stages.context import Context


def folder(name: str) -> str:
    """Returns the folder of parameters, relative to a run folder."""
    return f"checkpoints/{name}/params"


def output(name: str) -> str:
    """Returns the file, relative to a run folder, that shows them to be whole."""
    return f"{folder(name)}/0/manifest.json"


def save(
    context: Context, name: str, params: Params, metadata: Mapping[str, Any]
) -> None:
    """Stores the parameters of the classifier or the generator."""
    save_params(context.folder.path / folder(name), params, metadata)


def load(context: Context, name: str) -> Params:
    """Returns the parameters of "classifier" or "generator".

    Raises:
      UsageError: if the stage that makes them has not finished.
    """
    if not context.folder.stage_done(f"fit_{name}"):
        raise UsageError(
            f"{context.folder.path} holds no finished {name}; run the stage "
            f"fit_{name} first, or leave --stages out."
        )
    return load_params(context.folder.path / folder(name))


def model_text(context: Context, role: str) -> str:
    """Returns the classifier, generator or discriminator as a config writes it."""
    blocks = context.experiment
    spec = {
        "classifier": blocks.classifier.model,
        "generator": blocks.generator.model,
        "discriminator": blocks.generator.discriminator,
    }[role]
    return models.registry.to_string(spec)


def metadata(context: Context, name: str, model: models.Model) -> dict[str, Any]:
    """Returns what is stored beside the parameters of a model."""
    return {
        "model": model_text(context, name),
        "input_shape": list(model.input_shape),
        "output_shape": list(model.output_shape),
        "data": context.experiment.data.source,
        "trained_on": context.digests["train"]["sha256"],
    }


def check_other_run(context: Context, name: str, model: models.Model) -> None:
    """Refuses `from_run` if the parameters there do not fit the config's model."""
    other = getattr(context.experiment, name).from_run
    if not other:
        return
    where = Path(other) / folder(name)
    if not any(where.glob("*/manifest.json")):
        raise UsageError(
            f"config.{name}.from_run is {other!r}, which holds no finished {name}; "
            "allowed: the workdir of a run that has one."
        )
    stored = read_params_metadata(where)
    for field in ("input_shape", "output_shape"):
        found, expected = tuple(stored.metadata[field]), getattr(model, field)
        if found != expected:
            what = {
                ("generator", "input_shape"): "latent_size",
                ("classifier", "output_shape"): "number of classes",
            }.get((name, field), "image shape")
            raise UsageError(
                f"config.{name}.from_run: the {name} in {other!r} has the {what} "
                f"{_short(found)}, config.{name}.model has {_short(expected)}; they "
                "have to be equal."
            )
    if stored.metadata.get("trained_on") != context.digests["train"]["sha256"]:
        raise UsageError(
            f"config.{name}.from_run: the {name} in {other!r} was trained on other "
            f"images of {stored.metadata['data']!r}, perhaps on these test images; "
            "give that run's config.data."
        )
    wanted = jax.eval_shape(model.init, jax.random.key(0))
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(wanted)
    }
    if leaves != stored.shapes:
        differing = sorted(
            leaf
            for leaf in leaves.keys() | stored.shapes.keys()
            if leaves.get(leaf) != stored.shapes.get(leaf)
        )
        raise UsageError(
            f"config.{name}.from_run: {other!r} holds {stored.metadata['model']!r}, "
            f"which does not fit config.{name}.model at {differing[0]!r}"
            + (f" and {len(differing) - 1} more places." if differing[1:] else ".")
        )


def take_from_other_run(context: Context, name: str, model: models.Model) -> None:
    """Copies the parameters that `from_run` names into this run's folder."""
    other = getattr(context.experiment, name).from_run
    source = Path(other) / folder(name)
    console.info(f"fit_{name}  taken over from {other}")
    save(
        context,
        name,
        load_params(source),
        metadata(context, name, model) | {"from_run": other},
    )


def _short(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else "x".join(map(str, shape))
