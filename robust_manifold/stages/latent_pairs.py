"""Latent pairs: near images of the generator that a classifier tells apart.

Part of stage `evaluate`, for every classifier behind a defence that projects.  A
projection leads into the generator's range; where two of its images are near and are
classified differently, the classifier is not robust there, and no projection mends
that.  Judges say whether such images still show one class.
"""

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from robust_manifold import attacks, evaluation, models
from robust_manifold.config import CLASSIFIER
from robust_manifold.evaluation.intervals import Interval
from robust_manifold.runtime import Interrupted, devices
from robust_manifold.stages import trained
from robust_manifold.stages.context import Context
from robust_manifold.stages.judges import NEIGHBOURS, judges_of, told
from robust_manifold.stages.pace import Pace, Part
from robust_manifold.stages.rounds import (
    read_rounds,
    round_files,
    round_paths,
    stored_images,
)
from robust_manifold.stages.rows import folder_name

SUMMARY = "pairs.json"

Searched = tuple[str, attacks.Overpowered]
"""The name of a classifier, and what looks for its pairs."""


def find(context: Context) -> list[str]:
    """Writes `pairs/<classifier>/<search>/round-NNN.npz`, the verdicts, a summary.

    Returns:
      The files; none where the run looks for no pairs.

    Raises:
      Interrupted: if the run was asked to stop.
    """
    every, n = list(searched(context)), context.experiment.overpowered.pairs
    if not every:
        return []
    # A step of a restart of a pair passes through two networks and back.
    parts = {
        (name, spec): Part(
            n,
            8.0 * spec.restarts * spec.steps,
            stored_images(context, [folder_of(name, spec)], n),
        )
        for name, spec in every
    }
    with Pace("pairs", "pairs", parts) as pace:
        for name, spec in every:
            _compute(context, name, spec, pace)
    lines = [_judged(context, *each) for each in every]
    context.folder.write_json(SUMMARY, lines)
    rounds = round_paths(context, [folder_of(*each) for each in every], n)
    return [SUMMARY, *(verdicts_file(*each) for each in every), *rounds]


def searched(context: Context) -> Iterator[Searched]:
    """Yields the classifiers and the searches of a run, in order."""
    experiment = context.experiment
    if experiment.overpowered.pairs:
        for name in experiment.projected_classifiers:
            for spec in experiment.overpowered.searches:
                yield name, spec


def folder_of(name: str, spec: attacks.Overpowered) -> str:
    """Returns where the pairs of a classifier lie."""
    return f"pairs/{name}/{folder_name(text_of(spec))}"


def verdicts_file(name: str, spec: attacks.Overpowered) -> str:
    """Returns where the verdicts on the pairs that were found lie."""
    return f"{folder_of(name, spec)}/verdicts.npz"


def text_of(spec: attacks.Overpowered) -> str:
    """Returns a search as a config writes it."""
    return attacks.overpowered_registry.to_string(spec)


def stored_pairs(context: Context, searched: Searched) -> dict[str, np.ndarray]:
    """Returns the arrays of all pairs of a classifier; see `attacks.Pairs`."""
    n = context.experiment.overpowered.pairs
    return read_rounds(context, folder_of(*searched), n)


def shown_images(pairs: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the images of the pairs that were found, [m, 2, h, w, c], in [0, 1]."""
    return pairs["images"][pairs["found"]].clip(0, 1)


def _compute(
    context: Context,
    name: str,
    spec: attacks.Overpowered,
    pace: Pace,
) -> None:
    """Stores the rounds of one search that are not stored yet."""
    n = context.experiment.overpowered.pairs
    text = f"{name} {text_of(spec)}"
    stream = f"pairs {name} {attacks.overpowered_registry.stream_name(spec)}"
    params = attacks.ManifoldParams(
        trained.load_spanner(context), trained.load_classifier(context, name)
    )
    for file, place in round_files(context, folder_of(name, spec), n):
        if not (stored := context.folder.has(file)):
            ids, start = np.arange(place.start, place.stop), time.perf_counter()
            found = attacks.find_pairs(
                spec,
                context.spanner,
                context.classifier_of(name).apply,
                params,
                len(ids),
                key=context.stream(stream),
                ids=ids,
                # One shape for all rounds.
                batch_size=min(context.experiment.evaluation.round_size, n),
            )
            arrays = {k: np.asarray(v) for k, v in found._asdict().items()}
            seconds = np.asarray(time.perf_counter() - start)
            context.folder.write_npz(file, arrays | {"seconds": seconds})
        pairs = place.stop - place.start
        pace.advance((name, spec), pairs, stored, show=("search", text))
        if context.stop.requested:
            raise Interrupted(f"stopped after {file}")
    devices.barrier("pairs stored")


def _judged(context: Context, name: str, spec: attacks.Overpowered) -> dict[str, Any]:
    """Stores what judges say of the pairs that were found, and returns their line."""
    pairs = stored_pairs(context, (name, spec))
    found, distances = pairs["found"], pairs["distances"]
    outputs = np.asarray(jax.nn.softmax(pairs["logits"], axis=-1))
    apart = np.sum((outputs[:, 0] - outputs[:, 1]) ** 2, axis=-1)[pairs["feasible"]]
    line: dict[str, Any] = {
        "classifier": _classifier_text(context, name),
        "search": text_of(spec),
        "norm": spec.norm,
        "eta": spec.eta,
        "n": len(found),
        "found": int(found.sum()),
        "feasible": int(pairs["feasible"].sum()),
        "interval": list(_interval(context, found)),
        "distance_median": float(np.median(distances[found])) if found.any() else None,
        "outputs_mean": float(apart.mean()) if len(apart) else None,
        "judges": [],
    }
    verdicts, reads = np.empty(0, str), np.empty((0, 2), int)
    if found.any():
        images = shown_images(pairs)
        judges = judges_of(context, name)
        confidence = context.experiment.evaluation.confidence
        judgement = evaluation.judge_pairs(
            judges, images[:, 0], images[:, 1], confidence=confidence
        )
        verdicts = judgement.verdicts[evaluation.TOGETHER]
        reads = judgement.reads[NEIGHBOURS]
        line["judges"] = told(judgement)
    context.folder.write_npz(
        verdicts_file(name, spec),
        {"verdicts": verdicts.astype("U16"), "reads": reads},
    )
    return line


def _interval(context: Context, found: np.ndarray) -> Interval:
    confidence = context.experiment.evaluation.confidence
    return evaluation.wilson_interval(int(found.sum()), len(found), confidence)


def _classifier_text(context: Context, name: str) -> str:
    """Returns what results.csv calls a classifier."""
    if name == CLASSIFIER:
        return models.registry.to_string(context.experiment.classifier.model)
    return name
