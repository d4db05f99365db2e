"""Local search among the corners of an linf ball: scores only, block after block."""

import dataclasses
import functools
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
    check_loss,
    with_enough_classes,
)
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey

_LEADERS = 16
"""Values of highest gain, all pairs of which are asked about where none gains alone."""


class _Grid(NamedTuple):
    """The blocks of an image, at every level of their size."""

    block_of: np.ndarray
    """[levels, height, width, channels], the block in which a value lies."""
    parent: np.ndarray
    """[levels, values], the block of the level before in which each block lies."""
    counts: np.ndarray
    """[levels], of blocks."""


class ParsimoniousState(NamedTuple):
    """Where a search stands."""

    best: Candidate
    gains: Float[Array, " values"]
    """What moving each block gained when it was last asked about; infinity before."""
    level: Int[Array, ""]
    """Of the size of the blocks, from the largest."""
    moved: Bool[Array, ""]
    """Whether anything has moved since all gains of this level were asked for."""
    leaders: Int[Array, " leaders"]
    """The blocks of highest gain, when pairs are asked about."""
    pair: Int[Array, ""]
    """Place of the next pair; -1 while blocks are asked about alone."""


@registry.register("parsimonious")
@dataclasses.dataclass(frozen=True)
class Parsimonious(SteppedAttack[ParsimoniousState]):
    """Parsimonious attack (Moon et al. 2019): local search on the scores, in linf.

    A move takes every value of a block to the farther end of what the ball and the box
    leave it.  All blocks are asked about once; then the one of highest gain is asked
    again, and moves if no other had a higher one ("lazy greedy").  Where none gains,
    blocks are halved.  A block that changes nothing at all, as most do before a
    rounding, is asked about no more, nor are its parts.

    Two things go beyond the paper.  The search begins at the given start, if there is
    one, whatever has made it.  And where no value gains alone, the pairs of those that
    lose least are asked about.

    An image's search ends at its first success, or where nothing gains any more.
    """

    family: ClassVar[Family] = "black box"
    ends_at_success: ClassVar[bool] = True
    takes_start: ClassVar[bool] = True
    threat_model: ClassVar[ThreatModel] = "scores"
    title: ClassVar[str] = "parsimonious attack"
    source: ClassVar[str] = "Moon et al. 2019"
    ends_early: ClassVar[bool] = True

    epsilon: float
    """Radius of the ball, on pixels in [0, 1]."""
    queries: int = 1000
    """The clean image and the start included."""
    block: int = 4
    """Rows and columns of the largest blocks, each in one channel."""
    loss: Loss = "difference"
    norm: Norm = dataclasses.field(default="linf", init=False)

    def __post_init__(self):
        check_epsilon(self)
        check(is_whole(self.queries, 3), self, "queries", "a whole number, 3 or more")
        power = is_whole(self.block, 1) and self.block.bit_count() == 1
        check(power, self, "block", "a power of 2")
        check_loss(self)

    def for_classes(self, classes: int, targeted: bool = False) -> "Parsimonious":
        """Returns the attack, with the margin where its loss needs more classes."""
        return with_enough_classes(self, classes, targeted)

    @property
    def iterations(self) -> int:
        """Queries after the clean image and the start."""
        return self.queries - 2

    def passes(self, classes: int) -> Passes:
        """Returns a query for the clean image and for the start, then one each step."""
        del classes
        return Passes(Queries(2, 0), Queries(1, 0))

    def begin(self, problem: Problem, key: PRNGKey) -> ParsimoniousState:
        """Returns the start, by default the darkest corner; no block has been moved."""
        del key
        objective = problem.objective(self.loss)
        inside = region.projection(problem.image, problem.epsilon, self.norm)
        start = problem.start
        start = inside(problem.image - problem.epsilon if start is None else start)
        clean = objective.candidate(problem.image)
        best = Candidate.nothing(start).better_of(objective.candidate(start))
        best = optax.tree.where(clean.evaluation.adversarial, clean, best)
        there = jnp.arange(start.size) < self._grid(start).counts[0]
        return ParsimoniousState(
            best=best,
            gains=jnp.where(there, jnp.inf, -jnp.inf).astype(start.dtype),
            level=jnp.int32(0),
            moved=jnp.bool_(False),
            leaders=jnp.zeros(min(_LEADERS, start.size), jnp.int32),
            pair=jnp.int32(-1),
        )

    def step(
        self, problem: Problem, key: PRNGKey, state: ParsimoniousState
    ) -> ParsimoniousState:
        """Returns the search one query on."""
        del key
        alone = state.pair < 0
        place = jnp.argmax(state.gains)
        pair = state.leaders[jnp.asarray(_pairs(len(state.leaders)))[state.pair]]
        one, other = jnp.where(alone, place, pair)
        block_of = jnp.asarray(self._grid(state.best.image).block_of)[state.level]
        among = (block_of == one) | (block_of == other)
        image = self._flipped(problem, state.best.image, among)
        asked = problem.objective(self.loss).candidate(image)
        gain = asked.evaluation.loss - state.best.evaluation.loss
        gain = jnp.where(jnp.isnan(gain), -jnp.inf, gain)
        rivals = state.gains.at[place].set(-jnp.inf).max()
        taken = asked.evaluation.beats(state.best.evaluation)
        taken &= asked.evaluation.adversarial | ~alone | (gain >= rivals)
        state = state._replace(
            best=optax.tree.where(taken, asked, state.best),
            moved=state.moved | taken,
            pair=jnp.where(alone, state.pair, state.pair + 1),
            gains=jnp.where(
                alone,
                # Back again it would lose as much.
                state.gains.at[place].set(jnp.where(taken, -gain, gain)),
                state.gains,
            ),
        )
        paired = ~alone & taken
        done = alone & (state.gains.max() <= 0)
        return optax.tree.where(paired | done, self._next(state), state)

    def image_of(self, state: ParsimoniousState) -> Images:
        """Returns the best image: no other is held."""
        return state.best.image

    def ended(self, state: ParsimoniousState) -> Bool[Array, ""]:
        """Returns whether an adversarial image was met, or nothing gains."""
        over = state.pair >= len(_pairs(len(state.leaders)))
        return state.best.evaluation.adversarial | over

    def finish(self, problem: Problem, key: PRNGKey, state: ParsimoniousState) -> Image:
        """Returns the best image."""
        del problem, key
        return state.best.image

    def _flipped(
        self, problem: Problem, image: Image, among: Bool[Array, "..."]
    ) -> Image:
        """Returns an image with some values at the farther end of their interval."""
        inside = region.projection(problem.image, problem.epsilon, self.norm)
        low = inside(problem.image - problem.epsilon)
        high = inside(problem.image + problem.epsilon)
        # One in the middle, as of the clean image, rises, however it was rounded.
        above = image - low > 0.501 * (high - low)
        other = jnp.where(above, low, high)
        return jnp.where(among, other, image)

    def _grid(self, image: Image) -> _Grid:
        return _grid(image.shape, self.block)

    def _next(self, state: ParsimoniousState) -> ParsimoniousState:
        """Returns the search where no block gains alone, or a pair has moved."""
        grid = self._grid(state.best.image)
        last = state.level == len(grid.counts) - 1
        level = jnp.where(last, state.level, state.level + 1)
        alive = state.gains != 0
        inherited = jnp.where(last, alive, alive[jnp.asarray(grid.parent)[level]])
        there = jnp.arange(alive.size) < jnp.asarray(grid.counts)[level]
        unasked = jnp.where(there, jnp.where(inherited, jnp.inf, 0), -jnp.inf)
        paired = last & ~state.moved & (state.pair < 0)
        leading = jnp.where(alive, state.gains, -jnp.inf)
        return state._replace(
            gains=jnp.where(paired, state.gains, unasked).astype(state.gains.dtype),
            level=level,
            moved=jnp.bool_(False),
            leaders=jax.lax.top_k(leading, len(state.leaders))[1],
            pair=jnp.where(paired, 0, -1).astype(jnp.int32),
        )


def _pairs(n: int) -> Int[np.ndarray, "pairs 2"]:
    """Returns the places of all pairs among n; of one alone, that with itself."""
    return np.stack(np.triu_indices(n, int(n > 1)), axis=1).astype(np.int32)


@functools.cache
def _grid(shape: tuple[int, ...], block: int) -> _Grid:
    """Returns the blocks of an image of this shape, the largest of `block` rows."""
    height, width, channels = shape
    rows, columns, channel = np.indices(shape)
    maps, parents, counts = [], [], []
    for side in (block >> level for level in range(block.bit_length())):
        across = -(-width // side)
        own = ((rows // side) * across + columns // side) * channels + channel
        parent = np.zeros(own.size, np.int32)
        if maps:
            parent[own] = maps[-1]
        maps.append(own)
        parents.append(parent)
        counts.append(-(-height // side) * across * channels)
    return _Grid(*(np.array(each, np.int32) for each in (maps, parents, counts)))
