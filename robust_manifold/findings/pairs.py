"""Latent pairs: near images of the generator that a classifier tells apart.

A projection leads into the generator's range; where two of its images are near and are
classified differently, the classifier behind the defence is not robust there, and no
projection mends that.  Judges say whether such images still show one class.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

from robust_manifold import attacks, evaluation, models
from robust_manifold.config import CLASSIFIER
from robust_manifold.core import keeping
from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation.intervals import Interval
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.judges import (
    NEIGHBOURS,
    SHOWN,
    asked,
    judges_of,
    shares,
    sheet,
    told,
)
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import (
    ReportFigure,
    Section,
)
from robust_manifold.reporting.labels import label_of, norm_label
from robust_manifold.reporting.tables import MISSING, Table
from robust_manifold.runtime import Interrupted, devices
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.pace import Pace, Part
from robust_manifold.stages.table.rounds import (
    read_rounds,
    round_files,
    round_paths,
    stored_images,
)
from robust_manifold.stages.table.rows import folder_name

SUMMARY = "pairs.json"

Searched = tuple[str, attacks.Overpowered]
"""The name of a classifier, and what looks for its pairs."""

_NOTE = (
    "The overpowered attack looks for two latents whose images are near each other and "
    "are classified differently. No projection helps against what it finds: both "
    "images are the generator's own. It counts only where the two still show the same, "
    "which judges are asked."
)


def find(context: Context) -> list[str]:
    """Writes `pairs/<classifier>/<search>/round-NNN.npz`, the verdicts, a summary.

    Raises:
      Interrupted: if the run was asked to stop.
    """
    every, n = list(searched(context)), context.experiment.overpowered.pairs
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
    context: Context, name: str, spec: attacks.Overpowered, pace: Pace
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
            ids = np.arange(place.start, place.stop)
            start = time.perf_counter() + keeping.recalled_seconds()
            found = attacks.find_pairs(
                spec,
                context.networks.spanner,
                context.networks.classifier_of(name).apply,
                params,
                len(ids),
                key=context.stream(stream),
                ids=ids,
                # One shape for all rounds.
                batch_size=min(context.experiment.evaluation.round_size, n),
            )
            arrays = {k: np.asarray(v) for k, v in found._asdict().items()}
            took = time.perf_counter() + keeping.recalled_seconds() - start
            context.folder.write_npz(file, arrays | {"seconds": np.asarray(took)})
            keeping.forget()
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
        verdicts_file(name, spec), {"verdicts": verdicts.astype("U16"), "reads": reads}
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


def _show(context: Context) -> Shown:
    """Returns the section of the report."""
    lines = context.folder.read_json(SUMMARY)
    confidence = context.experiment.evaluation.confidence
    table = pairs_table(lines, confidence=confidence)
    figures = list(_figures(context, lines))
    return Shown(sections=[Section("Latent pairs", _NOTE, [table], figures)])


def _results(group: Group) -> Iterator[Passage]:
    if tables := [*group.tables_by_seed(SUMMARY, pairs_table)]:
        yield Passage("On the manifold: latent pairs", tables)


def _figures(context: Context, lines: list[dict]) -> Iterator[ReportFigure]:
    """Yields a sheet for each search that found pairs."""
    for line, search in zip(lines, searched(context), strict=True):
        if not line["found"]:
            continue
        stored = stored_pairs(context, search)
        found = stored["found"]
        file = verdicts_file(*search)
        verdicts = context.folder.read_npz(file)["verdicts"]
        images = shown_images(stored)[:SHOWN]
        logits, distances = (
            stored[name][found][:SHOWN] for name in ("logits", "distances")
        )
        counts = dict(zip(*np.unique(verdicts, return_counts=True), strict=True))
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        bound = f"{norm_label(line['norm'])} ≤ {line['eta']:g}"
        yield ReportFigure(
            f"Latent pairs, {bound}: {label_of(line['classifier'])}",
            "Both images of each pair are the generator's; under each the class that "
            "the bare classifier gives it and its probability, then their distance and "
            f"the judges' verdict. The first {len(images)} that were found; verdicts "
            f"on all {len(verdicts):,}: {told}.",
            sheet(context, images, logits, distances, verdicts),
        )


def pairs_table(
    lines: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns how often two near images of the generator are classified apart.

    Args:
      lines: what pairs.json holds: each with the "classifier" as results.csv writes
        it, the "search" as a config does, its "norm" and "eta", the numbers "n" and
        "found", the "interval" of the share found, "distance_median" and
        "outputs_mean" (either may be None), and "judges": each with its name "judge",
        a "verdict", the "pairs" and "n" of all pairs, their "share" and its
        "interval".
      confidence: coverage of all intervals.

    Raises:
      UsageError: for no lines.
    """
    if not lines:
        raise UsageError("lines hold 0 searches; allowed: 1 or more.")
    heads = {
        "Classifier": [label_of(line["classifier"]) for line in lines],
        "Bound": [f"{norm_label(line['norm'])} ≤ {line['eta']:g}" for line in lines],
        "Found": [_found(line) for line in lines],
        "Distance": [_number(line["distance_median"]) for line in lines],
        "Outputs apart": [_number(line["outputs_mean"]) for line in lines],
    }
    heads |= shares(lines)
    judges = ", ".join(asked(lines)) or "none was asked"
    searches = "; ".join(dict.fromkeys(line["search"] for line in lines))
    caption = (
        "Pairs of the generator's images. Found: share "
        "of the searches that end with two images within the bound and of different "
        "predicted classes, by the bare classifier. Distance: median of the found "
        "pairs, plain and over all pixels. Outputs apart: mean squared ℓ2 distance of "
        "the two outputs (probabilities) of all pairs within the bound, 0 to 2. Still "
        "one class, another class: share of the found pairs of which all judges say "
        "so; of the rest they are unsure or disagree. Wilson intervals of "
        f"{100 * confidence:g} %. Judges: {judges}. "
        "A pair that reads as two classes is no mistake of the classifier. "
        f"Searches: {searches}."
    )
    numbers = pd.DataFrame(
        [
            {
                **{k: v for k, v in line.items() if k not in ("judges", "interval")},
                **{f"{j['judge']} {j['verdict']}": j["pairs"] for j in line["judges"]},
            }
            for line in lines
        ]
    )
    title = "Latent pairs found by the overpowered attack"
    return Table(title, caption, pd.DataFrame(heads), numbers, names=2)


def _found(line: Mapping[str, Any]) -> str:
    low, high = line["interval"]
    share = 100 * line["found"] / line["n"]
    interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
    return f"{line['found']:,} of {line['n']:,}, {share:.1f} % {interval}"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g}"


FINDING = Finding(
    name="pairs",
    after="evaluate",
    wanted=lambda experiment: experiment.overpowered.pairs > 0,
    find=find,
    writes=(SUMMARY, "pairs/"),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
)
