"""Publishes a network of a finished run: its weights, its model card, its checksums."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robust_manifold import evaluation, models
from robust_manifold.config import CLASSIFIER
from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import model_card
from robust_manifold.runtime import (
    Artefacts,
    DamagedArtefact,
    json_text,
    provenance,
    published,
    read_metrics,
    read_params_metadata,
    weight_files,
)
from robust_manifold.runtime.run_folder import read_config, read_status
from robust_manifold.stages import roles
from robust_manifold.stages.networks import stored_networks, trained

LARGEST = 7_000_000
"""Bytes that a file of published weights may have."""

_READ_BACK = (CLASSIFIER, "generator", "encoder")
"""The roles, beside those with a name, that a config can take from elsewhere."""


class TrainingRun(NamedTuple):
    """The run that trained a network, and the network's role there."""

    run: Path
    role: str
    metadata: Mapping[str, Any]
    """Stored beside the parameters."""


def publish(run: str, role: str, name: str, folder: str) -> Path:
    """Writes a network and its card into a folder of published weights.

    Args:
      run: the workdir of a run that has the network, trained or taken over.
      role: of the network, "classifier", "classifier-NAME", "generator", "encoder" or
        "network-NAME".
      name: under which it is published.
      folder: made if it does not exist.

    Returns:
      The file of weights.

    Raises:
      UsageError: if the run, or the one it took the network from, does not hold it, if
        it is not known how it was trained, if it is too large, for a name that is
        none, or if the folder cannot be written.
    """
    published.check_name(name)
    named = roles.classifier_of(role) or roles.network_of(role)
    if role not in _READ_BACK and named is None:
        raise UsageError(
            f"--model is {role!r}; allowed: {', '.join(_READ_BACK)}, or "
            "classifier-NAME or network-NAME for a named one, for a config reads no "
            "other back."
        )
    network = stored_networks.load(run, role)
    source = find_training(Path(run), role, network.sha256)
    build = stored_networks.build_arguments(source.metadata)
    metadata = {
        "role": role,
        "model": network.text,
        "image_shape": build["image_shape"],
        "classes": build["classes"],
    }
    kept = ("data", "trained_on", "training", "step", trained.GENERATOR)
    metadata |= {key: source.metadata[key] for key in kept if key in source.metadata}
    table = _halved(models.to_table(network.params))
    data = weight_files.encode(published.EXTENSION, table, metadata)
    if len(data) > LARGEST:
        raise UsageError(
            f"The {role} of {run!r} takes {len(data):,} bytes; allowed: at most "
            f"{LARGEST:,} for published weights."
        )
    file = Path(folder, name + published.EXTENSION)
    card = _card(source, file, data, metadata, sum(a.size for a in table.values()))
    text = model_card.text(card)
    published.enter(Path(folder), {file.name: data, f"{name}.md": text.encode()})
    return file


