"""Walk along the decision boundary towards the image: labels only."""

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    ThreatModel,
    registry,
)
from robust_manifold.core import keys, norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey, Scalar

SEEK, BISECT, ESTIMATE, JUMP = range(4)
"""What the next query is for: an adversarial start, the boundary between the image and
an adversarial one, the boundary's direction, or how far one may go along it."""

_BISECTIONS = 7
"""The fewest halvings of a bisection, to a hundredth of the way: of a few pixels the
paper's precision, which grows with their number, is no more than one halving."""
_JUMPS = 25
"""Halvings of a step, after which the walk goes on from where it is."""


class HopSkipJumpState(NamedTuple):
    """Where the walk stands; each step asks one query."""

    phase: Int[Array, ""]
    asked: Int[Array, ""]
    """Queries of this phase so far."""
    rounds: Int[Array, ""]
    """Estimates of the direction, this one included."""
    point: Image
    """Adversarial: the end of a bisection, or the place on the boundary."""
    reach: Scalar
    """How far `point` was from the image before the last bisection."""
    low: Scalar
    high: Scalar
    """Shares of the way from the image to `point`; `high` is adversarial."""
    sums: Image
    """Of the probes' directions."""
    signed: Image
    """Of the same, each with the sign of its success."""
    hits: Scalar
    """Successful probes, less the others."""
    direction: Image
    size: Scalar
    """Of the step that is tried."""
    best: Image
    distance: Scalar
    """Of the best; infinite before there is one."""


