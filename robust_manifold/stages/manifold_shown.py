"""What the report shows of searches in the generator's range, from stored files."""

from collections.abc import Iterator

import numpy as np

from robust_manifold import evaluation
from robust_manifold.config import Column
from robust_manifold.reporting import (
    ReportFigure,
    Section,
    ShownPair,
    on_manifold_table,
    pair_sheet,
    to_png,
)
from robust_manifold.reporting.labels import budget_label
from robust_manifold.stages import columns_shown, on_manifold
from robust_manifold.stages.context import Context
from robust_manifold.stages.evaluate import images_of
from robust_manifold.stages.pictures_shown import softmax
from robust_manifold.stages.rounds import read_rounds
from robust_manifold.stages.rows import Row, outcome_folder, rows_of

_NOTE = (
    "The latent adversary moves a latent, and with it the generator's image or the "
    "nearest image to that inside the budget, until the projection reads as another "
    "class. But the generator makes every "
    "class, and a large budget leads from one to another: whether an image that the "
    "classifier gets wrong still shows what it showed is asked of judges."
)
_PAIRS = 12


def shown_section(context: Context) -> Section | None:
    """Returns the section; None where no such search was judged."""
    if not context.folder.holds(on_manifold.SUMMARY):
        return None
    lines = context.folder.read_json(on_manifold.SUMMARY)
    confidence = context.experiment.evaluation.confidence
    table = on_manifold_table(lines, confidence=confidence)
    return Section("On the manifold", _NOTE, [table], list(_figures(context)))


def _figures(context: Context) -> Iterator[ReportFigure]:
    """Yields a sheet of pairs for each column: of its last row that broke images."""
    last: dict[Column, Row] = {}
    for column, row in on_manifold.judged_cells(context):
        if len(context.folder.read_npz(on_manifold.file_of(row))["places"]):
            last[column] = row
    for column, row in last.items():
        yield _sheet(context, column, row)


def _sheet(context: Context, column: Column, row: Row) -> ReportFigure:
    clean = rows_of(column, context.experiment.evaluation)[0]
    stored = context.folder.read_npz(on_manifold.file_of(row))
    places = stored["places"]
    verdicts = stored["verdicts"]
    chosen = places[:_PAIRS]
    images = np.stack([images_of(context, each)[chosen] for each in (clean, row)], 1)
    logits = np.stack(
        [
            read_rounds(context, outcome_folder(column, each))["logits"][chosen]
            for each in (clean, row)
        ],
        1,
    )
    assert row.attack is not None
    norms = evaluation.perturbation_norms(images[:, 0], images[:, 1])
    distances = getattr(norms, row.attack.norm)
    pairs = [
        ShownPair(*pair, verdict=str(verdict))
        for *pair, verdict in zip(
            images, softmax(logits), distances.tolist(), verdicts, strict=False
        )
    ]
    budget = budget_label(row.attack.norm, row.budget)
    counts = {
        name: int(np.sum(verdicts == name)) for name in dict.fromkeys(verdicts.tolist())
    }
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    title = columns_shown.title_of(column)
    return ReportFigure(
        f"Test images and what was found near them, {budget}: {title}",
        "Left the test image, right what the search over latents found near it; "
        "under each the class that the defended classifier gives it and its "
        "probability, then their distance and the judges' verdict. Verdicts on all "
        f"{len(places):,} such pairs: {told}.",
        to_png(pair_sheet(pairs, class_names=context.dataset.class_names)),
    )
