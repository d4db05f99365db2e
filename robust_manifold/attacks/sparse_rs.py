"""Random search among few pixels: scores only, one image asked about at a time."""

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks import region
from robust_manifold.attacks.base import (
    Family,
    Images,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    ThreatModel,
    check_epsilon,
    registry,
)
from robust_manifold.attacks.losses import (
    Candidate,
    Loss,
    best_of,
    check_loss,
    with_enough_classes,
)
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey

_SCHEDULED = 10_000
_BREAKS = (50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After which of so many queries fewer pixels are exchanged at once."""
_DIVISORS = (2, 4, 5, 6, 8, 10, 12, 15, 20)
"""By which `share` is divided, phase by phase, as in the authors' code."""

Among = Bool[Array, " pixels"]


class SparseState(NamedTuple):
    """Where the restarts stand: the best image of each, along a leading axis."""

    best: Candidate
    chosen: Bool[Array, "*restarts pixels"]
    """The pixels that are changed in it."""
    asked: Int[Array, ""]
    """Queries of each restart so far."""


@registry.register("sparse_rs")
@dataclasses.dataclass(frozen=True)
class SparseRS(SteppedAttack[SparseState]):
    """Sparse-RS (Croce et al. 2022): random search on the scores for a few pixels.

    A restart begins with `epsilon` random pixels, each channel of which is black or
    full at random; the first one begins at the given start, if there is one, with the
    pixels that it changes most.  Each query then takes some of the pixels back and
    changes as many others.  That stays if the loss rises.  How many are exchanged falls
    on the paper's schedule of 10,000 queries.

    Beyond the paper, a pixel that its draw would leave as it is takes the opposite
    one: before a black ground half of all draws would else do nothing.

    An image's search ends at its first success.  Only comparisons of the loss count,
    so that the scale of the logits does not matter.
    """

    family: ClassVar[Family] = "black box"
    ends_at_success: ClassVar[bool] = True
    takes_start: ClassVar[bool] = True
    threat_model: ClassVar[ThreatModel] = "scores"
    title: ClassVar[str] = "Sparse-RS"
    source: ClassVar[str] = "Croce et al. 2022"
    ends_early: ClassVar[bool] = True

    epsilon: float
    """How many pixels may change; of a fraction, the whole number below it."""
    norm: Norm = "pixels"
    """`pixels`, all channels of which change together; or `l0`, which counts values:
    every channel of a pixel is a pixel of its own."""
    queries: int = 5000
    """Of each restart, its first image included."""
    share: float = 0.3
    """The paper's first alpha. Half of that share of the pixels is exchanged at once in
    the first phase, a twentieth in the last; one pixel at least."""
    restarts: int = 1
    loss: Loss = "difference"
    rescale: bool = True
    """Scale the schedule to `queries`; otherwise it is that of 10,000."""

    def __post_init__(self):
        check_epsilon(self)
        check(self.norm in ("pixels", "l0"), self, "norm", "pixels or l0")
        check(is_whole(self.queries, 1), self, "queries", "a whole number, 1 or more")
        check(0 < self.share <= 1, self, "share", "above 0 and at most 1")
        check(is_whole(self.restarts, 1), self, "restarts", "a whole number, 1 or more")
        check_loss(self)

    def for_classes(self, classes: int, targeted: bool = False) -> "SparseRS":
        """Returns the attack, with the margin where its loss needs more classes."""
        return with_enough_classes(self, classes, targeted)

    @property
    def iterations(self) -> int:
        """Queries of a restart after its first."""
        return self.queries - 1

    def passes(self, classes: int) -> Passes:
        """Returns a query for the clean image, then one each restart."""
        del classes
        return Passes(Queries(1 + self.restarts, 0), Queries(self.restarts, 0))

    def begin(self, problem: Problem, key: PRNGKey) -> SparseState:
        """Returns the first image of each restart, or the clean one if that will do."""
        objective = problem.objective(self.loss)
        clean = objective.candidate(problem.image)
        pixels = self._pixels(problem.image)
        budget = _budget(problem, len(pixels))

        def start(number: Int[Array, ""], key: PRNGKey) -> tuple[Candidate, Among]:
            place_key, value_key = jax.random.split(key)
            order = jax.random.permutation(place_key, len(pixels))
            chosen = _first_of(jnp.ones(len(pixels), bool), budget, order)
            values = _other_end(value_key, pixels)
            if problem.start is not None:
                given = self._pixels(problem.start)
                change = jnp.sum(jnp.abs(given - pixels), -1)
                most = region.largest(change, budget)
                chosen = jnp.where(number == 0, most, chosen)
                values = jnp.where(number == 0, given, values)
            image = jnp.where(chosen[:, None], values, pixels)
            asked = objective.candidate(image.reshape(problem.image.shape))
            # Any loss beats none; the clean image is kept where it will do.
            first = Candidate.nothing(problem.image).better_of(asked)
            return optax.tree.where(clean.evaluation.adversarial, clean, first), chosen

        best, chosen = jax.vmap(start)(jnp.arange(self.restarts), self._keys(key))
        return SparseState(best, chosen, jnp.int32(1))

    def step(self, problem: Problem, key: PRNGKey, state: SparseState) -> SparseState:
        """Returns every restart one query on."""
        objective = problem.objective(self.loss)
        pixels = self._pixels(problem.image)
        budget = _budget(problem, len(pixels))
        count = self._exchanged(state.asked, budget)

        def ask(
            key: PRNGKey, best: Candidate, chosen: Among
        ) -> tuple[Candidate, Among]:
            place_key, value_key = jax.random.split(key)
            order = jax.random.permutation(place_key, len(pixels))
            leaving = _first_of(chosen, count, order)
            entering = _first_of(~chosen, count, order)
            # Where there are too few others, some of those that leave enter again.
            missing = count - jnp.sum(entering)
            entering |= _first_of(leaving, missing, order)
            image = self._pixels(best.image)
            image = jnp.where(leaving[:, None], pixels, image)
            values = _other_end(value_key, pixels)
            image = jnp.where(entering[:, None], values, image)
            asked = objective.candidate(image.reshape(problem.image.shape))
            taken = asked.evaluation.beats(best.evaluation)
            after = jnp.where(taken, (chosen & ~leaving) | entering, chosen)
            return best.better_of(asked), after

        best, chosen = jax.vmap(ask)(self._keys(key), state.best, state.chosen)
        return SparseState(best, chosen, state.asked + 1)

    def image_of(self, state: SparseState) -> Images:
        """Returns the best image of each restart: no other is held."""
        return state.best.image

    def ended(self, state: SparseState) -> Bool[Array, ""]:
        """Returns whether some restart has met an adversarial image."""
        return state.best.evaluation.adversarial.any()

    def finish(self, problem: Problem, key: PRNGKey, state: SparseState) -> Image:
        """Returns the best image of all restarts."""
        del problem, key
        return best_of(state.best).image

    def _keys(self, key: PRNGKey):
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.restarts))

    def _exchanged(
        self, asked: Int[Array, ""], budget: Int[Array, ""]
    ) -> Int[Array, ""]:
        """Returns how many pixels the next query exchanges; 0 if none may change."""
        scale = self.queries / _SCHEDULED if self.rescale else 1
        begins = np.array([math.ceil((t + 1) * scale) for t in _BREAKS], np.int32)
        divisor = jnp.asarray(_DIVISORS, jnp.float32)[jnp.sum(asked >= begins)]
        count = jnp.floor(self.share * budget / divisor).astype(jnp.int32)
        return jnp.clip(count, jnp.minimum(budget, 1), budget)

    def _pixels(self, image: Image) -> Float[Array, "pixels values"]:
        """Returns what is changed together, row by row."""
        channels = image.shape[-1] if self.norm == "pixels" else 1
        return image.reshape(-1, channels)


def _budget(problem: Problem, pixels: int) -> Int[Array, ""]:
    """Returns how many pixels may change."""
    return jnp.minimum(jnp.floor(problem.epsilon), pixels).astype(jnp.int32)


def _first_of(
    among: Among, count: Int[Array, ""], order: Int[Array, " pixels"]
) -> Among:
    """Returns the first `count` of some pixels, in the given order of all of them."""
    there = among[order]
    first = there & (jnp.cumsum(there) <= count)
    return jnp.zeros_like(among).at[order].set(first)


def _other_end(
    key: PRNGKey, pixels: Float[Array, "pixels values"]
) -> Float[Array, "pixels values"]:
    """Returns random corners of the colour cube, none of them where the pixel is."""
    ends = jax.random.bernoulli(key, 0.5, pixels.shape).astype(pixels.dtype)
    same = jnp.all(ends == pixels, axis=-1, keepdims=True)
    return jnp.where(same, 1 - ends, ends)