@registry.register("hop_skip_jump")
@dataclasses.dataclass(frozen=True)
class HopSkipJump(SteppedAttack[HopSkipJumpState]):
    """HopSkipJump (Chen, Jordan and Wainwright 2020): the nearest by labels alone.

    From an adversarial start, rounds of: bisect to the boundary, estimate its
    direction from the labels of random probes (100 times the root of the round's
    number), and take a step, halved until its end is adversarial.  Probes and steps
    stay in [0, 1].  What is returned is the nearest adversarial image of all queries.

    The start is one of `starts` random images: in the first half uniform pixels, then
    uniform blocks of random size, which more classes are found by.  Where none is
    adversarial, the image is returned as it is.
    """

    family: ClassVar[Family] = "black box"
    threat_model: ClassVar[ThreatModel] = "labels"
    title: ClassVar[str] = "HopSkipJump"
    source: ClassVar[str] = "Chen, Jordan and Wainwright 2020"
    takes_start: ClassVar[bool] = True
    ends_early: ClassVar[bool] = True

    norm: Norm = "l2"
    """`l2` or `linf`."""
    queries: int = 10_000
    """In all, the first on the image itself."""
    starts: int = 100
    """Random images tried as starts."""
    probes: int = 100
    """Of the first estimate."""
    gamma: float = 1.0
    """Precision of the bisection, times pixels to the power 3/2 (`l2`) or 2."""

    def __post_init__(self):
        check(self.norm in ("l2", "linf"), self, "norm", "l2 or linf")
        check(is_whole(self.queries, 2), self, "queries", "a whole number, 2 or more")
        for field in ("starts", "probes"):
            whole = is_whole(getattr(self, field), 1)
            check(whole, self, field, "a whole number, 1 or more")
        check(0 < self.gamma < math.inf, self, "gamma", "a finite number above 0")

    @property
    def iterations(self) -> int:
        """All queries but the one on the image itself."""
        return self.queries - 1

    def passes(self, classes: int) -> Passes:
        """Returns one query at first, and one a step."""
        del classes
        return Passes(begin=Queries(1, 0), step=Queries(1, 0))

    def begin(self, problem: Problem, key: PRNGKey) -> HopSkipJumpState:
        """Returns a walk that seeks its start, unless the image is adversarial."""
        del key
        image = problem.image
        wrong = problem.succeeds(problem.classify(image))
        zero, nothing = jnp.zeros((), image.dtype), jnp.zeros_like(image)
        return HopSkipJumpState(
            phase=jnp.int32(SEEK),
            asked=jnp.int32(0),
            rounds=jnp.int32(0),
            point=image,
            reach=zero,
            low=zero,
            high=zero + 1,
            sums=nothing,
            signed=nothing,
            hits=zero,
            direction=nothing,
            size=zero,
            best=image,
            distance=jnp.where(wrong, zero, jnp.inf),
        )

    def step(
        self, problem: Problem, key: PRNGKey, state: HopSkipJumpState
    ) -> HopSkipJumpState:
        """Returns the walk one query on."""
        state = state._replace(asked=state.asked + 1)
        asks = (self._start, self._blend, self._probe, self._jump)
        candidates = jnp.stack([ask(problem, key, state) for ask in asks])
        candidate = jnp.clip(candidates[state.phase], 0, 1)
        success = problem.succeeds(problem.classify(candidate))
        distance = norms.norm(candidate - problem.image, self.norm)
        nearer = success & (distance < state.distance)
        state = state._replace(
            best=jnp.where(nearer, candidate, state.best),
            distance=jnp.where(nearer, distance, state.distance),
        )
        learn = (self._started, self._bisected, self._probed, self._jumped)
        outcomes = [tell(problem, state, candidate, success) for tell in learn]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves)[state.phase], *outcomes)

    def image_of(self, state: HopSkipJumpState) -> Image:
        """Returns the nearest adversarial image so far."""
        return state.best

    def ended(self, state: HopSkipJumpState) -> Bool[Array, ""]:
        """Returns whether the image itself is adversarial, or no start was found."""
        lost = (state.phase == SEEK) & (state.asked >= self.starts)
        return (state.distance == 0) | lost

    def finish(self, problem: Problem, key: PRNGKey, state: HopSkipJumpState) -> Image:
        """Returns the nearest adversarial image, or the image itself."""
        del problem, key
        return state.best

    def _start(self, problem: Problem, key: PRNGKey, state: HopSkipJumpState) -> Image:
        """Returns a random image: uniform pixels, later uniform blocks."""
        image = problem.image
        height, width, _ = image.shape
        pixel_key, block_key = jax.random.split(key)
        noise = keys.drawn(jax.random.uniform, pixel_key, image.shape, image.dtype)
        largest = max(max(height, width) // 2, 2)
        block = jax.random.randint(block_key, (), 2, largest + 1)
        blocks = noise[jnp.arange(height) // block][:, jnp.arange(width) // block]
        random = jnp.where(2 * state.asked <= self.starts + 1, noise, blocks)
        if problem.start is None:
            return random
        return jnp.where(state.asked == 1, problem.start, random)

    def _started(
        self, problem: Problem, state: HopSkipJumpState, candidate, success
    ) -> HopSkipJumpState:
        return self._towards(problem, state, candidate, success)

    def _towards(
        self,
        problem: Problem,
        state: HopSkipJumpState,
        point: Image,
        goes: Bool[Array, ""],
    ) -> HopSkipJumpState:
        """Returns the walk before a bisection between the image and `point`."""
        reach = norms.norm(point - problem.image, self.norm)
        begun = state._replace(
            phase=jnp.int32(BISECT),
            asked=jnp.int32(0),
            point=point,
            reach=reach,
            low=jnp.zeros_like(state.low),
            high=jnp.ones_like(state.high),
        )
        return optax.tree.where(goes, begun, state)

    def _between(
        self, problem: Problem, state: HopSkipJumpState, share: Scalar
    ) -> Image:
        """Returns an image so far from the clean one, on the way to `point`."""
        delta = state.point - problem.image
        if self.norm == "linf":
            return problem.image + norms.project_ball(
                delta, share * state.reach, "linf"
            )
        return problem.image + share * delta

    def _blend(self, problem: Problem, key: PRNGKey, state: HopSkipJumpState) -> Image:
        del key
        return self._between(problem, state, (state.low + state.high) / 2)

    def _bisected(
        self, problem: Problem, state: HopSkipJumpState, candidate, success
    ) -> HopSkipJumpState:
        middle = (state.low + state.high) / 2
        low = jnp.where(success, state.low, middle)
        high = jnp.where(success, middle, state.high)
        state = state._replace(low=low, high=high)
        point = jnp.clip(self._between(problem, state, high), 0, 1)
        # The far end was asked about before, and is kept as it was.
        point = jnp.where(high < 1, point, state.point)
        nothing = jnp.zeros_like(point)
        next_round = state._replace(
            phase=jnp.int32(ESTIMATE),
            asked=jnp.int32(0),
            rounds=state.rounds + 1,
            point=point,
            sums=nothing,
            signed=nothing,
            hits=jnp.zeros_like(state.hits),
        )
        return optax.tree.where(
            state.asked >= self._bisections(point), next_round, state
        )

    def _bisections(self, image: Image) -> int:
        """Returns how many halvings reach the wanted precision."""
        power = 1.5 if self.norm == "l2" else 2.0
        wanted = power * math.log2(image.size) - math.log2(self.gamma)
        # Finer shares cannot be told apart.
        return max(_BISECTIONS, min(math.ceil(wanted), jnp.finfo(image.dtype).nmant))

    def _probe(self, problem: Problem, key: PRNGKey, state: HopSkipJumpState) -> Image:
        like = problem.image
        if self.norm == "l2":
            draw = keys.drawn(jax.random.normal, key, like.shape, like.dtype)
        else:
            draw = keys.drawn(
                jax.random.uniform, key, like.shape, like.dtype, minval=-1.0
            )
        unit = norms.steepest_direction(draw, "l2")
        return state.point + self._radius(state) * unit

    def _radius(self, state: HopSkipJumpState) -> Scalar:
        """Returns how far from the boundary the probes are."""
        later = self.gamma * state.reach / state.point.size
        return jnp.where(state.rounds == 1, 0.1, later)

    def _probed(
        self, problem: Problem, state: HopSkipJumpState, candidate, success
    ) -> HopSkipJumpState:
        # The box may have cut the probe.
        moved = (candidate - state.point) / self._radius(state)
        sign = jnp.where(success, 1, -1).astype(moved.dtype)
        state = state._replace(
            sums=state.sums + moved,
            signed=state.signed + sign * moved,
            hits=state.hits + sign,
        )
        # The mean sign is a baseline, except where all signs are the same.
        mean = state.hits / state.asked
        baseline = jnp.where(jnp.abs(mean) < 1, mean, 0)
        gradient = state.signed - baseline * state.sums
        distance = norms.norm(state.point - problem.image, self.norm)
        rounds = state.rounds.astype(distance.dtype)
        estimated = state._replace(
            phase=jnp.int32(JUMP),
            asked=jnp.int32(0),
            direction=norms.steepest_direction(gradient, self.norm),
            size=distance / jnp.sqrt(rounds),
        )
        wanted = jnp.floor(self.probes * jnp.sqrt(rounds)).astype(jnp.int32)
        return optax.tree.where(state.asked >= wanted, estimated, state)

    def _jump(self, problem: Problem, key: PRNGKey, state: HopSkipJumpState) -> Image:
        del problem, key
        return state.point + state.size * state.direction

    def _jumped(
        self, problem: Problem, state: HopSkipJumpState, candidate, success
    ) -> HopSkipJumpState:
        stuck = state.asked >= _JUMPS
        point = jnp.where(success, candidate, state.point)
        halved = state._replace(size=state.size / 2)
        return self._towards(problem, halved, point, success | stuck)
