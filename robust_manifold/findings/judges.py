"""The judges of a run: who says whether two images still read as one class."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from robust_manifold import evaluation
from robust_manifold.findings import columns
from robust_manifold.reporting import ShownPair, pair_sheet, to_png
from robust_manifold.reporting.tables import MISSING
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained

_HEADS = {"unchanged": "Still one class", "changed": "Another class"}
"""Of the columns, by the verdict whose share they hold."""
NEIGHBOURS = "nearest neighbour"
"""The name of the judge that every run has."""
SHOWN = 12
"""Pairs of a sheet."""


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


def sheet(
    context: Context,
    images: Float[np.ndarray, "pairs 2 height width channels"],
    logits: Float[np.ndarray, "pairs 2 classes"],
    distances: Float[np.ndarray, " pairs"],
    verdicts: np.ndarray,
) -> bytes:
    """Returns a picture of pairs, with what is seen in each, as a PNG file.

    Args:
      context: the run.
      images: pixels in [0, 1].
      logits: of each image.
      distances: between the images of each pair.
      verdicts: of these pairs, and perhaps of more after them.
    """
    told = zip(images, columns.softmax(logits), distances, verdicts, strict=False)
    pairs = [ShownPair(x, p, float(d), verdict=str(v)) for x, p, d, v in told]
    names = columns.class_names(context, logits.shape[-1])
    return to_png(pair_sheet(pairs, class_names=names))


def asked(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the judges that were asked, of lines with their "judges"."""
    names = dict.fromkeys(each["judge"] for line in lines for each in line["judges"])
    return [name for name in names if name != evaluation.TOGETHER]


def shares(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Returns the columns of a table that hold what judges say, by their heads.

    They are the shares of all judges together, and where there are several what each
    of them takes for another class.
    """
    columns = {
        head: [_share(line, evaluation.TOGETHER, verdict) for line in lines]
        for verdict, head in _HEADS.items()
    }
    if len(names := asked(lines)) > 1:
        for name in names:
            columns[f"Another, {name}"] = [
                _share(line, name, "changed", interval=False) for line in lines
            ]
    return columns


def _share(
    line: Mapping[str, Any], judge: str, verdict: str, *, interval: bool = True
) -> str:
    """Returns the share of a verdict, as a judge gives it, for a cell of a table."""
    for found in line["judges"]:
        if (found["judge"], found["verdict"]) == (judge, verdict):
            low, high = (100 * end for end in found["interval"])
            text = f"{100 * found['share']:.1f} %"
            return f"{text} [{low:.1f}, {high:.1f}]" if interval else text
    return MISSING
