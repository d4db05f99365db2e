"""Attacked images that a file gives: what every column of the table makes of them.

Part of stage `evaluate`.  They were made from images of their own, so they stand in a
table of their own, beside these.
"""

from typing import Any

import numpy as np

from robust_manifold import data, evaluation
from robust_manifold.config import Column
from robust_manifold.stages import trained
from robust_manifold.stages.context import Context
from robust_manifold.stages.defended import arrays_of, defend
from robust_manifold.stages.judges import neighbour_judge, told
from robust_manifold.stages.pace import Pace, Part, Told, cost_of_column
from robust_manifold.stages.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)
from robust_manifold.stages.rows import folder_name

SUMMARY = "given.json"
SETS = ("originals", "images")
"""What is classified of each file, by the names of `data.Attacked`."""
_STORED = ("labels", "logits", "projections", "error", "purified")
"""What is kept of what a column makes of them."""


def classify(context: Context) -> list[str]:
    """Writes `given/<file>/<column>/<set>/round-NNN.npz`, verdicts, and a summary.

    Returns:
      The files; none where the config gives no attacked images.
    """
    every, columns = context.given, context.columns
    if not every:
        return []
    parts = {
        (place, column): _part(context, place, column)
        for place in range(len(every))
        for column in columns
    }
    lines: list[dict[str, Any]] = []
    files: list[str] = []
    with Pace("given", "images", parts) as pace:
        for place, given in enumerate(every):
            for column in columns:
                told_of = pace.teller((place, column), show=("column", column.text))
                _compute(context, place, column, told_of)
                lines.append(_line(context, place, column))
                folders = [folder_of(context, place, column, name) for name in SETS]
                files += round_paths(context, folders, len(given.labels))
                files.append(verdicts_file(context, place, column))
    context.folder.write_json(SUMMARY, lines)
    return [SUMMARY, *files]


def _part(context: Context, place: int, column: Column) -> Part:
    """Returns what a column classifies of a file."""
    n = len(context.given[place].labels)
    folders = [folder_of(context, place, column, name) for name in SETS]
    stored = sum(stored_images(context, [folder], n) for folder in folders)
    return Part(len(SETS) * n, cost_of_column(context, column), stored)


def names_of(context: Context) -> list[str]:
    """Returns what the files are called in tables, each otherwise than the others.

    A file may hold several attacks, as arrays of their own, and two folders files of
    one name.
    """
    specs = context.experiment.evaluation.given
    names = _told_apart([s.name for s in specs], [s.images for s in specs])
    return _told_apart(names, [given.checksum[:8] for given in context.given])


def _told_apart(names: list[str], more: list[str]) -> list[str]:
    return [
        f"{name}, {each}" if names.count(name) > 1 else name
        for name, each in zip(names, more, strict=True)
    ]


def folder_of(context: Context, place: int, column: Column, name: str) -> str:
    """Returns where a column's outcomes for one set of a file lie.

    Args:
      context: the run.
      place: of the file in `config.evaluation.given`.
      column: of the table.
      name: of `SETS`.
    """
    # With its checksum: a file that has changed is another.
    given, spec = context.given[place], context.experiment.evaluation.given[place]
    file = f"{folder_name(spec.name)}-{given.checksum[:8]}"
    return f"given/{file}/{folder_name(column.text)}/{name}"


def verdicts_file(context: Context, place: int, column: Column) -> str:
    """Returns where the verdicts on what a file's images broke lie."""
    return f"{folder_of(context, place, column, 'verdicts')}.npz"


def outcomes_of(
    context: Context, place: int, column: Column
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns a column's stored outcomes for a file's originals and images."""
    n = len(context.given[place].labels)
    before, after = (
        read_rounds(context, folder_of(context, place, column, name), n)
        for name in SETS
    )
    return before, after


def _compute(context: Context, place: int, column: Column, told_of: Told) -> None:
    """Stores what a column makes of a file's originals and images."""
    given, params = context.given[place], trained.load_column(context, column)
    for name in SETS:
        images = getattr(given, name)
        # Rounds go by a split, which holds bytes; the images are not rounded to them.
        held = np.rint(255 * images).astype(np.uint8)
        split = data.Split(held, given.labels, np.arange(len(images)))

        def outcomes(place: slice, part: data.Split, images=images):
            made = defend(context, column, params, images[place], part.ids)
            arrays = {"labels": part.labels} | arrays_of(made)
            return {field: arrays[field] for field in _STORED if field in arrays}

        folder = folder_of(context, place, column, name)
        compute_rounds(context, folder, outcomes, told_of, split)


def _line(context: Context, place: int, column: Column) -> dict[str, Any]:
    """Stores the verdicts on the images that a column gets wrong; returns its line."""
    given = context.given[place]
    outcomes = outcomes_of(context, place, column)
    before, after = (
        evaluation.predictions_of(each["logits"]) == given.labels for each in outcomes
    )
    places = np.flatnonzero(before & ~after)
    verdicts, judges = np.empty(0, "U16"), []
    confidence = context.experiment.evaluation.confidence
    if len(places):
        judgement = evaluation.judge_pairs(
            # Not the table's classifiers: what fools one of them fools the others.
            [neighbour_judge(context)],
            given.originals[places],
            given.images[places],
            confidence=confidence,
        )
        verdicts = judgement.verdicts[evaluation.TOGETHER].astype("U16")
        judges = told(judgement)
    context.folder.write_npz(
        verdicts_file(context, place, column), {"places": places, "verdicts": verdicts}
    )
    norms = evaluation.perturbation_norms(given.originals, given.images)
    n = len(given.labels)
    return {
        "file": names_of(context)[place],
        "sha256": given.checksum,
        "column": column.text,
        "n": n,
        "originals": _share(before, confidence),
        "images": _share(after, confidence),
        "broken": len(places),
        "l2_mean": float(np.mean(norms.l2)),
        "l2_max": float(np.max(norms.l2)),
        "linf_max": float(np.max(norms.linf)),
        "judges": judges,
    }


def _share(right: np.ndarray, confidence: float) -> dict[str, Any]:
    """Returns how many are right, with Wilson's interval of their share."""
    interval = evaluation.wilson_interval(int(right.sum()), len(right), confidence)
    return {"right": int(right.sum()), "interval": list(interval)}
