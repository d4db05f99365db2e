"""Checks of gradients and logits: whether an attack can see where to go."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from robust_manifold.attacks.outputs import BLIND
from robust_manifold.evaluation.audits.check import Check, judged, paired, percent, some

CROSS_ENTROPY = "cross-entropy"
LOGIT_SCALE = "scale of the logits"
PROBABILITIES = "probabilities"
CLASSES = "classes of the loss"

CLASSIFIER, DEFENDED, SEEN = "the classifier", "the defended classifier", "the view"
"""The stages at which a gradient is looked at."""


def of_stage(stage: str) -> str:
    """Returns the name of the check of the gradients of a stage.

    >>> of_stage(CLASSIFIER)
    'gradients of the classifier'
    """
    return f"gradients of {stage}"


ASTRAY = 0.05
"""The same for the cross-entropy, which attacks of this package do not climb."""
SAME_WAY = 0.9
"""Cosine from which on two gradients point the same way."""


class GradientShares(NamedTuple):
    """How many gradients of single images are of no use, of each kind.

    Attributes:
      n: number of images.
      zero: every entry is 0.
      broken: some entry is NaN or infinite.
      denormal: the largest entry is too small for full precision.
    """

    n: int
    zero: int
    broken: int
    denormal: int

    @property
    def useless(self) -> int:
        """How many are of any of these kinds."""
        return self.zero + self.broken + self.denormal


def gradient_shares(
    gradients: Float[np.ndarray, "n height width channels"],
) -> GradientShares:
    """Returns how many gradients, one an image, lead nowhere."""
    flat = np.abs(gradients.reshape(len(gradients), -1))
    broken = ~np.isfinite(flat).all(axis=1)
    largest = np.where(broken, 1, flat.max(axis=1))
    tiny = np.finfo(gradients.dtype).tiny
    return GradientShares(
        n=len(gradients),
        zero=int(np.sum(largest == 0)),
        broken=int(np.sum(broken)),
        denormal=int(np.sum((largest > 0) & (largest < tiny))),
    )


def useful_gradients(
    gradients: Float[np.ndarray, "n height width channels"], stage: str
) -> Check:
    """Returns whether the gradients of an attack's loss lead anywhere.

    Args:
      gradients: of the loss by each clean image.
      stage: what they are of: `CLASSIFIER`, `DEFENDED` or `SEEN`.
    """
    found = gradient_shares(gradients)
    name, value = of_stage(stage), found.useless / found.n
    kinds = {
        "a zero gradient": found.zero,
        "a NaN or infinite gradient": found.broken,
        "a gradient below the smallest normal number": found.denormal,
    }
    if value <= BLIND:
        return judged(
            False,
            name,
            value,
            f"{percent(value)} of the images had a zero, NaN or denormal gradient "
            f"through {stage}.",
        )
    told = ", ".join(
        f"{percent(count / found.n)} of the images had {kind}"
        for kind, count in kinds.items()
        if count
    )
    return judged(
        True,
        name,
        value,
        f"{told} through {stage}: the white-box figure is not evidence of robustness.",
    )


def followed_cross_entropy(
    gradients: Float[np.ndarray, "n height width channels"],
    directions: Float[np.ndarray, "n height width channels"],
) -> Check:
    """Returns whether an attack by the cross-entropy would go the right way.

    Cross-entropy is softplus of the margin, so in exact arithmetic both gradients
    point the same way; in floats one minus the label's probability rounds to zero.

    Args:
      gradients: of the cross-entropy by each clean image.
      directions: of the margin, which does not underflow.
    """
    shares = gradient_shares(gradients)
    cosines = _cosines(gradients, directions)
    astray = int(np.sum(~(cosines >= SAME_WAY)))
    value = astray / shares.n
    told = (
        f"The gradient of the cross-entropy vanishes or points elsewhere than the "
        f"margin's for {some(astray, shares.n)}"
    )
    if value > ASTRAY:
        told += (
            ", since the logits are that large or no gradient comes through: attacks "
            "that climb it overrate this classifier"
        )
    return judged(value > ASTRAY, CROSS_ENTROPY, value, f"{told}.")


def _cosines(
    a: Float[np.ndarray, "n height width channels"],
    b: Float[np.ndarray, "n height width channels"],
) -> Float[np.ndarray, " n"]:
    """Returns the cosine between two arrays of each image; NaN where one is zero."""
    rows = [array.reshape(len(array), -1).astype(np.float64) for array in (a, b)]
    with np.errstate(invalid="ignore", divide="ignore"):
        # By their largest entries first, so that no square underflows.
        rows = [row / np.max(np.abs(row), axis=1, keepdims=True) for row in rows]
        rows = [row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows]
        return np.sum(rows[0] * rows[1], axis=1)


def same_at_all_scales(
    scales: Float[np.ndarray, " scales"], broken: Bool[np.ndarray, "scales n"]
) -> Check:
    """Returns whether the size of the logits weakens an attack.

    Multiplied by a positive number, logits decide as before.

    Args:
      scales: factors of the logits; the first is 1.
      broken: whether each image fell to the attack at each of them.
    """
    rights = 1 - broken.mean(axis=1)
    # Small logits may weaken an attack, which misleads nobody: large ones must not, and
    # no other scale may do better than that of the figures.
    stronger = [
        paired(broken[one], broken[other]).second_is_stronger
        for one in range(len(scales))
        for other in range(len(scales))
        if scales[other] < scales[one] or one == 0
    ]
    value = float(rights.max() - rights.min())
    told = ", ".join(
        f"{percent(right)} at {scale:.3g} times"
        for scale, right in zip(scales, rights, strict=True)
    )
    if not any(stronger):
        return judged(
            False,
            LOGIT_SCALE,
            value,
            f"The size of the logits does not weaken the attack: {told} stay right.",
        )
    return judged(
        True,
        LOGIT_SCALE,
        value,
        "Multiplying the logits, which changes no decision, changes what the attack "
        f"finds: {told} stay right. Its loss underflows; climb the margin instead.",
    )


def no_probabilities(logits: Float[np.ndarray, "n ..."], classes: bool = True) -> Check:
    """Returns whether outputs on clean images are numbers, and no probabilities.

    Args:
      logits: the outputs.
      classes: whether they are of classes, whose probabilities add up to 1.
    """
    # Masks by the lowest float have no sum.
    inside = (logits >= 0).all() and (logits <= 1).all()
    # Of one image alone, true logits may happen to add up to 1.
    several = classes and inside and len(logits) > 1
    if several and np.allclose(logits.sum(axis=-1), 1, atol=1e-3):
        return judged(
            True,
            PROBABILITIES,
            1.0,
            "The outputs lie in [0, 1] and add up to 1: they are probabilities, whose "
            "gradients vanish where the classifier is sure. Attack the logits before "
            "the softmax.",
        )
    broken = int(np.isnan(logits).reshape(len(logits), -1).any(axis=-1).sum())
    if broken:
        return judged(
            True,
            PROBABILITIES,
            broken / len(logits),
            f"The outputs of {some(broken, len(logits))} are NaN, which no attack can "
            "turn into a success.",
        )
    told = "no probabilities" if classes else "numbers"
    return judged(False, PROBABILITIES, 0.0, f"The outputs are {told}.")


def enough_classes(classes: int, given: str, made: str) -> Check:
    """Returns whether the attack's loss has as many classes as it needs.

    Args:
      classes: of the classifier.
      given: the attack, as text.
      made: the attack that so many classes allow.
    """
    if given == made:
        return judged(
            False, CLASSES, float(classes), f"The loss suits {classes} classes."
        )
    return judged(
        True,
        CLASSES,
        float(classes),
        f"{given} needs more than {classes} classes: {made} was made in its place.",
    )
