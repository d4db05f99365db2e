"""What the report shows of latent pairs, from stored files."""

from collections.abc import Iterator

import numpy as np

from robust_manifold.reporting import (
    ReportFigure,
    Section,
    ShownPair,
    pair_sheet,
    pairs_table,
    to_png,
)
from robust_manifold.reporting.labels import label_of, norm_label
from robust_manifold.stages import latent_pairs
from robust_manifold.stages.context import Context
from robust_manifold.stages.pictures_shown import softmax

_NOTE = (
    "The overpowered attack looks for two latents whose images are near each other and "
    "are classified differently. No projection helps against what it finds: both "
    "images are the generator's own. It counts only where the two still show the same, "
    "which judges are asked."
)
_PAIRS = 12


def shown_section(context: Context) -> Section | None:
    """Returns the section; None where the run looked for no pairs."""
    if not context.folder.holds(latent_pairs.SUMMARY):
        return None
    lines = context.folder.read_json(latent_pairs.SUMMARY)
    confidence = context.experiment.evaluation.confidence
    table = pairs_table(lines, confidence=confidence)
    return Section("Latent pairs", _NOTE, [table], list(_figures(context, lines)))


def _figures(context: Context, lines: list[dict]) -> Iterator[ReportFigure]:
    """Yields a sheet for each search that found pairs."""
    for line, searched in zip(lines, latent_pairs.searched(context), strict=True):
        if not line["found"]:
            continue
        stored = latent_pairs.stored_pairs(context, searched)
        found = stored["found"]
        file = latent_pairs.verdicts_file(*searched)
        verdicts = context.folder.read_npz(file)["verdicts"]
        pairs = [
            ShownPair(images, probabilities, float(distance), str(verdict))
            for images, probabilities, distance, verdict in zip(
                latent_pairs.shown_images(stored)[:_PAIRS],
                softmax(stored["logits"][found][:_PAIRS]),
                stored["distances"][found][:_PAIRS],
                verdicts,
                strict=False,
            )
        ]
        counts = dict(zip(*np.unique(verdicts, return_counts=True), strict=True))
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        bound = f"{norm_label(line['norm'])} ≤ {line['eta']:g}"
        yield ReportFigure(
            f"Latent pairs, {bound}: {label_of(line['classifier'])}",
            "Both images of each pair are the generator's; under each the class that "
            "the bare classifier gives it and its probability, then their distance and "
            f"the judges' verdict. The first {len(pairs)} that were found; verdicts on "
            f"all {len(verdicts):,}: {told}.",
            to_png(pair_sheet(pairs, class_names=context.dataset.class_names)),
        )
