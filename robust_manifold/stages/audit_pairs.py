"""Sanity checks of the latent pairs that are reported of a column's classifier."""

from collections.abc import Iterator

import numpy as np

from robust_manifold import evaluation
from robust_manifold.config import Column
from robust_manifold.core import batching
from robust_manifold.evaluation import Check
from robust_manifold.evaluation.audits import projections
from robust_manifold.evaluation.audits.check import skipped
from robust_manifold.evaluation.judge import UNSURE
from robust_manifold.stages import latent_pairs, trained
from robust_manifold.stages.context import Context


def checks_of_pairs(context: Context, column: Column) -> Iterator[Check]:
    """Yields whether the pairs of each search hold, and still read as one class.

    The classifier is asked again about the images as they are stored, and the nearest
    training image is the judge, where it is sure of both.
    """
    for name, spec in latent_pairs.searched(context):
        if not column.projects or name != column.classifier:
            continue
        pairs = latent_pairs.stored_pairs(context, (name, spec))
        file = latent_pairs.verdicts_file(name, spec)
        reads = context.folder.read_npz(file)["reads"]
        sure = reads[(reads != UNSURE).all(axis=-1)]
        text = latent_pairs.text_of(spec)
        judged = projections.judged_as_one(sure)
        if len(reads) and not len(sure):
            judged = skipped(projections.JUDGE, "the judge is unsure of every pair")
        for check in (
            projections.pairs_hold(_again(context, name, pairs), spec.eta, spec.norm),
            judged,
        ):
            yield check._replace(sentence=f"{text}: {check.sentence}")


def _again(
    context: Context, name: str, pairs: dict[str, np.ndarray]
) -> evaluation.LatentPairs:
    """Returns the stored pairs with what the classifier says of them now."""
    images = pairs["images"]
    logits = batching.apply_examples(
        context.classifier_of(name).apply,
        trained.load_classifier(context, name),
        images.reshape(-1, *images.shape[2:]),
    )
    logits = np.asarray(logits).reshape(pairs["logits"].shape)
    # A tie may be broken otherwise where rounding is: that is no other answer.
    close = np.isclose(logits, pairs["logits"], rtol=1e-3, atol=1e-3)
    same = np.asarray(close.all(axis=(1, 2)))
    logits = np.where(same[:, None, None], pairs["logits"], logits)
    return evaluation.LatentPairs(images, logits, pairs["found"])
