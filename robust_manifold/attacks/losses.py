"""What an attack climbs: losses of one logit vector, and the objective of one image."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from robust_manifold.core.criterion import MISCLASSIFIED, Criterion, Targeted, loss_of
from robust_manifold.core.spec import check
from robust_manifold.core.types import (
    Classify,
    Image,
    Label,
    Logits,
    Output,
    Scalar,
    Target,
)

Loss: TypeAlias = Literal["margin", "ce", "dlr", "difference"]

CLASSES_NEEDED = {"dlr": 3}
"""Fewest classes of a loss that needs more than two; 4 where it has a target."""


def margin(logits: Logits, label: Label) -> Scalar:
    """Returns logsumexp of the other classes' logits less the label's logit.

    Cross-entropy is softplus of it, so both rise in the same direction, but the
    margin's gradient does not vanish where the classifier is sure of itself.
    """
    return jax.nn.logsumexp(others(logits, label)) - logits[label]


def cross_entropy(logits: Logits, label: Label) -> Scalar:
    """Returns the cross-entropy; its gradient underflows for large logits."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def difference(logits: Logits, label: Label) -> Scalar:
    """Returns the largest other logit less the label's (Carlini and Wagner 2017)."""
    return jnp.max(others(logits, label)) - logits[label]


def dlr(logits: Logits, label: Label) -> Scalar:
    """Returns the difference of logits ratio (Croce and Hein 2020, equation 6).

    The largest other logit less the label's, over the distance between the largest and
    the third largest, so that neither scale nor shift of the logits matters.  With
    fewer than three classes that can win (the others masked by -inf, say) there is no
    such ratio: the loss is the difference itself.
    """
    ordered = jax.lax.top_k(logits, 3)[0]
    return difference(logits, label) / _divisor(ordered[0] - ordered[2])


def targeted_dlr(logits: Logits, label: Label, target: Label) -> Scalar:
    """Returns the targeted difference of logits ratio (Croce and Hein 2020, eq. 7).

    The target's logit less the label's, over the distance between the largest and the
    mean of the third and the fourth; without it where fewer than four classes can win.
    """
    ordered = jax.lax.top_k(logits, 4)[0]
    divisor = _divisor(ordered[0] - (ordered[2] + ordered[3]) / 2)
    return (logits[target] - logits[label]) / divisor


def others(logits: Logits, label: Label) -> Logits:
    """Returns the logits, the label's as one that is never the largest."""
    return jnp.where(jnp.arange(logits.size) == label, -jnp.inf, logits)


def ranked(logits: Logits, label: Label) -> Logits:
    """Returns the logits to sort the other classes by: the label's alone is -inf.

    Masked classes come before it, as the last that there are.
    """
    lowest = jnp.finfo(logits.dtype).min
    return others(jnp.nan_to_num(logits, nan=lowest), label)


def possible(logits: Logits) -> Bool[Array, " classes"]:
    """Returns which classes can win: those that are not masked by -inf, nor NaN."""
    return logits > -jnp.inf


def _divisor(distance: Scalar) -> Scalar:
    """Returns a distance to divide by: 1 where the quotient or its slope would be NaN.

    That is so of equal logits, and of a class so far below (masked by -inf or the like)
    that the square of the distance, which a gradient divides by, overflows.
    """
    farthest = float(jnp.finfo(distance.dtype).max) ** 0.5
    return jnp.where((distance > 0) & (distance < farthest), distance, 1)


LOSSES: dict[str, Callable[[Logits, Label], Scalar]] = {
    "margin": margin,
    "ce": cross_entropy,
    "dlr": dlr,
    "difference": difference,
}
"""Losses by the names that attacks take; higher is worse for the classifier."""


