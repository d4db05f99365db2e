"""Attacked images that a file gives: what every column of the table makes of them.

They were made from images of their own, so they stand in a table of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robust_manifold import data, evaluation
from robust_manifold.config import Column
from robust_manifold.core.errors import UsageError
from robust_manifold.findings import columns
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.judges import (
    SHOWN,
    asked,
    neighbour_judge,
    shares,
    sheet,
    told,
)
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import (
    ReportFigure,
    Section,
    Table,
)
from robust_manifold.reporting.columns import target_labels
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.defended import (
    arrays_of,
    defend,
    predictions_of,
)
from robust_manifold.stages.table.pace import Pace, Part, Told, cost_of_column
from robust_manifold.stages.table.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)
from robust_manifold.stages.table.rows import folder_name

SUMMARY = "given.json"
_SETS = ("originals", "images")
"""What is classified of each file, by the names of `data.Attacked`."""
_STORED = ("labels", "logits", "projections", "error", "purified")
"""What is kept of what a column makes of them."""


_NOTE = (
    "Images that others attacked, classified by every column. Whether one that is now "
    "classified otherwise still shows what it showed is asked of the nearest training "
    "images: other networks may be fooled by the same images."
)


def _show(context: Context) -> Shown:
    """Returns the section of the report, from stored files alone."""
    lines = context.folder.read_json(SUMMARY)
    _check_same_files(context, lines)
    confidence = context.experiment.evaluation.confidence
    table = given_table(lines, confidence=confidence)
    figures = list(_figures(context))
    return Shown(sections=[Section("Attacked images given", _NOTE, [table], figures)])


def _results(group: Group) -> Iterator[Passage]:
    if tables := [*group.tables_by_seed(SUMMARY, given_table)]:
        yield Passage("Attacked images that others released", tables)


def find(context: Context) -> list[str]:
    """Writes `given/<file>/<column>/<set>/round-NNN.npz`, verdicts, and a summary."""
    every, columns = context.data.given, context.columns
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
                folders = [_folder(context, place, column, name) for name in _SETS]
                files += round_paths(context, folders, len(given.labels))
                files.append(_verdicts_file(context, place, column))
    context.folder.write_json(SUMMARY, lines)
    return [SUMMARY, *files]


def _part(context: Context, place: int, column: Column) -> Part:
    """Returns what a column classifies of a file."""
    n = len(context.data.given[place].labels)
    folders = [_folder(context, place, column, name) for name in _SETS]
    stored = sum(stored_images(context, [folder], n) for folder in folders)
    return Part(len(_SETS) * n, cost_of_column(context, column), stored)


def _names(context: Context) -> list[str]:
    """Returns what the files are called in tables, each otherwise than the others.

    A file may hold several attacks, as arrays of their own, and two folders files of
    one name.
    """
    specs = context.experiment.evaluation.given
    names = _told_apart([s.name for s in specs], [s.images for s in specs])
    return _told_apart(names, [given.checksum[:8] for given in context.data.given])


def _told_apart(names: list[str], more: list[str]) -> list[str]:
    return [
        f"{name}, {each}" if names.count(name) > 1 else name
        for name, each in zip(names, more, strict=True)
    ]


def _folder(context: Context, place: int, column: Column, name: str) -> str:
    """Returns where a column's outcomes for one set of a file lie.

    Args:
      context: the run.
      place: of the file in `config.evaluation.given`.
      column: of the table.
      name: of `_SETS`.
    """
    # With its checksum: a file that has changed is another.
    given, spec = context.data.given[place], context.experiment.evaluation.given[place]
    file = f"{folder_name(spec.name)}-{given.checksum[:8]}"
    return f"given/{file}/{folder_name(column.text)}/{name}"


def _verdicts_file(context: Context, place: int, column: Column) -> str:
    """Returns where the verdicts on what a file's images broke lie."""
    return f"{_folder(context, place, column, 'verdicts')}.npz"


