"""Ascent of an objective of two images that are held together by a multiplier.

The images depend on latents.  Written for one start; restarts are vmapped.
"""

import dataclasses
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from robust_manifold.attacks.losses import ObjectiveValue, finite
from robust_manifold.core import norms
from robust_manifold.core.types import Scalar

BoundNorm: TypeAlias = Literal["l2", "linf"]
"""The norms in which two images can be held together."""

TwoImages: TypeAlias = Float[Array, "2 height width channels"]
Latents: TypeAlias = Float[Array, "sides latent"]
"""Of the images that move: both, or one against a given image."""

_AIM = 0.999
"""Share of the bound at which pairs are held, so that they come to rest inside it."""
_INSIDE = 1 - 1e-5
"""Share of the bound within which an iterate counts as feasible: computed anew from
its images, by whatever program, the distance is within the bound itself."""
_PRESSURE = 2.0
"""What a distance of twice the bound adds to the multiplier at once, which damps it."""
_RATE = 0.1
"""By how much the multiplier rises in a step at such a distance, and at most."""
_SHARPNESS = 32
"""The power of the norm whose gradient stands for that of the largest entry."""


@runtime_checkable
class Contest(Protocol):
    """Two images, and how differently they are classified."""

    def images(self, latents: Latents) -> TwoImages:
        """Returns both images."""
        ...

    def evaluate(self, images: TwoImages) -> ObjectiveValue:
        """Returns the objective, and whether the classes are as wanted."""
        ...


class LatentCandidate(NamedTuple):
    """Latents that were looked at; leaves may have a leading axis of restarts."""

    latents: Latents
    distance: Scalar
    evaluation: ObjectiveValue
    feasible: Bool[Array, ""]

    @classmethod
    def nothing(cls, latents: Latents) -> "LatentCandidate":
        """Returns latents as what anything beats."""
        low = jnp.full((), -jnp.inf, latents.dtype)
        return cls(
            latents, -low, ObjectiveValue(low, jnp.bool_(False)), jnp.bool_(False)
        )

    @property
    def found(self) -> Bool[Array, "*restarts"]:
        """Whether it is near enough and the classes are as wanted."""
        return self.feasible & self.evaluation.adversarial

    def better_of(self, other: "LatentCandidate") -> "LatentCandidate":
        """Returns `other` if it is strictly better, this one otherwise.

        A feasible candidate beats one that is not.  Between two feasible ones the
        evaluation decides, between two others the distance.
        """
        level = other.feasible == self.feasible
        higher = other.evaluation.beats(self.evaluation)
        nearer = other.distance < self.distance
        better = jnp.where(other.feasible, higher, nearer)
        better = jnp.where(level, better, other.feasible)
        return optax.tree.where(better, other, self)


def best_of(candidates: LatentCandidate) -> LatentCandidate:
    """Returns the best of candidates stacked along a leading axis."""
    feasible, evaluation = candidates.feasible, candidates.evaluation
    level = feasible.astype(int) + candidates.found.astype(int)
    score = jnp.where(feasible, evaluation.loss, -candidates.distance)
    score = jnp.maximum(score, jnp.finfo(score.dtype).min)
    best = jnp.argmax(jnp.where(level == jnp.max(level), score, -jnp.inf))
    return jax.tree.map(lambda leaf: leaf[best], candidates)


class LatentClimb(NamedTuple):
    """Where one start stands; leaves may have a leading axis of restarts."""

    latents: Latents
    optimizer: optax.OptState
    multiplier: Scalar
    """Never negative."""
    best: LatentCandidate


@dataclasses.dataclass(frozen=True)
class Ascent:
    """Adam on the Lagrangian of an objective under a bound on the images' distance.

    Latents climb  objective - multiplier * (distance / bound - 1);  the multiplier
    follows the distance, up where the bound is exceeded and down elsewhere, and never
    becomes negative (Rockafellar 1973, with the term that damps it).  Both gradients
    are brought to length 1 in latent space: the scale of the logits changes nothing,
    and where the bound holds the images at rest, the multiplier is 1.  Nothing is
    projected.  The best iterate counts, not the last.

    Attributes:
      norm: of the distance, over all pixels.
      steps: of Adam.
      learning_rate: Adam's first; it falls to 0 along a cosine.
    """

    norm: BoundNorm
    steps: int
    learning_rate: float

    def begin(self, latents: Latents) -> LatentClimb:
        """Returns the state before the first step."""
        return LatentClimb(
            latents,
            self._adam.init(latents),
            jnp.ones((), latents.dtype),
            LatentCandidate.nothing(latents),
        )

    def step(
        self, contest: Contest, bound: Scalar, pull: Latents, climb: LatentClimb
    ) -> LatentClimb:
        """Returns the state after a look at the latents and a move.

        Args:
          contest: what is climbed.
          bound: on the distance, in the norm.
          pull: added to the direction, whose part of the objective has length 1.
          climb: the state.
        """
        images, pull_back = jax.vjp(contest.images, climb.latents)

        def loss(images: TwoImages) -> tuple[Scalar, ObjectiveValue]:
            evaluation = contest.evaluate(images)
            return evaluation.loss, evaluation

        gradient, evaluation = jax.grad(loss, has_aux=True)(images)
        candidate = self._candidate(climb.latents, images, evaluation, bound)
        delta = images[0] - images[1]
        outward = self._outward(delta)
        ways = jnp.stack([finite(gradient), jnp.stack([outward, -outward])])
        (ways,) = jax.vmap(pull_back)(ways)
        up, apart = jax.vmap(norms.steepest_direction, (0, None))(finite(ways), "l2")
        excess = finite(candidate.distance / (_AIM * bound) - 1)
        pressure = jnp.maximum(0, climb.multiplier + _PRESSURE * excess)
        # Where the objective is flat the images are still brought together.
        direction = up - pressure * apart + pull
        update, optimizer = self._adam.update(-direction, climb.optimizer)
        raised = climb.multiplier + _RATE * jnp.clip(excess, -1, 1)
        return LatentClimb(
            climb.latents + jnp.asarray(update),
            optimizer,
            jnp.maximum(0, raised),
            climb.best.better_of(candidate),
        )

    def finish(
        self, contest: Contest, bound: Scalar, climb: LatentClimb
    ) -> LatentCandidate:
        """Returns the best latents, after a look at the last."""
        images = contest.images(climb.latents)
        evaluation = contest.evaluate(images)
        last = self._candidate(climb.latents, images, evaluation, bound)
        return climb.best.better_of(last)

    @property
    def _adam(self) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        return optax.adam(schedule)

    def _candidate(
        self,
        latents: Latents,
        images: TwoImages,
        evaluation: ObjectiveValue,
        bound: Scalar,
    ) -> LatentCandidate:
        distance = norms.norm(images[0] - images[1], self.norm)
        # No later loss would be higher than a NaN.
        loss = jnp.where(jnp.isnan(evaluation.loss), -jnp.inf, evaluation.loss)
        evaluation = evaluation._replace(loss=loss)
        feasible = distance <= _INSIDE * bound
        return LatentCandidate(latents, distance, evaluation, feasible)

    def _outward(self, delta: Float[Array, "height width channels"]):
        """Returns the gradient of the distance, smoothed where it is the largest."""
        if self.norm == "l2":
            return norms.steepest_direction(delta, "l2")
        # One entry at a time would be brought down while the next one rises.
        size = jnp.abs(delta)
        largest = jnp.max(size)
        share = size / jnp.where(largest > 0, largest, 1)
        return jnp.sign(delta) * share ** (_SHARPNESS - 1)
