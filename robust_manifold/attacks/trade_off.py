"""What attacks weigh against the distance: how far logits are from what is wanted.

Carlini and Wagner (2017) minimise distance + c * max(z_y - max_j z_j + kappa, 0), and
search for the smallest constant c that still succeeds.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from robust_manifold.attacks.base import Passes, Problem, Queries, SteppedAttack
from robust_manifold.attacks.losses import finite
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, Output, Scalar

_FACTOR = 10
"""By which the constant rises until an adversarial image is found."""
_LARGEST = 1e10


@runtime_checkable
class Rounds(Protocol):
    """The state of a search in rounds."""

    @property
    def rounds(self) -> Int[Array, ""]:
        """Those that are done; all of them once the search is over."""
        ...


State = TypeVar("State", bound=Rounds)


@dataclasses.dataclass(frozen=True)
class RoundSearch(SteppedAttack[State]):
    """A search in rounds of Adam's steps; `CarliniWagner` says what its fields mean."""

    ends_early: ClassVar[bool] = True

    binary_search_steps: int
    steps: int
    learning_rate: float
    initial_const: float
    confidence: float
    abort_early: bool
    normalise: bool

    @property
    def iterations(self) -> int:
        """All steps of all rounds."""
        return self.binary_search_steps * self.steps

    def passes(self, classes: int) -> Passes:
        """Returns the cost: the clean image, then a gradient a step."""
        return Passes(begin=Queries(1, 0), step=Queries(1, 1))

    def ended(self, state: State) -> Bool[Array, ""]:
        """Returns whether all rounds are done, or as good as done."""
        return state.rounds >= self.binary_search_steps


class Look(NamedTuple):
    """What one look at an image tells."""

    shortfall: Scalar
    """How far the logits are from what is wanted; 0 once they are there."""
    adversarial: Bool[Array, ""]
    """Whether the attack has succeeded with the confidence asked for."""


class Sloped(NamedTuple):
    """A look, with the direction in which the shortfall falls fastest."""

    look: Look
    descent: Image
    """Minus the gradient of the shortfall, without its end at 0: the way on."""


class Goal(NamedTuple):
    """What an attack wants of the logits, in units of one image's own shortfall."""

    scale: Scalar
    """Units in a logit."""
    confidence: Scalar
    """Logits by which the attack is to win."""

    @classmethod
    def of(
        cls, problem: Problem, confidence: float, normalise: bool
    ) -> tuple["Goal", Bool[Array, ""]]:
        """Returns the goal, and whether the image is there already: one forward pass.

        Args:
          problem: the image and its classifier.
          confidence: logits by which to win.
          normalise: measure in units of the clean image's shortfall, so that the scale
            of the logits changes nothing; otherwise in logits.
        """
        dtype = problem.image.dtype
        goal = cls(jnp.ones((), dtype), jnp.asarray(confidence, dtype))
        look = goal.look(problem, problem.classify(problem.image))
        if normalise:
            scale = (1 / look.shortfall).astype(dtype)
            goal = goal._replace(scale=jnp.where(jnp.isfinite(scale), scale, 1))
        return goal, look.adversarial

    def look(self, problem: Problem, logits: Output) -> Look:
        """Returns how far the logits are from the goal."""
        return Look(
            jnp.maximum(0, self._gap(problem, logits)), self._met(problem, logits)
        )

    def slope(self, problem: Problem, image: Image) -> Sloped:
        """Returns the look at an image and its slope: a forward, a backward pass."""

        def gap(image: Image) -> tuple[Scalar, Bool[Array, ""]]:
            logits = problem.classify(image)
            return self._gap(problem, logits), self._met(problem, logits)

        (gap_, met), gradient = jax.value_and_grad(gap, has_aux=True)(image)
        return Sloped(Look(jnp.maximum(0, gap_), met), -finite(gradient))

    def _gap(self, problem: Problem, logits: Output) -> Scalar:
        lead = problem.objective("difference").of(logits).loss
        return (self.confidence - lead) * self.scale

    def _met(self, problem: Problem, logits: Output) -> Bool[Array, ""]:
        """Returns whether the attack succeeds by the confidence asked for."""
        if not problem.criterion.classes:
            lead = problem.objective().of(logits).loss
            return problem.succeeds(logits) & (lead >= self.confidence)
        handicap = -self.confidence if problem.targeted else self.confidence
        handicap = handicap.astype(logits.dtype)
        return problem.succeeds(logits.at[problem.label].add(handicap))


