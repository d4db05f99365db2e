"""Trained parameters: stored at the end of a training, read by all later stages."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from robust_manifold import defenses, models, training
from robust_manifold.config import CLASSIFIER, ORIGINS, Column
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import SpannerParams
from robust_manifold.core.types import Params
from robust_manifold.runtime import (
    console,
    load_params,
    published,
    read_params_metadata,
    save_params,
    weight_files,
)
from robust_manifold.stages import roles
from robust_manifold.stages.context import Context


def folder(name: str) -> str:
    """Returns the folder of parameters, relative to a run folder."""
    return f"checkpoints/{name}/params"


def output(context: Context, name: str) -> str:
    """Returns the file, relative to the run folder, that shows them to be whole."""
    # A run that was killed before its stage had finished has stored them anew, under
    # another number.
    newest = max(
        context.folder.path.glob(f"{folder(name)}/*/manifest.json"),
        key=lambda path: int(path.parent.name),
    )
    return newest.relative_to(context.folder.path).as_posix()


def save(
    context: Context, name: str, params: Params, metadata: Mapping[str, Any]
) -> None:
    """Stores the parameters of a network by the name of its role."""
    context.folder.check_in_place()
    save_params(context.folder.path / folder(name), params, metadata)


def load(context: Context, name: str) -> Params:
    """Returns the parameters of one of `context.networks`.

    Raises:
      UsageError: if the stage that makes them has not finished.
    """
    _check_finished(context, name)
    return load_params(context.folder.path / folder(name))


def load_spanner(context: Context) -> SpannerParams:
    """Returns the parameters of `context.spanner`.

    Raises:
      UsageError: if a stage that makes them has not finished.
    """
    encodes = context.spanner.encode is not None
    return SpannerParams(
        load(context, "generator"), load(context, "encoder") if encodes else None
    )


def load_classifier(context: Context, name: str) -> Params:
    """Returns the parameters of the classifier of a name.

    Raises:
      UsageError: if the stage that makes it has not finished.
    """
    return load(context, roles.of_classifier(name))


def load_column(context: Context, column: Column) -> defenses.DefenseParams:
    """Returns the parameters of all networks of a column.

    Raises:
      UsageError: if a stage that makes them has not finished.
    """
    # Without a defence that uses it there need not be a generator.
    networks = {}
    if "generator" in context.defence_networks:
        networks["generator"] = load_spanner(context)
    return defenses.DefenseParams(networks, load_classifier(context, column.classifier))


def check_available(context: Context, stages: Sequence[str]) -> None:
    """Refuses stages that use what is not there and none of them makes.

    Raises:
      UsageError: for a network, attacked images, an evaluation or what a report is
        made of, which no stage that runs will write.
    """
    for name in context.networks_of(stages):
        if roles.stage(name) not in stages:
            _check_finished(context, name)
    attacks = context.experiment.evaluation.attacks
    if attacks and "evaluate" in stages and "attack" not in stages:
        if not context.folder.stage_done("attack"):
            raise UsageError(
                f"{context.folder.path} holds no attacked images to evaluate; run the "
                "stage attack first, by config.stages and, where it is given, --stages."
            )
    if "audit" in stages and "evaluate" not in stages:
        if not context.folder.stage_done("evaluate"):
            raise UsageError(
                f"{context.folder.path} holds no evaluation to audit; run the stage "
                "evaluate first, by config.stages and, where it is given, --stages."
            )

    if "report" in stages:
        for stage in _REPORTED:
            own = context.experiment.stages
            if stage in own and stage not in stages:
                _check_reported(context, stage)


_REPORTED = ("convergence", "measure", "diagnose", "evaluate")
"""Stages that a report shows the figures of, where config.stages has them."""


def _check_reported(context: Context, stage: str) -> None:
    if not context.folder.stage_done(stage):
        raise UsageError(
            f"{context.folder.path} holds no results of the stage {stage} to report; "
            "run it first, by --stages, or leave it out of config.stages."
        )


def _check_finished(context: Context, name: str) -> None:
    stage = roles.stage(name)
    if not context.folder.stage_done(stage):
        raise UsageError(
            f"{context.folder.path} holds no finished {name}; run the stage {stage} "
            "first, by config.stages and, where it is given, --stages."
        )


class Origin(NamedTuple):
    """How stored parameters came about."""

    training: str
    """As a config writes it, or where they were taken from."""
    step: int
    """Of the training that they are of; 0: not known."""


def origin(context: Context, name: str) -> Origin:
    """Returns what is stored beside the parameters of a network."""
    stored = read_params_metadata(context.folder.path / folder(name)).metadata
    return Origin(stored["training"], stored.get("step", 0))


def training_text(context: Context, name: str) -> str:
    """Returns how the network of a role is trained, as a config writes it."""
    blocks = context.experiment
    if roles.classifier_of(name) is not None:
        block = context.block_of(name)
        return training.classifier_trainings.to_string(block.training)
    if name == "encoder":
        return training.encoder_trainings.to_string(blocks.encoder.training)
    return training.generator_trainings.to_string(blocks.generator.training)


def model_text(context: Context, role: str) -> str:
    """Returns the network of a role as a config writes it.

    Args:
      context: the run.
      role: one of `context.networks`, or that of the generator's partner.
    """
    blocks = context.experiment
    if roles.classifier_of(role) is not None:
        spec = context.block_of(role).model
    elif role == "generator":
        spec = blocks.generator.model
    elif role == "encoder":
        spec = context.encoder_spec
    else:
        spec = blocks.generator.training.partner
    return models.registry.to_string(spec)


def column_classifier(context: Context, column: Column) -> str:
    """Returns what results.csv calls the classifier of a column.

    It is the text of its model or, for one of `classifiers`, its name.
    """
    if column.classifier == CLASSIFIER:
        return model_text(context, CLASSIFIER)
    return column.classifier


GENERATOR = "generator_sha256"
"""Beside the parameters of an encoder: the digest of the generator it was made for."""


def digest(model: str, params: Params) -> str:
    """Returns a checksum of a network: of its model's text and its parameters."""
    found = hashlib.sha256(model.encode())
    table = models.to_table(params)
    for name in sorted(table):
        array = np.ascontiguousarray(table[name])
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.data)
    return found.hexdigest()


