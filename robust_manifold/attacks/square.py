"""Random search by squares: scores only, one image asked about at a time."""

import dataclasses
import functools
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
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey, Scalar

_SCHEDULED = 10_000
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After which of so many queries the share of pixels in a square is halved."""


class Search(NamedTuple):
    """Where the restarts stand: the best image of each, along a leading axis."""

    best: Candidate
    asked: Int[Array, ""]
    """Queries of each restart so far."""


@registry.register("square")
@dataclasses.dataclass(frozen=True)
class Square(SteppedAttack[Search]):
    """Square attack (Andriushchenko et al. 2020): random search on the scores.

    A restart begins with vertical stripes (`linf`) or a grid of tiles (`l2`, `l1`).
    Each query then changes one random square window: in `linf` it moves to one end of
    the ball, in `l2` and `l1` it takes over the perturbation's norm of a second
    window, as two bumps of opposite signs.  The change stays if the loss rises.  The
    windows shrink on the paper's schedule of 10,000 queries.

    An image's search ends at its first success.  Only comparisons of the loss count,
    so that the scale of the logits does not matter.
    """

    family: ClassVar[Family] = "black box"
    ends_at_success: ClassVar[bool] = True
    threat_model: ClassVar[ThreatModel] = "scores"
    title: ClassVar[str] = "Square attack"
    source: ClassVar[str] = "Andriushchenko et al. 2020"
    ends_early: ClassVar[bool] = True

    epsilon: float
    """Radius of the ball, in the plain norm, on pixels in [0, 1]."""
    norm: Norm = "linf"
    """`linf`, `l2` or `l1`."""
    queries: int = 5000
    """Of each restart, its first image included."""
    p_init: float = 0.8
    """Share of the pixels in the first squares."""
    restarts: int = 1
    loss: Loss = "difference"
    rescale: bool = True
    """Scale the schedule to `queries`; AutoAttack ends half-way through it instead."""

    def __post_init__(self):
        check_epsilon(self)
        check(self.norm in ("linf", "l2", "l1"), self, "norm", "linf, l2 or l1")
        check(is_whole(self.queries, 1), self, "queries", "a whole number, 1 or more")
        check(0 < self.p_init <= 1, self, "p_init", "above 0 and at most 1")
        check(is_whole(self.restarts, 1), self, "restarts", "a whole number, 1 or more")
        check_loss(self)

    def for_classes(self, classes: int, targeted: bool = False) -> "Square":
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

    def begin(self, problem: Problem, key: PRNGKey) -> Search:
        """Returns the first image of each restart, or the clean one if that will do."""
        objective = problem.objective(self.loss)
        clean = objective.candidate(problem.image)

        def start(key: PRNGKey) -> Candidate:
            image = self._project(problem, self._first(problem, key))
            lowest = Candidate.nothing(image)
            # A first image of NaN logits is one that any other beats.
            best = lowest.better_of(objective.candidate(image))
            adversarial = clean.evaluation.adversarial
            return optax.tree.where(adversarial, clean, best)

        return Search(jax.vmap(start)(self._keys(key)), jnp.int32(1))

    def step(self, problem: Problem, key: PRNGKey, state: Search) -> Search:
        """Returns every restart one query on."""
        objective = problem.objective(self.loss)
        # The schedule counts changes, not the first image.
        phase = jnp.sum(state.asked - 1 >= jnp.asarray(self._phases))

        def ask(key: PRNGKey, best: Candidate) -> Candidate:
            image = self._changed(problem, key, best.image, phase)
            return best.better_of(objective.candidate(self._project(problem, image)))

        best = jax.vmap(ask)(self._keys(key), state.best)
        return Search(best, state.asked + 1)

    def ended(self, state: Search) -> Bool[Array, ""]:
        """Returns whether some restart has met an adversarial image."""
        return state.best.evaluation.adversarial.any()

    def finish(self, problem: Problem, key: PRNGKey, state: Search) -> Image:
        """Returns the best image of all restarts."""
        del problem, key
        return best_of(state.best).image

    def _keys(self, key: PRNGKey):
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.restarts))

    def _project(self, problem: Problem, image: Image) -> Image:
        return region.projection(problem.image, problem.epsilon, self.norm)(image)

    @property
    def _phases(self) -> np.ndarray:
        """Returns the query at which each but the first phase begins."""
        scale = self.queries / _SCHEDULED if self.rescale else 1
        starts = [math.ceil((t + 1) * scale) for t in _HALVINGS]
        return np.array(starts, np.int32)

    def _sizes(self, height: int, width: int) -> np.ndarray:
        """Returns the side of the squares in each phase."""
        pixels = height * width
        sides = [
            round(math.sqrt(self.p_init / 2**phase * pixels))
            for phase in range(len(_HALVINGS) + 1)
        ]
        if self.norm == "linf":
            sides = [max(side, 1) for side in sides]
        else:
            sides = [max(side, 3) + (max(side, 3) % 2 == 0) for side in sides]
        return np.minimum(sides, min(height, width))

    def _first(self, problem: Problem, key: PRNGKey) -> Image:
        """Returns the first image: stripes, or a grid of tiles."""
        image, epsilon = problem.image, problem.epsilon
        height, width, channels = image.shape
        if self.norm == "linf":
            signs = jax.random.rademacher(key, (1, width, channels), image.dtype)
            return image + epsilon * signs
        side = max(min(height, width) // 5, 1)
        rows, columns = height // side, width // side
        top, left = (height - rows * side) // 2, (width - columns * side) // 2
        sign_key, turn_key = jax.random.split(key)
        signs = jax.random.rademacher(
            sign_key, (rows, 1, columns, 1, channels), image.dtype
        )
        turned = jax.random.bernoulli(turn_key, 0.5, (rows, 1, columns, 1, 1))
        tile = jnp.asarray(bumps(side, self.norm), image.dtype)
        upright = tile[None, :, None, :, None]
        lying = tile.T[None, :, None, :, None]
        tiles = signs * jnp.where(turned, lying, upright)
        delta = jnp.zeros_like(image)
        grid = tiles.reshape(rows * side, columns * side, channels)
        delta = jax.lax.dynamic_update_slice(delta, grid, (top, left, 0))
        return image + self._filled(delta, epsilon)

    def _filled(self, delta: Image, epsilon: Scalar) -> Image:
        """Returns a perturbation that reaches the ball's surface."""
        if self.norm == "l1":
            return delta * (epsilon / _positive(norms.norm(delta, "l1")))
        return delta * (epsilon / _positive(norms.norm(delta, "l2")))

    def _changed(
        self, problem: Problem, key: PRNGKey, image: Image, phase: Int[Array, ""]
    ) -> Image:
        """Returns the image with one window changed."""
        height, width, channels = image.shape
        sizes = self._sizes(height, width)
        side = jnp.asarray(sizes, jnp.int32)[phase]
        place_key, sign_key, turn_key = jax.random.split(key, 3)
        # Uniform in 0 ... height - side, without the rejection loop of randint.
        draws = jax.random.uniform(place_key, (4,))
        spans = jnp.stack([height - side, width - side] * 2)
        places = jnp.minimum((draws * (spans + 1)).astype(jnp.int32), spans)
        first = _window(image, places[0], places[1], side)
        signs = jax.random.rademacher(sign_key, (1, 1, channels), image.dtype)
        if self.norm == "linf":
            return image + jnp.where(first, 2 * problem.epsilon * signs, 0)
        second = _window(image, places[2], places[3], side)
        turned = jax.random.bernoulli(turn_key)
        patterns = _patterns(tuple(sizes.tolist()), image.shape, self.norm)
        pattern = jnp.asarray(patterns, image.dtype)[phase, turned.astype(jnp.int32)]
        pattern = jnp.roll(pattern, places[:2], (0, 1))[:, :, None]
        delta = self._moved(
            image - problem.image, pattern * signs, first, second, problem.epsilon
        )
        return problem.image + delta

    def _moved(
        self, delta: Image, bump: Image, first: Array, second: Array, epsilon: Scalar
    ) -> Image:
        """Returns a perturbation whose norm in `second` has moved into `first`.

        Norms of windows are those of each channel; what the box had cut off the
        perturbation's norm is spread over the channels.
        """
        channels = delta.shape[-1]
        size = functools.partial(_channel_norms, kind=self.norm)
        inside = jnp.where(first, delta, 0)
        both = size(jnp.where(first | second, delta, 0))
        new = bump + inside / _positive(size(inside))
        total = norms.norm(delta, self.norm)
        if self.norm == "l2":
            unused = jnp.maximum(epsilon**2 - total**2, 0)
            wanted = jnp.sqrt(unused / channels + both**2)
        else:
            unused = jnp.maximum(epsilon - total, 0)
            wanted = (unused / channels + both) * channels
        new = new * (wanted / _positive(size(new)))
        moved = jnp.where(first, new, jnp.where(second, 0, delta))
        # In l1 the projection cuts off what is too much.
        return self._filled(moved, epsilon) if self.norm == "l2" else moved


