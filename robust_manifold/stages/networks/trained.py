"""Trained parameters: stored at the end of a training, read by all later stages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from robust_manifold import defenses, models, training
from robust_manifold.config import CLASSIFIER, ORIGINS, Column
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import SpannerParams
from robust_manifold.core.networks import THRESHOLD
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
from robust_manifold.stages.inputs import elsewhere, needed
from robust_manifold.stages.inputs.elsewhere import digest, folder


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
    """Returns the parameters of one of `context.networks.roles`.

    Raises:
      UsageError: if the stage that makes them has not finished.
    """
    check_finished(context, name)
    return load_params(context.folder.path / folder(name))


def load_spanner(context: Context) -> SpannerParams:
    """Returns the parameters of `context.networks.spanner`.

    Raises:
      UsageError: if a stage that makes them has not finished.
    """
    encodes = context.networks.spanner.encode is not None
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
    networks = {role: found.params for role, found in context.networks.further.items()}
    for name in needed.trained_networks(context.experiment):
        networks[name] = load(context, roles.of_network(name))
    # Without a defence that uses it there need not be a generator.
    if "generator" in context.networks.roles:
        networks["generator"] = load_spanner(context)
    if THRESHOLD in context.networks.of_defences:
        networks[THRESHOLD] = _threshold(context, column)
    return defenses.DefenseParams(networks, load_classifier(context, column.classifier))


THRESHOLDS = "thresholds.json"
"""The errors above which columns reject, by their defences' texts."""


def _threshold(context: Context, column: Column) -> np.float32:
    """Returns the error above which a column rejects; infinite: it never does."""
    if THRESHOLD not in column.defence.needs:
        return np.float32(np.inf)
    if not context.folder.has(THRESHOLDS):
        raise UsageError(
            f"{context.folder.path} holds no thresholds of columns that reject; run "
            "the stage evaluate first, by config.stages and, where it is given, "
            "--stages."
        )
    stored = context.folder.read_json(THRESHOLDS)
    return np.float32(stored[defenses.registry.to_string(column.defence)])


def check_finished(context: Context, name: str) -> None:
    """Raises a `UsageError` if the stage that makes a network has not finished."""
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
        block = context.networks.block_of(name)
        return training.classifier_trainings.to_string(block.training)
    if roles.network_of(name) is not None:
        block = context.networks.block_of(name)
        return training.network_trainings.to_string(block.training)
    if name == "encoder":
        return training.encoder_trainings.to_string(blocks.encoder.training)
    return training.generator_trainings.to_string(blocks.generator.training)


def model_text(context: Context, role: str) -> str:
    """Returns the network of a role as a config writes it.

    Args:
      context: the run.
      role: one of `context.networks.roles`, or that of the generator's partner.
    """
    blocks = context.experiment
    if (roles.classifier_of(role) or roles.network_of(role)) is not None:
        spec = context.networks.block_of(role).model
    elif role == "generator":
        spec = blocks.generator.model
    elif role == "encoder":
        spec = context.networks.encoder_spec
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
        params = _read_weights(context, "generator", context.networks.generator)
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
        "trained_on": context.data.digests["train"]["sha256"],
    }


def check_elsewhere(context: Context, name: str, model: models.Model) -> None:
    """Refuses what a network is taken from if what is there does not fit the model."""
    block = context.networks.block_of(name)
    if block.weights or block.published:
        _read_weights(context, name, model)
    if block.from_run:
        elsewhere.check_run(
            _wanted(context, name, model),
            name,
            block.from_run,
            _elsewhere(name, block.from_run),
            context.data.digests["train"]["sha256"],
        )
    if name == "encoder" and block.taken_from and (known := _known_generator(context)):
        _check_generator(context, known)


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
    block = context.networks.block_of(name)
    if name == "encoder" and block.taken_from:
        _check_generator(context, generator_digest(context))
    if block.from_run:
        where = _elsewhere(name, block.from_run)
        params, stored = load_params(where), read_params_metadata(where).metadata
        differing = elsewhere.kept(stored) | {"from_run": block.from_run}
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
    block = context.networks.block_of(name)
    place, file = roles.place(name), block.weights or block.published
    try:
        stored = _weight_file(block)
        if block.published:
            _check_published(context, name, stored.metadata)
        return elsewhere.fitted(_wanted(context, name, model), file, stored)
    except UsageError as error:
        raise UsageError(f"config.{place}.{_origin_key(block)}: {error}") from None


def _wanted(context: Context, name: str, model: models.Model) -> elsewhere.Wanted:
    return elsewhere.Wanted(roles.place(name), model_text(context, name), model)


def _check_published(context: Context, name: str, metadata: Mapping[str, Any]) -> None:
    """Refuses published weights of another network, training or images."""
    place = f"config.{roles.place(name)}"
    file = context.networks.block_of(name).published
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
    if metadata.get("trained_on") != context.data.digests["train"]["sha256"]:
        raise UsageError(
            f"{file!r} was trained on other images of {metadata.get('data')!r}, "
            "perhaps on these test images; allowed: the config.data of its model card."
        )