def finite(array: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns an array with zeros where it is NaN or infinite."""
    return jnp.where(jnp.isfinite(array), array, 0)


class ObjectiveValue(NamedTuple):
    """How good an adversarial image is; any adversarial one beats any other."""

    loss: Scalar
    adversarial: Bool[Array, ""]

    def beats(self, other: "ObjectiveValue") -> Bool[Array, ""]:
        """Returns whether this one is strictly better; a NaN loss never is."""
        gained = self.adversarial & ~other.adversarial
        level = self.adversarial == other.adversarial
        return gained | (level & (self.loss > other.loss))


class GradientEvaluation(NamedTuple):
    """An evaluation and the gradient of its loss, from one backward pass."""

    evaluation: ObjectiveValue
    gradient: Image


class Candidate(NamedTuple):
    """An image with its evaluation."""

    image: Image
    evaluation: ObjectiveValue

    @classmethod
    def nothing(cls, image: Image) -> "Candidate":
        """Returns the image as one that anything with a loss beats."""
        lowest = jnp.full((), -jnp.inf, image.dtype)
        return cls(image, ObjectiveValue(lowest, jnp.bool_(False)))

    def better_of(self, other: "Candidate") -> "Candidate":
        """Returns `other` if it is strictly better, this one otherwise."""
        better = other.evaluation.beats(self.evaluation)
        return optax.tree.where(better, other, self)


def best_of(candidates: Candidate) -> Candidate:
    """Returns the best of candidates stacked along a leading axis."""
    loss, adversarial = candidates.evaluation
    eligible = adversarial == adversarial.any()
    best = jnp.argmax(jnp.where(eligible & ~jnp.isnan(loss), loss, -jnp.inf))
    return jax.tree.map(lambda leaf: leaf[best], candidates)


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss of a classifier on candidates for one image.

    Where a class is to be left, it is the named loss of class `label`.  Where one is
    to be reached, it is the same loss of that class, with the opposite sign; for "dlr"
    the targeted ratio against the largest other logit.  Any other criterion brings its
    own loss.
    """

    classify: Classify
    label: Target
    loss: Loss = "margin"
    criterion: Criterion = MISCLASSIFIED

    def __post_init__(self):
        classify, criterion = self.criterion.reduced(self.classify, self.label)
        object.__setattr__(self, "classify", classify)
        object.__setattr__(self, "criterion", criterion)

    @property
    def targeted(self) -> bool:
        """Whether `label` is a class to be reached."""
        return isinstance(self.criterion, Targeted)

    def succeeds(self, logits: Output) -> Bool[Array, ""]:
        """Returns whether the output is what the attack wants."""
        return self.criterion.succeeds(logits, self.label)

    def of(self, logits: Output) -> ObjectiveValue:
        """Returns the evaluation of one output, such as a vector of logits."""
        if not self.criterion.classes:
            loss = loss_of(self.criterion, logits, self.label)
            return ObjectiveValue(loss, self.succeeds(logits))
        if self.targeted and self.loss == "dlr":
            # The plain ratio is constant while the target's logit is the third.
            leader = jnp.argmax(others(logits, self.label))
            loss = targeted_dlr(logits, leader, self.label)
        else:
            loss = LOSSES[self.loss](logits, self.label)
            loss = -loss if self.targeted else loss
        return ObjectiveValue(loss, self.succeeds(logits))

    def evaluate(self, image: Image) -> ObjectiveValue:
        """Returns the evaluation of a candidate: one forward pass."""
        return self.of(self.classify(image))

    def candidate(self, image: Image) -> Candidate:
        """Returns the image with its evaluation: one forward pass."""
        return Candidate(image, self.evaluate(image))

    def evaluate_with_gradient(self, image: Image) -> GradientEvaluation:
        """Returns the evaluation and its gradient: one forward, one backward pass.

        Non-finite entries of the gradient are set to zero, for one of them would
        spoil every pixel of a normalised step.
        """

        def loss(candidate: Image) -> tuple[Scalar, ObjectiveValue]:
            evaluation = self.evaluate(candidate)
            return evaluation.loss, evaluation

        gradient, evaluation = jax.grad(loss, has_aux=True)(image)
        return GradientEvaluation(evaluation, finite(gradient))


def check_loss(attack: Any, *more: str) -> None:
    """Raises a `UsageError` unless the attack's `loss` is known.

    Args:
      attack: the spec.
      *more: losses that this attack alone has.
    """
    known = (*get_args(Loss), *more)
    check(attack.loss in known, attack, "loss", " or ".join(known))


def with_enough_classes(attack: Any, classes: int, targeted: bool = False) -> Any:
    """Returns the attack, with the margin where its loss needs more classes."""
    needed = CLASSES_NEEDED.get(attack.loss, 2)
    if targeted and attack.loss == "dlr":
        needed = 4
    if classes >= needed:
        return attack
    return dataclasses.replace(attack, loss="margin")
