"""The judges of a run: who says whether two images still read as one class."""

from collections.abc import Iterator, Mapping
from typing import Any

from robust_manifold import evaluation
from robust_manifold.reporting.tables import MISSING
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained

TOGETHER = "all judges"
"""The judge that stands for all of them."""
VERDICTS = {"unchanged": "Still one class", "changed": "Another class"}
"""Heads of the columns, by the verdict whose share they hold."""
NEIGHBOURS = "nearest neighbour"
"""The name of the judge that every run has."""


def judges_of(context: Context, classifier: str) -> list[evaluation.Judge]:
    """Returns the judges of what was found against a classifier.

    They are the nearest training image, and the table's other classifiers that share
    no parameters with this one.

    Args:
      context: the run.
      classifier: the name of the attacked one.
    """
    return [neighbour_judge(context), *_classifiers(context, classifier)]


def neighbour_judge(context: Context) -> evaluation.NeighbourJudge:
    """Returns the judge that no network's mistake can mislead."""
    train = context.data.dataset.train
    return evaluation.NeighbourJudge(NEIGHBOURS, train.images, train.labels)


def told(judgement: evaluation.Judgement) -> list[dict[str, Any]]:
    """Returns what judges say as plain values."""
    return [
        {**line._asdict(), "interval": list(line.interval)} for line in judgement.lines
    ]


def _classifiers(
    context: Context, attacked: str
) -> Iterator[evaluation.ClassifierJudge]:
    experiment = context.experiment
    own = {attacked, *experiment.starts_of(attacked)}
    for name in experiment.evaluation.classifiers:
        if not own & {name, *experiment.starts_of(name)}:
            yield evaluation.ClassifierJudge(
                name,
                context.networks.classifier_of(name).apply,
                trained.load_classifier(context, name),
            )


def share_text(
    line: Mapping[str, Any], judge: str, verdict: str, *, interval: bool = True
) -> str:
    """Returns the share of a verdict, as a judge gives it, for a cell of a table."""
    for found in line["judges"]:
        if (found["judge"], found["verdict"]) == (judge, verdict):
            low, high = (100 * end for end in found["interval"])
            text = f"{100 * found['share']:.1f} %"
            return f"{text} [{low:.1f}, {high:.1f}]" if interval else text
    return MISSING
