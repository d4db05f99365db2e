"""What an attack wants of a network's output: success, and a loss that leads to it.

A criterion is a frozen dataclass, hashed by value.  It looks at the output for ONE
image and at that image's target, which may be a class, a row of labels or a number;
the targets of many images have a leading axis.

Its `loss` grows towards success and is above 0 where, and only where, the attack has
succeeded (a loss of exactly 0 may be either).  Attacks climb it, and those that look
for the nearest adversarial image search for the place where it crosses 0.
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from robust_manifold.core.checks import checked_labels
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import Output, Scalar

criteria: "Registry[Criterion]" = Registry("criterion")
"""The criteria by the names that configs use."""


class Criterion(abc.ABC):
    """Base class of all criteria: subclasses are frozen dataclasses."""

    classes: ClassVar[bool] = False
    """Whether outputs are logits of classes and targets are classes.

    Attacks that need classes, such as DeepFool, take no other criterion.
    """

    @abc.abstractmethod
    def loss(self, output: Any, target: Any) -> Scalar:
        """Returns the loss of one output: above 0 only where `succeeds`."""

    @abc.abstractmethod
    def succeeds(self, output: Any, target: Any) -> Bool[Array, ""]:
        """Returns whether the attack has what it wants; never where a value is NaN."""

    def seen(self, output: Any, target: Any) -> Any:
        """Returns outputs as attacks look at them; of many, with a leading axis."""
        del target
        return output

    def reduced(
        self, classify: Callable[[Any], Any], target: Any
    ) -> tuple[Callable[[Any], Any], "Criterion"]:
        """Returns a network as attacks look at it, and what they want of that."""
        del target
        return classify, self

    def classes_among(self, outputs: int) -> int:
        """Returns how many of the entries of an output attacks look at."""
        return outputs

    def widened(self, output: Any) -> Any:
        """Returns what attacks look at as an output of the network; undoes `seen`."""
        return output

    def misfit(self, output: Any, answer: Any) -> Scalar:
        """Returns the loss with which a network learns the answers of another one.

        A criterion on classes needs none: the cross-entropy is theirs.

        Raises:
          UsageError: unless the criterion has one.
        """
        del output, answer
        raise UsageError(
            f"criterion is {self!r}, which does not say how its outputs are learned; "
            "allowed: a criterion on classes, or one with a method `misfit`."
        )

    @abc.abstractmethod
    def check(self, output: jax.ShapeDtypeStruct, targets: Any, n: int) -> np.ndarray:
        """Returns the targets of `n` images, checked against the shape of one output.

        Raises:
          UsageError: for outputs or targets that the criterion has no use for.
        """


def loss_of(criterion: Criterion, output: Any, target: Any) -> Scalar:
    """Returns the loss of a criterion.

    Raises:
      UsageError: unless it is one number.
    """
    loss = criterion.loss(output, target)
    if jnp.ndim(loss):
        raise UsageError(
            f"{type(criterion).__name__}.loss gives an array of the shape "
            f"{jnp.shape(loss)}; allowed: one number for one output."
        )
    return loss


class ClassCriterion(Criterion):
    """A criterion on logits of classes."""

    classes = True
    reached: ClassVar[bool]
    """Whether the target is a class to be reached, or one to be left."""

    def succeeds(self, output: Float[Array, " classes"], target: Any):
        """Returns whether the largest logit is the target's, or another one."""
        hit = jnp.argmax(output) == target
        # The first NaN wins an argmax: a broken logit is no success.
        return (hit == self.reached) & ~jnp.isnan(output).any()

    def check(self, output: jax.ShapeDtypeStruct, targets: Any, n: int) -> np.ndarray:
        """Returns the classes [n], checked: one vector of 2 logits or more."""
        if len(output.shape) != 1 or output.shape[0] < 2:
            raise UsageError(
                f"apply gives {output.shape} for one image; allowed: a vector of "
                "logits for 2 classes or more, or another criterion than classes."
            )
        return checked_labels(targets, n, output.shape[0])


@criteria.register("misclassified")
@dataclasses.dataclass(frozen=True)
class Misclassified(ClassCriterion):
    """The prediction is another class than the target, which is the true one."""

    reached = False

    def loss(self, output: Float[Array, " classes"], target: Any) -> Scalar:
        """Returns the largest other logit less the target's."""
        return _lead(output, target)


MISCLASSIFIED = Misclassified()
"""What an attack wants unless it is told otherwise."""