def generator_digest(context: Context) -> str:
    """Returns the checksum of this run's generator.

    Raises:
      UsageError: if the stage that makes it has not finished.
    """
    return digest(model_text(context, "generator"), load(context, "generator"))


def _check_generator(context: Context, wanted: str) -> None:
    """Refuses an encoder from elsewhere that was made for another generator."""
    block = context.experiment.encoder
    if block.from_run:
        place = f"from_run: the encoder in {block.from_run!r}"
        stored = read_params_metadata(Path(block.from_run) / folder("encoder")).metadata
        found = stored.get(GENERATOR)
    else:
        file = block.weights or block.published
        place = f"{_origin_key(block)}: the encoder in {file!r}"
        # A file need not say what it was made for.
        found = _weight_file(block).metadata.get(GENERATOR, wanted)
    if found != wanted:
        raise UsageError(
            f"config.encoder.{place} was made for another generator; allowed: one "
            "that was made for this run's."
        )


def _known_generator(context: Context) -> str | None:
    """Returns the checksum of this run's generator, unless it is yet to be trained."""
    if context.folder.stage_done("fit_generator"):
        return generator_digest(context)
    block = context.experiment.generator
    if block.weights or block.published:
        params = _read_weights(context, "generator", context.generator)
    elif block.from_run:
        params = load_params(Path(block.from_run) / folder("generator"))
    else:
        return None
    return digest(model_text(context, "generator"), params)


def metadata(context: Context, name: str, model: models.Model) -> dict[str, Any]:
    """Returns what is stored beside the parameters of a model."""
    of = {} if name != "encoder" else {GENERATOR: generator_digest(context)}
    return of | {
        "model": model_text(context, name),
        "training": training_text(context, name),
        "input_shape": list(model.input_shape),
        "output_shape": list(model.output_shape),
        "data": context.experiment.data.source,
        "trained_on": context.digests["train"]["sha256"],
    }


def check_elsewhere(context: Context, name: str, model: models.Model) -> None:
    """Refuses what a network is taken from if what is there does not fit the model."""
    block = context.block_of(name)
    if block.weights or block.published:
        _read_weights(context, name, model)
    if block.from_run:
        _check_run(context, name, model, block.from_run)
    if name == "encoder" and block.taken_from and (known := _known_generator(context)):
        _check_generator(context, known)


def _check_run(context: Context, name: str, model: models.Model, other: str) -> None:
    """Refuses a run whose network does not fit the model or was trained otherwise."""
    where, place = _elsewhere(name, other), roles.place(name)
    if not any(where.glob("*/manifest.json")):
        raise UsageError(
            f"config.{place}.from_run is {other!r}, which holds no finished {name}; "
            "allowed: the workdir of a run that has one."
        )
    stored = read_params_metadata(where)
    kind = name if roles.classifier_of(name) is None else CLASSIFIER
    for field in ("input_shape", "output_shape"):
        found, expected = tuple(stored.metadata[field]), getattr(model, field)
        if found != expected:
            what = {
                ("generator", "input_shape"): "latent_size",
                ("classifier", "output_shape"): "number of classes",
                ("encoder", "output_shape"): "number of outputs",
            }.get((kind, field), "image shape")
            raise UsageError(
                f"config.{place}.from_run: the {kind} in {other!r} has the {what} "
                f"{_short(found)}, config.{place}.model has {_short(expected)}; they "
                "have to be equal."
            )
    if stored.metadata.get("trained_on") is None:
        console.warning(
            f"config.{place}.from_run: what the {kind} in {other!r} was trained on is "
            "not known; it came from a file of weights."
        )
    elif stored.metadata["trained_on"] != context.digests["train"]["sha256"]:
        raise UsageError(
            f"config.{place}.from_run: the {kind} in {other!r} was trained on other "
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
            f"config.{place}.from_run: {other!r} holds {stored.metadata['model']!r}, "
            f"which does not fit config.{place}.model at {differing[0]!r}"
            + (f" and {len(differing) - 1} more places." if differing[1:] else ".")
        )