class Constant(NamedTuple):
    """A binary search for the smallest constant with which the attack succeeds."""

    value: Scalar
    lower: Scalar
    upper: Scalar

    @classmethod
    def starting(cls, value: float, like: Array) -> "Constant":
        """Returns the search before its first round."""
        return cls(*(jnp.asarray(number, like.dtype) for number in (value, 0, np.inf)))

    def after(
        self, found: Bool[Array, ""], repeat: Bool[Array, ""] | bool
    ) -> "Constant":
        """Returns the search one round on.

        Args:
          found: whether an adversarial image was met in the round.
          repeat: whether to take the least constant known to succeed once more.
        """
        upper = jnp.where(found, self.value, self.upper)
        lower = jnp.where(found, self.lower, self.value)
        tenfold, middle = self.value * _FACTOR, (lower + upper) / 2
        value = jnp.where(jnp.isinf(upper), tenfold, middle)
        value = jnp.where(repeat, jnp.minimum(upper, _LARGEST), value)
        return Constant(value, lower, upper)


def first_constant(attack: Any) -> float:
    """Returns the first round's constant: the field's, or what suits its units."""
    return attack.initial_const or (1.0 if attack.normalise else 1e-3)


class RoundProgress(NamedTuple):
    """What is known of a round's loss: whether it has stopped falling.

    A stall counts only once the loss has fallen.  Before that it is a start: where a
    change of variables is flat, as it is for black and for white pixels, the loss stays
    as it was for many steps, and then falls.
    """

    loss: Scalar
    """When it was last looked at; infinite before the first look."""
    fallen: Bool[Array, ""]
    """Whether a look found it lower than the one before."""
    stalled: Bool[Array, ""]
    """Whether the last tenth of the round's steps brought no gain."""

    @classmethod
    def starting(cls, like: Array) -> "RoundProgress":
        """Returns what is known before a round's first step."""
        false = jnp.bool_(False)
        return cls(jnp.full((), jnp.inf, like.dtype), false, false)

    def after(
        self, taken: Array, steps: int, loss: Scalar, moved: Bool[Array, ""]
    ) -> "RoundProgress":
        """Returns what is known one step on.

        Args:
          taken: steps so far.
          steps: of a round.
          loss: now.
          moved: whether any pixel is not where it was when the round began; where none
            is, there is no slope to follow, and the wait would be in vain.
        """
        due = (taken - 1) % math.ceil(steps / 10) == 0
        gained = loss <= 0.9999 * self.loss
        fallen = self.fallen | (due & gained & jnp.isfinite(self.loss))
        stalled = due & ~gained & (fallen | ~moved)
        return RoundProgress(jnp.where(due, loss, self.loss), fallen, stalled)


def repeats(rounds: int, next_round: Array) -> Bool[Array, ""] | bool:
    """Returns whether the next round is the last of a long search: it is a repeat."""
    return (next_round == rounds - 1) if rounds >= 10 else False


def check_search(attack: Any) -> None:
    """Raises a `UsageError` unless the fields shared by all such searches are valid."""
    for field in ("binary_search_steps", "steps"):
        whole = getattr(attack, field) is None or is_whole(getattr(attack, field), 1)
        check(whole, attack, field, "a whole number, 1 or more")
    for field in ("learning_rate", "initial_const"):
        value = getattr(attack, field)
        fits = value is None or 0 < value < math.inf
        check(fits, attack, field, "a finite number above 0")
    fits = 0 <= attack.confidence < math.inf
    check(fits, attack, "confidence", "a finite number, 0 or more")