@criteria.register("misclassified_and_accepted")
@dataclasses.dataclass(frozen=True)
class MisclassifiedAndAccepted(ClassCriterion):
    """The prediction is neither the true class nor "rejected", the last logit.

    A rejected image is no success.  So an attack has to beat the larger of two logits,
    that of the label and that of the rejection: it looks at the other logits alone,
    with this one in the label's place, and wants no more than a misclassification.
    """

    reached = False

    def loss(self, output: Float[Array, " outputs"], target: Any) -> Scalar:
        """Returns the largest other class's logit less what it has to beat."""
        return _lead(self.seen(output, target), target)

    def succeeds(self, output: Float[Array, " outputs"], target: Any):
        """Returns whether the largest logit is that of another class."""
        return MISCLASSIFIED.succeeds(self.seen(output, target), target)

    def seen(self, output: Any, target: Any) -> Array:
        """Returns the classes' logits, the label's no less than the rejection's."""
        logits, rejection = output[..., :-1], output[..., -1:]
        own = jax.nn.one_hot(target, logits.shape[-1], dtype=bool)
        return jnp.where(own, jnp.maximum(logits, rejection), logits)

    def reduced(self, classify, target):
        """Returns a classifier without rejection, and `Misclassified()`."""
        return lambda image: self.seen(classify(image), target), MISCLASSIFIED

    def classes_among(self, outputs: int) -> int:
        """Returns all but one."""
        return outputs - 1

    def widened(self, output: Float[Array, " classes"]):
        """Returns the logits and that of a rejection that never is."""
        return jnp.append(output, -jnp.inf)

    def check(self, output: jax.ShapeDtypeStruct, targets: Any, n: int) -> np.ndarray:
        """Returns the classes [n], checked: a vector of 3 logits or more."""
        if len(output.shape) != 1 or output.shape[0] < 3:
            raise UsageError(
                f"apply gives {output.shape} for one image; allowed: a vector of "
                "logits for 2 classes or more, and that of the rejection."
            )
        return checked_labels(targets, n, output.shape[0] - 1)


@criteria.register("targeted")
@dataclasses.dataclass(frozen=True)
class Targeted(ClassCriterion):
    """The prediction is the target, a class to be reached."""

    reached = True

    def loss(self, output: Float[Array, " classes"], target: Any) -> Scalar:
        """Returns the target's logit less the largest other one."""
        return -_lead(output, target)


@criteria.register("deviates")
@dataclasses.dataclass(frozen=True)
class Deviates(Criterion):
    """The output of a regression is farther from the target than a tolerance.

    The distance is the Euclidean one over all entries of the output.

    Attributes:
      tolerance: in the units of the output.
      period: after which values repeat, such as 360 for angles in degrees; 0: never.
    """

    tolerance: float
    period: float = 0.0

    def __post_init__(self):
        for field in ("tolerance", "period"):
            fits = 0 <= getattr(self, field) < math.inf
            check(fits, self, field, "a finite number, 0 or more")
        if self.period:
            fits = self.tolerance < self.period / 2
            check(fits, self, "tolerance", "less than half of the period")

    def loss(self, output: Output, target: Any) -> Scalar:
        """Returns the distance from the target less the tolerance."""
        return _length(_away(output, target, self.period)) - self.tolerance

    def succeeds(self, output: Output, target: Any):
        """Returns whether the distance is above the tolerance."""
        return self.loss(output, target) > 0

    def misfit(self, output: Output, answer: Any) -> Scalar:
        """Returns the squared distance."""
        return jnp.sum(_away(output, answer, self.period) ** 2)

    def check(self, output: jax.ShapeDtypeStruct, targets: Any, n: int) -> np.ndarray:
        """Returns the targets, floats of the outputs' shape, [n, ...]."""
        return _numbers(targets, (n, *output.shape), output.dtype)


@criteria.register("farthest")
@dataclasses.dataclass(frozen=True)
class Farthest(Criterion):
    """The output of a regression is as far from the target as can be.

    No distance is enough: it never succeeds, so that an attack goes on to its end, and
    what is left of several attacks on an image is the largest error of all.

    Attributes:
      period: as for `Deviates`.
    """

    period: float = 0.0

    def __post_init__(self):
        fits = 0 <= self.period < math.inf
        check(fits, self, "period", "a finite number, 0 or more")

    def loss(self, output: Output, target: Any) -> Scalar:
        """Returns log(1 + distance) less more than that of any: it is never above 0."""
        distance = _length(_away(output, target, self.period))
        return jnp.minimum(jnp.log1p(distance) - _LOG_OF_ALL, 0)

    def succeeds(self, output: Output, target: Any):
        """Returns False."""
        del output, target
        return jnp.zeros((), bool)

    def misfit(self, output: Output, answer: Any) -> Scalar:
        """Returns the squared distance."""
        return jnp.sum(_away(output, answer, self.period) ** 2)

    def check(self, output: jax.ShapeDtypeStruct, targets: Any, n: int) -> np.ndarray:
        """Returns the targets, floats of the outputs' shape, [n, ...]."""
        return _numbers(targets, (n, *output.shape), output.dtype)


