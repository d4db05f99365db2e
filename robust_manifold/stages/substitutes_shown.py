"""What the report shows of the substitute adversary, from its stored files alone."""

from collections.abc import Iterator

import numpy as np

from robust_manifold import attacks, data
from robust_manifold.reporting import figures, html, labels, substitutes_table, tables
from robust_manifold.stages import columns_shown, pictures_shown, substitutes
from robust_manifold.stages.context import Context
from robust_manifold.stages.rounds import read_rounds
from robust_manifold.stages.rows import adversarial_folder, outcome_folder, rows


def shown_tables(context: Context) -> Iterator[tables.Table]:
    """Yields the table of the substitutes, where there are some."""
    if substitutes.targets(context):
        yield substitutes_table(
            context.folder.read_json(substitutes.SUMMARY),
            confidence=context.experiment.evaluation.confidence,
        )


def shown_figures(
    context: Context, chosen: np.ndarray
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields what carried over to each target, by the last attack of the config.

    Args:
      context: the run.
      chosen: places of the test images to show.
    """
    block = context.experiment.evaluation
    clean, *attacked = rows(block)
    groups = []
    for target in substitutes.targets(context):
        row = [r for r in attacked if r.adversary == substitutes.ADVERSARY]
        last = [r for r in row if r.target == target][-1]
        sheet = []
        for name, of in {"test image": clean, "transferred": last}.items():
            told = read_rounds(context, outcome_folder(target, of))["logits"][chosen]
            images = (
                data.to_float(context.test.images)
                if of is clean
                else read_rounds(context, adversarial_folder(of))["images"]
            )
            probabilities = pictures_shown.softmax(told)
            sheet.append(figures.SheetRow(name, images[chosen], probabilities))
        assert isinstance(last.attack, attacks.Attack)
        title = (
            f"{labels.label_of(last.name, norm=last.attack.norm)} on the substitute of "
            f"{columns_shown.title_of(target)}"
        )
        groups.append(figures.SheetGroup(title, context.test.labels[chosen], sheet))
    if groups:
        picture = figures.projection_sheet(
            groups, class_names=context.dataset.class_names
        )
        yield (
            "transfer",
            html.ReportFigure(
                "Attacks that carry over from a substitute",
                "Images crafted on the substitute of a target, by the last attack of "
                "the config. Under each image: the class that the target itself gives "
                "it and its probability.",
                figures.to_png(picture),
            ),
        )