def _halved(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays in half precision if that holds every number exactly.

    So it is of a codebook, whose stored numbers are what is certified.
    """
    with np.errstate(over="ignore"):
        halves = {name: array.astype(np.float16) for name, array in table.items()}
    exact = all(np.array_equal(halves[name], table[name]) for name in table)
    return halves if exact else table


def find_training(run: Path, role: str, sha256: str) -> TrainingRun:
    """Returns the run that trained a network, following what it was taken from.

    Args:
      run: the workdir of a run that has the network.
      role: its role there.
      sha256: its digest, which must be the same in every run on the way.

    Raises:
      UsageError: if a run on the way is gone, holds another network by now, or took it
        from a file of weights.
    """
    passed: set[Path] = set()
    while True:
        passed.add(run.resolve())
        metadata = read_params_metadata(stored_networks.params_folder(run, role))
        stored = metadata.metadata
        if stored_networks.load(run, role).sha256 != sha256:
            raise UsageError(
                f"--run: the {role} was taken over from {str(run)!r}, which holds "
                "another one by now; allowed: a network whose training is on record."
            )
        if "weights" in stored or "published" in stored:
            raise UsageError(
                f"--run: the {role} of {str(run)!r} came from a file of weights; "
                "allowed: a network that a run trained."
            )
        if not (other := stored.get("from_run")):
            return TrainingRun(run, role, stored)
        run = Path(other)
        if run.resolve() in passed:
            raise UsageError(
                f"--run: the {role} of {other!r} is on record as its own origin; "
                "allowed: a network that a run trained."
            )
        # A named classifier may have been the other run's own.
        named = roles.classifier_of(role) is not None
        if named and role not in stored_networks.roles_in(run):
            role = CLASSIFIER


def _card(
    source: TrainingRun, file: Path, data: bytes, metadata: Mapping[str, Any], size: int
) -> model_card.Card:
    splits = _read_json(source.run, "data.json")
    config, status = _read(read_config, source.run), _read(read_status, source.run)
    lines = _own_lines(source)
    stage = roles.stage(source.role)
    parts = {stage: provenance.of_stage(status, stage)}
    return model_card.Card(
        name=file.stem,
        role=metadata["role"],
        place=roles.place(metadata["role"]),
        file=f"{published.FOLDER}/{file.name}",
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        model=metadata["model"],
        parameters=size,
        input_shape=source.metadata["input_shape"],
        output_shape=source.metadata["output_shape"],
        data=config["data"],
        splits=splits,
        block=_block(config, source.role),
        seed=config["seed"],
        steps=_steps(source, lines),
        figures=[
            *_validation(source, lines, config, splits),
            *_measured(source),
        ],
        commands=provenance.commands_of(parts),
        seconds=_seconds(source, config, status),
        made_with=provenance.told(parts, model_card.made_with),
        remarks=_made_for(file, metadata),
    )


def _made_for(file: Path, metadata: Mapping[str, Any]) -> list[str]:
    """Returns the remark which generator an encoder was made for."""
    wanted = metadata.get(trained.GENERATOR)
    if wanted is None:
        return []
    listed = file.parent / published.CHECKSUMS
    for name in published.checksums(file.parent) if listed.exists() else ():
        path = file.parent / name
        if path == file or path.suffix != published.EXTENSION:
            continue
        other = weight_files.read(path)
        if other.metadata.get("role") == "generator":
            build = {key: other.metadata[key] for key in ("image_shape", "classes")}
            model = models.build(other.metadata["model"], **build)
            params = models.from_table(model, other.table)
            if trained.digest(other.metadata["model"], params) == wanted:
                return [f"It was made for the generator `{path.stem}`."]
    return [f"It was made for the generator with the digest `{wanted}`."]


def _read(of: Callable[[Path], Any], run: Path) -> Any:
    """Returns what one of the readers of a run's records finds."""
    try:
        return of(run)
    except DamagedArtefact:
        raise
    except UsageError as error:
        # There is none.
        raise UsageError(
            f"{str(error).rstrip('.')}; allowed: --run of a run with its records."
        ) from None


def _read_json(run: Path, name: str) -> Any:
    stored = Artefacts(run)
    if stored.holds(name):
        return stored.read_json(name)
    try:
        return json_text.loads((run / name).read_bytes())
    except (OSError, ValueError):
        raise UsageError(
            f"{run / name} cannot be read; allowed: --run of a run with its records."
        ) from None


def _block(config: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    block = config
    for key in roles.place(role).split("."):
        block = block[key]
    return block


def _seconds(
    source: TrainingRun, config: Mapping[str, Any], status: Mapping[str, Any]
) -> float | None:
    """Returns what the training took, if the records tell it from others'."""
    stage = roles.stage(source.role)
    block = stage.removeprefix("fit_")
    together = config.get(block, ()) if block in ("classifiers", "networks") else ()
    return status["stage_seconds"].get(stage) if len(together) <= 1 else None


def _own_lines(source: TrainingRun) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl that the network's training wrote."""
    Artefacts(source.run).check_log("metrics.jsonl")
    lines = read_metrics(source.run / "metrics.jsonl")
    return [line for line in lines if line["stage"] == f"fit_{source.role}"]


def _steps(source: TrainingRun, lines: list[dict[str, Any]]) -> str:
    kept = source.metadata.get("step", 0)
    last = max((line["step"] for line in lines), default=kept)
    kept = kept or last
    if kept == last:
        return f"{last:,}"
    return f"{last:,}, of which the parameters after step {kept:,} were kept"


_VALIDATION = "validation_"


def _validation(
    source: TrainingRun, lines: list[dict[str, Any]], config: Any, splits: Any
) -> list[model_card.Figure]:
    """Returns what was measured on validation images when the parameters were kept."""
    found = []
    for line in lines:
        if line["step"] != source.metadata.get("step"):
            continue
        for key, value in line.items():
            if key.startswith(_VALIDATION):
                n = splits["validation"]["examples"]
                if source.role == "generator":
                    n = min(n, config["measures"]["validation_examples"])
                images = f"validation{_chose(source, lines)}"
                found.append(_validation_figure(source.role, key, value, n, images))
    return found


def _chose(source: TrainingRun, lines: list[dict[str, Any]]) -> str:
    """Returns the warning that a figure also chose which parameters were kept."""
    stopped_early = source.metadata["step"] < max(line["step"] for line in lines)
    best = source.role == "encoder" or source.metadata["training"].startswith("cross_")
    return ", which chose the step" if stopped_early or best else ""


def _validation_figure(
    role: str, key: str, value: float, n: int, images: str
) -> model_card.Figure:
    if key == f"{_VALIDATION}accuracy":
        return model_card.Figure("accuracy", _share(round(value * n), n), n, images)
    what = {
        "generator": "median error of inversions, mean squared error per pixel",
        "encoder": "mean squared error per pixel of what the generator makes of "
        "first guesses",
    }.get(role, key.replace("_", " "))
    return model_card.Figure(what, f"{value:.5f}", n, images)


def _measured(source: TrainingRun) -> list[model_card.Figure]:
    """Returns the figures of measures.csv, where the training run has one."""
    file = source.run / "measures.csv"
    if not file.exists():
        return []
    line = pd.read_csv(file).iloc[0]
    n, images = int(line["n"]), "test"
    if source.role == CLASSIFIER:
        right = round(line["clean_accuracy"] * n)
        return [model_card.Figure("accuracy", _share(right, n), n, images)]
    if source.role != "generator":
        return []
    how = f"by {line['solver']}, restarts {line['restarts']}"
    error = (f"{line[f'error_mean{end}']:.5f}" for end in ("", "_low", "_high"))
    right = round(line["projection_accuracy"] * n)
    what = f"accuracy of {line['classifier']} on projections"
    return [
        model_card.Figure(
            f"mean error of inversions {how}, mean squared error per pixel",
            "{} [{}, {}]".format(*error),
            n,
            images,
        ),
        model_card.Figure(what, _share(right, n), n, images),
    ]


def _share(correct: int, n: int) -> str:
    low, high = evaluation.wilson_interval(correct, n)
    return f"{100 * correct / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