def _outcomes(
    context: Context, place: int, column: Column
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns a column's stored outcomes for a file's originals and images."""
    n = len(context.data.given[place].labels)
    before, after = (
        read_rounds(context, _folder(context, place, column, name), n) for name in _SETS
    )
    return before, after


def _compute(context: Context, place: int, column: Column, told_of: Told) -> None:
    """Stores what a column makes of a file's originals and images."""
    given, params = context.data.given[place], trained.load_column(context, column)
    for name in _SETS:
        images = getattr(given, name)
        # Rounds go by a split, which holds bytes; the images are not rounded to them.
        held = np.rint(255 * images).astype(np.uint8)
        split = data.Split(held, given.labels, np.arange(len(images)))

        def outcomes(place: slice, part: data.Split, images=images):
            made = defend(context, column, params, images[place], part.ids)
            arrays = {"labels": part.labels} | arrays_of(made)
            return {field: arrays[field] for field in _STORED if field in arrays}

        folder = _folder(context, place, column, name)
        compute_rounds(context, folder, outcomes, told_of, split)


def _line(context: Context, place: int, column: Column) -> dict[str, Any]:
    """Stores the verdicts on the images that a column gets wrong; returns its line."""
    given = context.data.given[place]
    outcomes = _outcomes(context, place, column)
    before, after = (
        predictions_of(column, each, attacked=attacked) == given.labels
        for each, attacked in zip(outcomes, (False, True), strict=True)
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
        _verdicts_file(context, place, column), {"places": places, "verdicts": verdicts}
    )
    norms = evaluation.perturbation_norms(given.originals, given.images)
    n = len(given.labels)
    return {
        "file": _names(context)[place],
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


def _check_same_files(context: Context, lines: Sequence[Mapping[str, Any]]) -> None:
    """Refuses files that hold others than the images that were classified."""
    classified = {line["sha256"] for line in lines}
    for name, found in zip(_names(context), context.data.given, strict=True):
        if found.checksum not in classified:
            raise UsageError(
                f"config.evaluation.given: {name} has changed since its images were "
                "classified; allowed: the file as it was, or another --workdir."
            )


def _figures(context: Context) -> Iterator[ReportFigure]:
    """Yields a sheet of a file's first broken images for each column that has some."""
    for place in range(len(context.data.given)):
        for column in context.columns:
            file = _verdicts_file(context, place, column)
            if len(context.folder.read_npz(file)["places"]):
                yield _sheet(context, place, column)


def _sheet(context: Context, place: int, column: Column) -> ReportFigure:
    attacked = context.data.given[place]
    stored = context.folder.read_npz(_verdicts_file(context, place, column))
    chosen = stored["places"][:SHOWN]
    images = np.stack([attacked.originals[chosen], attacked.images[chosen]], 1)
    outcomes = _outcomes(context, place, column)
    logits = np.stack([each["logits"][chosen] for each in outcomes], 1)
    distances = evaluation.perturbation_norms(images[:, 0], images[:, 1]).l2
    return ReportFigure(
        f"{_names(context)[place]}: {columns.title_of(column)}",
        "Left the original, right the attacked image; under each the class that the "
        "column gives it and its probability, then their ℓ2 distance and the judge's "
        f"verdict. The first {len(chosen)} of {len(stored['places']):,} that broke it.",
        sheet(context, images, logits, distances, stored["verdicts"]),
    )


def given_table(
    lines: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns what columns make of given images, and whether what broke them counts.

    Args:
      lines: what given.json holds: each with "file", "column" as a config writes it,
        "n", "originals" and "images" (each how many are "right", and the "interval" of
        their share), the number "broken", "l2_mean", "l2_max", "linf_max", and
        "judges" as for `on_manifold_table`.
      confidence: coverage of the intervals in `lines`, for the caption.

    Raises:
      UsageError: for no lines.
    """
    if not lines:
        raise UsageError("lines hold 0 files; allowed: 1 or more.")
    texts = list(dict.fromkeys(line["column"] for line in lines))
    names = dict(zip(texts, target_labels(texts), strict=True))
    heads = {
        "File": [line["file"] for line in lines],
        "Defence": [names[line["column"]] for line in lines],
        "Originals right": [_accuracy(line, "originals") for line in lines],
        "Attacked right": [_accuracy(line, "images") for line in lines],
        "Broken": [f"{line['broken']:,} of {line['n']:,}" for line in lines],
    }
    heads |= shares(lines)
    sizes = {
        line["file"]: f"{line['file']}: {line['n']:,} images, mean ℓ2 distance "
        f"{line['l2_mean']:.3g}, largest {line['l2_max']:.3g}, largest ℓ∞ distance "
        f"{line['linf_max']:.3g}"
        for line in lines
    }
    if len(sizes) == 1:
        del heads["File"]
    caption = (
        f"{'; '.join(sizes.values())}. They were made "
        "against other networks and no attack was made here, so what stays right is no "
        f"robustness. Intervals: {100 * confidence:g} % Wilson. Broken: right before, "
        "wrong after. Still one class, another class: share of the broken ones of "
        f"which {_judges(lines)} says so; of the rest it is unsure."
    )
    numbers = pd.json_normalize(
        [{k: v for k, v in line.items() if k != "judges"} for line in lines], sep="_"
    )
    names_of = list(heads).index("Originals right")
    title = "Attacked images that were given"
    return Table(title, caption, pd.DataFrame(heads), numbers, names=names_of)


def _judges(lines: Sequence[Mapping[str, Any]]) -> str:
    """Returns who judged: one, or all together."""
    names = asked(lines)
    return f"the {names[0]}" if len(names) == 1 else "every judge"


def _accuracy(line: Mapping[str, Any], name: str) -> str:
    found = line[name]
    low, high = (100 * end for end in found["interval"])
    return f"{100 * found['right'] / line['n']:.1f} % [{low:.1f}, {high:.1f}]"


FINDING = Finding(
    name="given",
    after="evaluate",
    wanted=lambda experiment: bool(experiment.evaluation.given),
    find=find,
    writes=(SUMMARY, "given/"),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
)
