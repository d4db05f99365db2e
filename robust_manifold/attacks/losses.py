"""What an attack climbs: losses of one logit vector, and the objective of one image."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from robust_manifold.core.spec import check
from robust_manifold.core.types import Classify, Image, Label, Logits, Scalar

Loss: TypeAlias = Literal["margin", "ce"]


def margin(logits: Logits, label: Label) -> Scalar:
    """Returns logsumexp of the other classes' logits less the label's logit.

    Cross-entropy is softplus of it, so both rise in the same direction, but the
    margin's gradient does not vanish where the classifier is sure of itself.
    """
    others = jnp.where(jnp.arange(logits.size) == label, -jnp.inf, logits)
    return jax.nn.logsumexp(others) - logits[label]


def cross_entropy(logits: Logits, label: Label) -> Scalar:
    """Returns the cross-entropy; its gradient underflows for large logits."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


LOSSES: dict[str, Callable[[Logits, Label], Scalar]] = {
    "margin": margin,
    "ce": cross_entropy,
}
"""Losses by the names that attacks take; higher is worse for the classifier."""


class Evaluation(NamedTuple):
    """How good an adversarial image is; any adversarial one beats any other."""

    loss: Scalar
    adversarial: Bool[Array, ""]

    def beats(self, other: "Evaluation") -> Bool[Array, ""]:
        """Returns whether this one is strictly better; a NaN loss never is."""
        gained = self.adversarial & ~other.adversarial
        level = self.adversarial == other.adversarial
        return gained | (level & (self.loss > other.loss))


class GradientEvaluation(NamedTuple):
    """An evaluation and the gradient of its loss, from one backward pass."""

    evaluation: Evaluation
    gradient: Image


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss of a classifier on candidates for one image of class `label`."""

    classify: Classify
    label: Label
    loss: Loss = "margin"

    def evaluate(self, image: Image) -> Evaluation:
        """Returns the evaluation of a candidate: one forward pass."""
        logits = self.classify(image)
        loss = LOSSES[self.loss](logits, self.label)
        # The largest NaN wins an argmax: a broken logit is not an adversarial one.
        wrong = (jnp.argmax(logits) != self.label) & ~jnp.isnan(logits).any()
        return Evaluation(loss, wrong)

    def evaluate_with_gradient(self, image: Image) -> GradientEvaluation:
        """Returns the evaluation and its gradient: one forward, one backward pass.

        Non-finite entries of the gradient are set to zero, for one of them would
        spoil every pixel of a normalised step.
        """

        def loss(candidate: Image) -> tuple[Scalar, Evaluation]:
            evaluation = self.evaluate(candidate)
            return evaluation.loss, evaluation

        gradient, evaluation = jax.grad(loss, has_aux=True)(image)
        gradient = jnp.where(jnp.isfinite(gradient), gradient, 0)
        return GradientEvaluation(evaluation, gradient)


def check_loss(attack: Any) -> None:
    """Raises a `UsageError` unless the attack's `loss` is known."""
    check(attack.loss in LOSSES, attack, "loss", " or ".join(get_args(Loss)))