_LOG_OF_ALL = 45.0
"""Above the logarithm of the largest distance whose square a float of 32 bits holds."""


def _away(output: Output, target: Any, period: float) -> Output:
    """Returns the difference of each entry, the shorter way round."""
    away = output - target
    if period:
        away -= period * jnp.round(away / period)
    return away


def _length(away: Output) -> Scalar:
    """Returns the Euclidean length of a difference, with a slope at 0, too."""
    squared = jnp.sum(away**2)
    distance = jnp.sqrt(jnp.where(squared > 0, squared, 1))
    # At the target itself all ways lead out: an attack that begins there, at a
    # perfect prediction, is given one of them.
    along = jnp.sum(away) / math.sqrt(max(away.size, 1))
    return jnp.where(squared > 0, distance, along)


@criteria.register("any_label_wrong")
@dataclasses.dataclass(frozen=True)
class AnyLabelWrong(Criterion):
    """One of several yes-or-no answers is wrong; a logit above 0 says yes."""

    def loss(self, output: Float[Array, " labels"], target: Any) -> Scalar:
        """Returns how far the weakest right answer is on the wrong side of 0."""
        return jnp.max(jnp.where(target, -output, output))

    def succeeds(self, output: Float[Array, " labels"], target: Any):
        """Returns whether an answer differs from its target."""
        wrong = ((output > 0) != target).any()
        return wrong & ~jnp.isnan(output).any()

    def misfit(self, output: Float[Array, " labels"], answer: Any) -> Scalar:
        """Returns the cross-entropy of the answers, summed over the labels."""
        return jnp.sum(jax.nn.softplus(jnp.where(answer, -output, output)))

    def check(self, output: jax.ShapeDtypeStruct, targets: Any, n: int) -> np.ndarray:
        """Returns the answers, booleans [n, labels]."""
        if len(output.shape) != 1:
            raise UsageError(
                f"apply gives {output.shape} for one image; allowed: a vector of one "
                "logit for each label."
            )
        return _answers(targets, (n, *output.shape))


@criteria.register("sign_flips")
@dataclasses.dataclass(frozen=True)
class SignFlips(Criterion):
    """The one logit of a two-class network changes sides; above 0 is class 1."""

    def loss(self, output: Output, target: Any) -> Scalar:
        """Returns how far the logit is on the wrong side of 0."""
        return jnp.where(target, -output, output).reshape(())

    def succeeds(self, output: Output, target: Any):
        """Returns whether the logit is on the wrong side."""
        value = output.reshape(())
        return ((value > 0) != target) & ~jnp.isnan(value)

    def misfit(self, output: Output, answer: Any) -> Scalar:
        """Returns the cross-entropy of the answer."""
        return jax.nn.softplus(self.loss(output, answer))

    def check(self, output: jax.ShapeDtypeStruct, targets: Any, n: int) -> np.ndarray:
        """Returns the classes 0 or 1, booleans [n]."""
        if math.prod(output.shape) != 1:
            raise UsageError(
                f"apply gives {output.shape} for one image; allowed: one logit."
            )
        return _answers(targets, (n,))


def checked_criterion(criterion: Any) -> Criterion:
    """Returns the criterion of a call, by default `Misclassified()`.

    Raises:
      UsageError: for anything that is no criterion.
    """
    if criterion is None:
        return MISCLASSIFIED
    if not isinstance(criterion, Criterion):
        raise UsageError(
            f"criterion is {criterion!r}; allowed: a criterion, such as "
            "Deviates(tolerance=10.0)."
        )
    return criterion


def _lead(logits: Float[Array, " classes"], label: Any) -> Scalar:
    own = jnp.arange(logits.size) == label
    return jnp.max(jnp.where(own, -jnp.inf, logits)) - logits[label]


def _numbers(targets: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    found = np.asarray(targets)
    if found.shape != shape or found.dtype.kind not in "iuf":
        raise UsageError(
            f"targets are {found.shape} of type {found.dtype}; allowed: numbers of the "
            f"shape {shape}, those of the outputs."
        )
    if not np.isfinite(found).all():
        raise UsageError("targets hold NaN or infinity; allowed: finite numbers.")
    return found.astype(dtype)


def _answers(targets: Any, shape: tuple[int, ...]) -> np.ndarray:
    found = np.asarray(targets)
    plain = found.dtype.kind in "biu" and np.isin(found, (0, 1)).all()
    if found.shape != shape or not plain:
        raise UsageError(
            f"targets are {found.shape} of type {found.dtype}; allowed: booleans, or 0 "
            f"and 1, of the shape {shape}."
        )
    return found.astype(bool)
