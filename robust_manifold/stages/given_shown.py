"""What the report shows of attacked images that a file gives, from stored files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from robust_manifold import evaluation
from robust_manifold.config import Column
from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import (
    ReportFigure,
    Section,
    ShownPair,
    given_table,
    pair_sheet,
    to_png,
)
from robust_manifold.stages import columns_shown, given
from robust_manifold.stages.context import Context
from robust_manifold.stages.pictures_shown import softmax

_NOTE = (
    "Images that others attacked, classified by every column. Whether one that is now "
    "classified otherwise still shows what it showed is asked of the nearest training "
    "images: other networks may be fooled by the same images."
)
_PAIRS = 12


def shown_section(context: Context) -> Section | None:
    """Returns the section; None where no such images were given."""
    if not context.folder.holds(given.SUMMARY):
        return None
    lines = context.folder.read_json(given.SUMMARY)
    _check_same_files(context, lines)
    confidence = context.experiment.evaluation.confidence
    table = given_table(lines, confidence=confidence)
    return Section("Attacked images given", _NOTE, [table], list(_figures(context)))


def _check_same_files(context: Context, lines: Sequence[Mapping[str, Any]]) -> None:
    """Refuses files that hold others than the images that were classified."""
    classified = {line["sha256"] for line in lines}
    for name, found in zip(given.names_of(context), context.given, strict=True):
        if found.checksum not in classified:
            raise UsageError(
                f"config.evaluation.given: {name} has changed since its images were "
                "classified; allowed: the file as it was, or another --workdir."
            )


def _figures(context: Context) -> Iterator[ReportFigure]:
    """Yields a sheet of a file's first broken images for each column that has some."""
    for place in range(len(context.given)):
        for column in context.columns:
            file = given.verdicts_file(context, place, column)
            if len(context.folder.read_npz(file)["places"]):
                yield _sheet(context, place, column)


def _sheet(context: Context, place: int, column: Column) -> ReportFigure:
    attacked = context.given[place]
    stored = context.folder.read_npz(given.verdicts_file(context, place, column))
    chosen = stored["places"][:_PAIRS]
    images = np.stack([attacked.originals[chosen], attacked.images[chosen]], 1)
    outcomes = given.outcomes_of(context, place, column)
    logits = np.stack([each["logits"][chosen] for each in outcomes], 1)
    distances = evaluation.perturbation_norms(images[:, 0], images[:, 1]).l2
    pairs = [
        ShownPair(*pair, verdict=str(verdict))
        for *pair, verdict in zip(
            images,
            softmax(logits),
            distances.tolist(),
            stored["verdicts"],
            strict=False,
        )
    ]
    return ReportFigure(
        f"{given.names_of(context)[place]}: {columns_shown.title_of(column)}",
        "Left the original, right the attacked image; under each the class that the "
        "column gives it and its probability, then their ℓ2 distance and the judge's "
        f"verdict. The first {len(pairs)} of {len(stored['places']):,} that broke it.",
        to_png(pair_sheet(pairs, class_names=context.dataset.class_names)),
    )