def bumps(side: int, norm: Norm) -> Float[np.ndarray, "side side"]:
    """Returns the paper's square perturbation: two bumps of opposite signs, norm 1.

    Args:
      side: of the square; the upper bump has half as many rows.
      norm: `l2` or `l1`, which has steeper bumps.
    """
    upper = side // 2
    parts = [_bump(upper, side, norm), -_bump(side - upper, side, norm)]
    square = np.concatenate(parts)
    return square / _size(square, norm)


def _bump(height: int, width: int, norm: Norm) -> np.ndarray:
    """Returns a bump of norm 1: the sum of concentric squares of falling weights."""
    count = max(height, width) // 2 + 1
    weights = 1.0 / np.arange(1, count + 1) ** (2 if norm == "l2" else 4)
    rows = np.abs(np.arange(height) - height // 2)
    columns = np.abs(np.arange(width) - width // 2)
    distance = np.maximum(rows[:, None], columns[None, :])
    # A pixel lies in the squares of its distance and of all larger ones.
    bump = np.append(np.cumsum(weights[::-1])[::-1], 0)[distance]
    return bump / _size(bump, norm) if bump.size else bump


def _size(values: np.ndarray, norm: Norm) -> float:
    return float(np.sqrt((values**2).sum()) if norm == "l2" else np.abs(values).sum())


@functools.cache
def _patterns(sizes: tuple[int, ...], shape: tuple[int, ...], norm: Norm) -> np.ndarray:
    """Returns the bumps of every phase, upright and lying, in the upper left corner."""
    patterns = np.zeros((len(sizes), 2, *shape[:2]))
    for phase, side in enumerate(sizes):
        square = bumps(int(side), norm)
        patterns[phase, 0, :side, :side] = square
        patterns[phase, 1, :side, :side] = square.T
    return patterns


def _window(image: Image, top: Array, left: Array, side: Array) -> Array:
    """Returns the mask [height, width, 1] of a window of traced size."""
    height, width, _ = image.shape
    rows, columns = jnp.arange(height) - top, jnp.arange(width) - left
    inside = ((rows >= 0) & (rows < side))[:, None]
    inside &= ((columns >= 0) & (columns < side))[None, :]
    return inside[:, :, None]


def _channel_norms(delta: Image, kind: Norm) -> Float[Array, "1 1 channels"]:
    if kind == "l2":
        return jnp.sqrt(jnp.sum(delta**2, (0, 1), keepdims=True))
    return jnp.sum(jnp.abs(delta), (0, 1), keepdims=True)


def _positive(size: Array) -> Array:
    """Returns a norm to divide by: nothing stays nothing."""
    return jnp.where(size > 0, size, 1)
