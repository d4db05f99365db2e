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
from robust_manifold.attacks.windows import fitted
from robust_manifold.core import keys, norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey, Scalar

_SCHEDULED = 10_000
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After which of so many queries the share of pixels in a square is halved."""
_TILES = 5
"""Tiles along each side of the first image, in `l2` and `l1`."""
_LEAST = 3
"""The paper's shortest side of a window, in `l2` and `l1`."""


class SquareState(NamedTuple):
    """Where the restarts stand: the best image of each, along a leading axis."""

    best: Candidate
    asked: Int[Array, ""]
    """Queries of each restart so far."""


@registry.register("square")
@dataclasses.dataclass(frozen=True)
class Square(SteppedAttack[SquareState]):
    """Square attack (Andriushchenko et al. 2020): random search on the scores.

    A restart begins with vertical stripes (`linf`) or a grid of tiles (`l2`, `l1`), and
    the first one at the given start, if there is one.
    Each query then changes one random square window: in `linf` it moves to one end of
    the ball, in `l2` and `l1` it takes over the perturbation's norm of a second
    window, as two bumps of opposite signs.  The change stays if the loss rises.  The
    windows shrink on the paper's schedule of 10,000 queries.

    Two things go beyond the paper, which has square images of some size.  Where a
    square is longer than one side of the image, the window takes that whole side and
    grows along the other to the square's area; if that is so of the first square on a
    tall image, its stripes are horizontal.  And in `l2` and `l1`, on images of fewer
    than 15 by 15 pixels, windows shrink to one value instead of 3 by 3 pixels, the
    channels lying side by side as columns, and half of the changes take over only a
    share of the second window's norm, drawn at random.  There the paper's changes move
    so much of the perturbation that a search comes to rest far from the best.

    An image's search ends at its first success.  Only comparisons of the loss count,
    so that the scale of the logits does not matter.
    """

    family: ClassVar[Family] = "black box"
    ends_at_success: ClassVar[bool] = True
    takes_start: ClassVar[bool] = True
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
    """Share of the pixels in the first windows."""
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

    def begin(self, problem: Problem, key: PRNGKey) -> SquareState:
        """Returns the first image of each restart, or the clean one if that will do."""
        objective = problem.objective(self.loss)
        clean = objective.candidate(problem.image)

        def start(number: Int[Array, ""], key: PRNGKey) -> Candidate:
            image = self._first(problem, key)
            if problem.start is not None:
                image = jnp.where(number == 0, problem.start, image)
            image = self._project(problem, image)
            lowest = Candidate.nothing(image)
            # A first image of NaN logits is one that any other beats.
            best = lowest.better_of(objective.candidate(image))
            adversarial = clean.evaluation.adversarial
            return optax.tree.where(adversarial, clean, best)

        numbers = jnp.arange(self.restarts)
        return SquareState(jax.vmap(start)(numbers, self._keys(key)), jnp.int32(1))

    def step(self, problem: Problem, key: PRNGKey, state: SquareState) -> SquareState:
        """Returns every restart one query on."""
        objective = problem.objective(self.loss)
        # The schedule counts changes, not the first image.
        phase = jnp.sum(state.asked - 1 >= jnp.asarray(self._phases))

        def ask(key: PRNGKey, best: Candidate) -> Candidate:
            image = self._changed(problem, key, best.image, phase)
            return best.better_of(objective.candidate(self._project(problem, image)))

        best = jax.vmap(ask)(self._keys(key), state.best)
        return SquareState(best, state.asked + 1)

    def image_of(self, state: SquareState) -> Images:
        """Returns the best image of each restart: no other is held."""
        return state.best.image

    def ended(self, state: SquareState) -> Bool[Array, ""]:
        """Returns whether some restart has met an adversarial image."""
        return state.best.evaluation.adversarial.any()

    def finish(self, problem: Problem, key: PRNGKey, state: SquareState) -> Image:
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

    def _layout(self, image: Image) -> tuple[int, int, int]:
        """Returns the height, width and channels of what windows lie on.

        On a small image every channel of a pixel is a column of its own.
        """
        height, width, channels = image.shape
        if self.norm != "linf" and _is_small(image):
            return height, width * channels, 1
        return height, width, channels

    def _windows(self, image: Image) -> Int[np.ndarray, "phases 2"]:
        """Returns the rows and columns of a window in each phase."""
        height, width, _ = self._layout(image)
        tiled = self.norm != "linf"
        least = _LEAST if tiled and not _is_small(image) else 1
        windows = []
        for phase in range(len(_HALVINGS) + 1):
            area = self.p_init / 2**phase * height * width
            side = max(round(math.sqrt(area)), least)
            side += tiled and side % 2 == 0
            windows.append(fitted(side, area, height, width))
        return np.array(windows, np.int32)

    def _first(self, problem: Problem, key: PRNGKey) -> Image:
        """Returns the first image: stripes, or a grid of tiles."""
        image, epsilon = problem.image, problem.epsilon
        if self.norm != "linf":
            return image + self._filled(self._tiled(key, image), epsilon)
        height, width, channels = image.shape
        rows, columns = self._windows(image)[0]
        stripes = (height, 1) if rows > columns else (1, width)
        signs = jax.random.rademacher(key, (*stripes, channels), image.dtype)
        return image + epsilon * signs

    def _tiled(self, key: PRNGKey, image: Image) -> Image:
        """Returns a grid of tiles, in the middle of the image."""
        height, width, channels = self._layout(image)
        side = max(math.isqrt(height * width) // _TILES, 1)
        tall, wide = fitted(side, float(side**2), height, width)
        rows, columns = height // tall, width // wide
        top, left = (height - rows * tall) // 2, (width - columns * wide) // 2
        sign_key, turn_key = jax.random.split(key)
        signs = jax.random.rademacher(
            sign_key, (rows, 1, columns, 1, channels), image.dtype
        )
        turned = jax.random.bernoulli(turn_key, 0.5, (rows, 1, columns, 1, 1))
        upright, lying = (
            jnp.asarray(tile, image.dtype)[None, :, None, :, None]
            for tile in _both_ways(tall, wide, self.norm)
        )
        tiles = signs * jnp.where(turned, lying, upright)
        grid = tiles.reshape(rows * tall, columns * wide, channels)
        nothing = jnp.zeros((height, width, channels), image.dtype)
        delta = jax.lax.dynamic_update_slice(nothing, grid, (top, left, 0))
        return delta.reshape(image.shape)

    def _filled(self, delta: Image, epsilon: Scalar) -> Image:
        """Returns a perturbation that reaches the ball's surface."""
        if self.norm == "l1":
            return delta * (epsilon / _positive(norms.norm(delta, "l1")))
        return delta * (epsilon / _positive(norms.norm(delta, "l2")))

    def _changed(
        self, problem: Problem, key: PRNGKey, image: Image, phase: Int[Array, ""]
    ) -> Image:
        """Returns the image with one window changed."""
        shape = height, width, channels = self._layout(image)
        windows = self._windows(image)
        size = jnp.asarray(windows)[phase]
        place_key, sign_key, turn_key = jax.random.split(key, 3)
        # Uniform in 0 ... height - rows, without the rejection loop of randint.
        draws = jax.random.uniform(place_key, (4,))
        spans = jnp.stack([height - size[0], width - size[1]] * 2)
        places = jnp.minimum((draws * (spans + 1)).astype(jnp.int32), spans)
        first = _window(shape, places[:2], size)
        signs = jax.random.rademacher(sign_key, (1, 1, channels), image.dtype)
        if self.norm == "linf":
            return image + jnp.where(first, 2 * problem.epsilon * signs, 0)
        second = _window(shape, places[2:], size)
        turned = jax.random.bernoulli(turn_key)
        patterns = _patterns(tuple(map(tuple, windows.tolist())), shape, self.norm)
        pattern = jnp.asarray(patterns, image.dtype)[phase, turned.astype(jnp.int32)]
        pattern = jnp.roll(pattern, places[:2], (0, 1))[:, :, None]
        delta = (image - problem.image).reshape(shape)
        share = None
        if _is_small(image):
            draw = jax.random.uniform(keys.stream(key, "share"), dtype=image.dtype)
            share = jnp.minimum(2 * draw, 1)
        moved = self._moved(
            delta, pattern * signs, first, second, problem.epsilon, share
        )
        return problem.image + moved.reshape(image.shape)

    def _moved(
        self,
        delta: Image,
        bump: Image,
        first: Array,
        second: Array,
        epsilon: Scalar,
        share: Scalar | None = None,
    ) -> Image:
        """Returns a perturbation whose norm in `second` has moved into `first`.

        Norms of windows are those of each channel; what the box had cut off the
        perturbation's norm is spread over the channels.

        Args:
          delta: the perturbation.
          bump: its new form in the first window, beside the old one.
          first: mask of a window.
          second: mask of a window.
          epsilon: the norm in the end.
          share: of the second window's norm, in `l2` of its square, that moves; all
            by default.
        """
        channels = delta.shape[-1]
        size = functools.partial(_channel_norms, kind=self.norm)
        inside = jnp.where(first, delta, 0)
        moving, staying = delta, 0
        if share is not None:
            power = 0.5 if self.norm == "l2" else 1
            moving, staying = share**power * delta, (1 - share) ** power * delta
        both = size(jnp.where(second, jnp.where(first, delta, moving), inside))
        new = bump + inside / _positive(size(inside))
        total = norms.norm(delta, self.norm)
        if self.norm == "l2":
            unused = jnp.maximum(epsilon**2 - total**2, 0)
            wanted = jnp.sqrt(unused / channels + both**2)
        else:
            unused = jnp.maximum(epsilon - total, 0)
            wanted = (unused / channels + both) * channels
        new = new * (wanted / _positive(size(new)))
        moved = jnp.where(first, new, jnp.where(second, staying, delta))
        # In l1 the projection cuts off what is too much.
        return self._filled(moved, epsilon) if self.norm == "l2" else moved


def bumps(rows: int, columns: int, norm: Norm) -> Float[np.ndarray, "rows columns"]:
    """Returns the paper's perturbation: two bumps of opposite signs, of norm 1 in all.

    Args:
      rows: of the perturbation; the upper bump has half of them, and none of one.
      columns: of the perturbation.
      norm: `l2` or `l1`, which has steeper bumps.
    """
    upper = rows // 2
    parts = [_bump(upper, columns, norm), -_bump(rows - upper, columns, norm)]
    whole = np.concatenate(parts)
    return whole / _size(whole, norm)


def _both_ways(rows: int, columns: int, norm: Norm) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bumps one above the other, and side by side."""
    return bumps(rows, columns, norm), bumps(columns, rows, norm).T


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
def _patterns(
    windows: tuple[tuple[int, int], ...], shape: tuple[int, ...], norm: Norm
) -> np.ndarray:
    """Returns the bumps of every phase, upright and lying, in the upper left corner."""
    patterns = np.zeros((len(windows), 2, *shape[:2]))
    for phase, (rows, columns) in enumerate(windows):
        patterns[phase, :, :rows, :columns] = _both_ways(rows, columns, norm)
    return patterns


def _is_small(image: Image) -> bool:
    """Returns whether the paper's least window is larger than a tile of the image."""
    height, width, _ = image.shape
    return height * width < (_TILES * _LEAST) ** 2


def _window(shape: tuple[int, ...], place: Array, size: Array) -> Array:
    """Returns the mask [height, width, 1] of a window of traced place and size."""
    height, width, _ = shape
    rows, columns = jnp.arange(height) - place[0], jnp.arange(width) - place[1]
    inside = ((rows >= 0) & (rows < size[0]))[:, None]
    inside &= ((columns >= 0) & (columns < size[1]))[None, :]
    return inside[:, :, None]


def _channel_norms(delta: Image, kind: Norm) -> Float[Array, "1 1 channels"]:
    if kind == "l2":
        return jnp.sqrt(jnp.sum(delta**2, (0, 1), keepdims=True))
    return jnp.sum(jnp.abs(delta), (0, 1), keepdims=True)


def _positive(size: Array) -> Array:
    """Returns a norm to divide by: 1 in place of 0."""
    return jnp.where(size > 0, size, 1)
