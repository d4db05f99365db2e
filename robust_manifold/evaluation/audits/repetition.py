"""Checks of one and the same question asked twice: keys, batch mates, training mode."""

import numpy as np
from jaxtyping import Bool, Float, Int

from robust_manifold.evaluation.audits.check import Check, judged, percent, some

KEYS = "random keys"
BATCH_MATES = "batch mates"
TRAINING_MODE = "training mode"

ROUNDING = 1e-3
"""Difference of logits that other sums of the same numbers make, as a share of the
largest logit."""

VARYING = 0.02
"""Share of the images whose prediction may change with the key."""


def same_for_all_keys(
    predictions: Int[np.ndarray, "keys n"],
    adversarial: Int[np.ndarray, "more n"] | None = None,
    labels: Int[np.ndarray, " n"] | None = None,
) -> Check:
    """Returns whether predictions vary with the key of a random classifier.

    Args:
      predictions: of the clean images, under several keys.
      adversarial: of the attacked images, the first row under the key that the
        attack was counted with (fixed), the others under fresh ones.
      labels: the true classes, where `adversarial` is given.
    """
    varying = (predictions != predictions[0]).any(axis=0)
    told = (
        f"With another key the prediction of {some(int(varying.sum()), varying.size)} "
        "becomes another"
    )
    if adversarial is not None and labels is not None:
        right = (adversarial == labels).mean(axis=1)
        told += (
            f"; attacked images: {percent(right[0])} right under the key they were "
            f"counted with, {percent(right[1:].mean())} under fresh keys"
        )
        varying = varying | (adversarial != adversarial[0]).any(axis=0)
    value = float(varying.mean())
    if value <= VARYING:
        return judged(False, KEYS, value, f"{told}.")
    return judged(
        True,
        KEYS,
        value,
        f"{told}. A random classifier is to be attacked through the mean over keys, "
        "and reported with fixed and with fresh keys.",
    )


def same_with_any_mates(
    together: Float[np.ndarray, "n ..."], alone: Float[np.ndarray, "n ..."]
) -> Check:
    """Returns whether an image's logits depend on the other images of its batch.

    Args:
      together: logits of all images as one batch.
      alone: logits of each as a batch of its own.
    """
    changed = differing(together, alone)
    value = float(changed.mean())
    if not value:
        return judged(
            False,
            BATCH_MATES,
            value,
            "Logits do not depend on the batch's other images.",
        )
    return judged(
        True,
        BATCH_MATES,
        value,
        f"The logits of {some(int(changed.sum()), len(changed))} depend on the other "
        "images of the batch, as with a batch norm that is left in training mode: the "
        "attack and the count are of different classifiers.",
    )


def same_as_evaluated(
    evaluated: Float[np.ndarray, "n ..."],
    first: Float[np.ndarray, "n ..."],
    second: Float[np.ndarray, "n ..."],
) -> Check:
    """Returns whether the user's own batched function is the attacked one, repeatably.

    Args:
      evaluated: logits by the function of one image, which is attacked.
      first: logits by the function of a batch.
      second: the same, called again.
    """
    moved, other = differing(first, second), differing(evaluated, first)
    if moved.any():
        return judged(
            True,
            TRAINING_MODE,
            float(moved.mean()),
            f"Called twice, the classifier changes the logits of "
            f"{some(int(moved.sum()), len(moved))}, as with dropout or statistics that "
            "are left in training mode.",
        )
    if other.any():
        return judged(
            True,
            TRAINING_MODE,
            float(other.mean()),
            f"For {some(int(other.sum()), len(other))} the attacked classifier has "
            "other logits than the one that is used on batches: one of them is in "
            "training mode.",
        )
    return judged(
        False, TRAINING_MODE, 0.0, "The attacked classifier is the one that is used."
    )


def differing(
    a: Float[np.ndarray, "n ..."], b: Float[np.ndarray, "n ..."]
) -> Bool[np.ndarray, " n"]:
    """Returns which images' outputs differ by more than rounding."""
    a, b = (array.reshape(len(array), -1) for array in (a, b))
    scale = np.maximum(np.abs(a), np.abs(b)).max(axis=1, keepdims=True)
    if scale.size == a.size:
        # A single output near 0 is a difference of larger numbers.
        scale = scale.max()
    with np.errstate(invalid="ignore"):
        far = np.abs(a - b) > ROUNDING * scale
    return (far | (np.isnan(a) != np.isnan(b))).any(axis=1)
