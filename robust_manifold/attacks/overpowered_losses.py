"""What the overpowered attack climbs: how differently two images are classified."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.attacks import losses
from robust_manifold.core.spec import check
from robust_manifold.core.types import Logits, Scalar

PairLoss: TypeAlias = Literal["margin", "logits", "probabilities", "symmetric_ce"]


def class_change(first: Logits, second: Logits) -> Scalar:
    """Returns how surely the two are told apart: above 0, their classes differ.

    Of all two different classes i and j those for which the lesser of two leads is
    largest: that of i over the log-sum-exp of the rest in the first logits, and that of
    j in the second.  The minimum is softened, so that both images move; where they are
    told apart already, they go on to be.
    """
    leads = _leads(first)[:, None], _leads(second)[None]
    least = -jnp.logaddexp(-leads[0], -leads[1])
    same = jnp.eye(first.size, dtype=bool)
    return jnp.max(jnp.where(same, -jnp.inf, least))


def logit_distance(first: Logits, second: Logits) -> Scalar:
    """Returns the squared Euclidean distance of the logits.

    Classes that are masked in both, by -inf, are at no distance.
    """
    same = first == second
    difference = jnp.where(same, 0, first) - jnp.where(same, 0, second)
    return jnp.sum(difference**2)


def probability_distance(first: Logits, second: Logits) -> Scalar:
    """Returns the squared Euclidean distance of the probabilities, at most 2."""
    return logit_distance(jax.nn.softmax(first), jax.nn.softmax(second))


def symmetric_cross_entropy(first: Logits, second: Logits) -> Scalar:
    """Returns the cross-entropy of each against the other's probabilities, summed.

    Of equal logits it is twice their entropy, not 0.
    """
    return _cross_entropy(first, second) + _cross_entropy(second, first)


def _cross_entropy(logits: Logits, others: Logits) -> Scalar:
    """Returns the cross-entropy against the others' probabilities; 0 log 0 is 0."""
    probabilities, surprise = jax.nn.softmax(others), -jax.nn.log_softmax(logits)
    return jnp.sum(probabilities * jnp.where(probabilities > 0, surprise, 0))


PAIR_LOSSES: dict[str, Callable[[Logits, Logits], Scalar]] = {
    "margin": class_change,
    "logits": logit_distance,
    "probabilities": probability_distance,
    "symmetric_ce": symmetric_cross_entropy,
}
"""By the names that the overpowered attack takes; all are to be made large."""


def check_pair_loss(attack: Any) -> None:
    """Raises a `UsageError` unless the attack's `loss` is one of pairs."""
    known = get_args(PairLoss)
    check(attack.loss in known, attack, "loss", " or ".join(known))


def _leads(logits: Logits) -> Float[Array, " classes"]:
    """Returns how far each class leads the log-sum-exp of all others."""
    return -jax.vmap(losses.margin, (None, 0))(logits, jnp.arange(logits.size))