def _elsewhere(name: str, other: str) -> Path:
    """Returns the folder of the parameters that another run has for a network.

    A classifier of a name is the other run's of that name or, where it has none, that
    run's own.
    """
    found = Path(other) / folder(name)
    named = roles.classifier_of(name) is not None
    if named and not any(found.glob("*/manifest.json")):
        return Path(other) / folder(CLASSIFIER)
    return found


def take_from_elsewhere(context: Context, name: str, model: models.Model) -> bool:
    """Stores the parameters that one of the block's `ORIGINS` names, if one does.

    Raises:
      UsageError: if they cannot be read or do not fit the config's model.
    """
    block = context.block_of(name)
    if name == "encoder" and block.taken_from:
        _check_generator(context, generator_digest(context))
    if block.from_run:
        where = _elsewhere(name, block.from_run)
        params, stored = load_params(where), read_params_metadata(where).metadata
        # What a file of weights left unknown stays so from run to run.
        kept = ("training", "step", "trained_on")
        known = {key: stored[key] for key in kept if key in stored}
        differing = known | {"from_run": block.from_run}
    elif block.weights:
        params = _read_weights(context, name, model)
        # Nobody knows how it was trained, nor on what.
        taken = {"weights": block.weights, "trained_on": None}
        differing = taken | {"training": f"weights of {Path(block.weights).name}"}
    elif block.published:
        params = _read_weights(context, name, model)
        stored = _weight_file(block).metadata
        known = {key: stored[key] for key in ("training", "step") if key in stored}
        differing = known | {"published": block.published}
    else:
        return False
    console.info(f"{roles.stage(name)}  {name} taken over from {block.taken_from}")
    save(context, name, params, metadata(context, name, model) | differing)
    return True


def _weight_file(block: Any) -> weight_files.WeightFile:
    """Returns what the file holds that `weights` or `published` names."""
    if block.published:
        return published.read(block.published)
    return weight_files.read(block.weights)


def _origin_key(block: Any) -> str:
    """Returns which of `ORIGINS` a block names."""
    return next(key for key in ORIGINS if getattr(block, key))


def _read_weights(context: Context, name: str, model: models.Model) -> Params:
    block = context.block_of(name)
    place, file = roles.place(name), block.weights or block.published
    try:
        stored = _weight_file(block)
        if stored.metadata.get("layout") == "torch":
            raise UsageError(
                f"{file} has PyTorch's names and layouts; convert it with: python -m "
                "robust_manifold.weights import."
            )
        if block.published:
            _check_published(context, name, stored.metadata)
        params = models.from_table(model, stored.table)
    except UsageError as error:
        raise UsageError(f"config.{place}.{_origin_key(block)}: {error}") from None
    text = stored.metadata.get("model")
    if text not in (None, model_text(context, name)):
        console.warning(
            f"config.{place}.weights: {file} was written for {text}, and is read as "
            f"{model_text(context, name)}; names and shapes fit."
        )
    return params


def _check_published(context: Context, name: str, metadata: Mapping[str, Any]) -> None:
    """Refuses published weights of another network, training or images."""
    file, place = context.block_of(name).published, f"config.{roles.place(name)}"
    if metadata.get("model") != (wanted := model_text(context, name)):
        raise UsageError(
            f"{file!r} is a {metadata.get('model')!r}, and {place}.model is "
            f"{wanted!r}; they have to be equal."
        )
    if metadata.get("training") != (wanted := training_text(context, name)):
        raise UsageError(
            f"{file!r} was trained by {metadata.get('training')!r}, and "
            f"{place}.training is {wanted!r}; they have to be equal."
        )
    if metadata.get("trained_on") != context.digests["train"]["sha256"]:
        raise UsageError(
            f"{file!r} was trained on other images of {metadata.get('data')!r}, "
            "perhaps on these test images; allowed: the config.data of its model card."
        )


def _short(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else "x".join(map(str, shape))
