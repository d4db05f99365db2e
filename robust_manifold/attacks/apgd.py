"""Auto-PGD: gradient ascent that sets its own step size."""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks import losses, region
from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    check_epsilon,
    registry,
)
from robust_manifold.attacks.losses import (
    Candidate,
    Loss,
    Objective,
    ObjectiveValue,
    check_loss,
    with_enough_classes,
)
from robust_manifold.core import keys, norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, Label, Logits, PRNGKey, Scalar

_MOMENTUM = 0.75
"""Share of the new step; the rest is the last one's (Croce and Hein 2020, sec. 3)."""


class _Timetable(NamedTuple):
    """What happens at each evaluation of a run, from the start to the last image."""

    radius: np.ndarray
    """Of the ball, as a multiple of epsilon."""
    next_radius: np.ndarray
    """The same after this evaluation."""
    first: np.ndarray
    """Whether a stage begins here."""
    last: np.ndarray
    """Whether a stage ends here: no step follows, but the next stage's start."""
    window: np.ndarray
    """At a checkpoint the steps since the one before it; 0 elsewhere."""


@functools.cache
def _timetable(steps: int, norm: Norm) -> _Timetable:
    rows = []
    for radius, length in _stages(steps, norm):
        windows = _windows(length, norm)
        for place in range(length + 1):
            row = (radius, place == 0, place == length, windows.get(place, 0))
            rows.append(row)
    columns = zip(*rows, strict=True)
    # Of types that JAX has with and without 64 bits: the table is kept.
    types = (np.float32, np.bool_, np.bool_, np.int32)
    radius, first, last, window = map(np.array, columns, types)
    return _Timetable(radius, np.roll(radius, -1), first, last, window)


def _stages(steps: int, norm: Norm) -> list[tuple[float, int]]:
    """Returns the radii, as multiples of epsilon, and how many steps each is kept.

    An l1 attack begins in larger balls (Croce and Hein 2021, section 3.3).
    """
    early = math.ceil(0.3 * steps)
    if norm != "l1" or steps <= 2 * early:
        return [(1.0, steps)]
    return [(3.0, early), (2.0, early), (1.0, steps - 2 * early)]


def _windows(steps: int, norm: Norm) -> dict[int, int]:
    """Returns the checkpoints, with the number of steps since the one before."""
    if norm == "l1":
        window = shortest = max(int(0.04 * steps), 1)
        decrease = 0
    else:
        window = max(int(0.22 * steps), 1)
        shortest = max(int(0.06 * steps), 1)
        decrease = max(int(0.03 * steps), 1)
    found, place = {}, window
    while place <= steps:
        found[place] = window
        window = max(window - decrease, shortest)
        place += window
    return found


class Peak(NamedTuple):
    """The image of highest loss since a stage began, and the gradient there."""

    image: Image
    gradient: Image
    loss: Scalar


class APGDState(NamedTuple):
    """Where an attack stands; its runs go one after another."""

    evaluations: Int[Array, ""]
    """Made so far, over all runs."""
    targets: Int[Array, " targets"]
    """Classes to be reached one after another, by the targeted loss alone."""
    image: Image
    """What is evaluated next."""
    previous: Image
    """Where the last step began."""
    peak: Peak
    found: Candidate
    """The best image of all runs: adversarial first, then by its loss."""
    loss: Scalar
    """Of the last image."""
    rises: Int[Array, ""]
    """Steps that raised the loss since the last checkpoint."""
    step_size: Scalar
    reduced: Bool[Array, ""]
    """Whether the last checkpoint reduced the step size."""
    loss_at_checkpoint: Scalar
    """The peak's, at the last checkpoint."""
    entries: Int[Array, ""]
    """How many entries the peak, or the start, changes: l1 steps move fewer."""
    memory: Any = ()
    """The gradients of the steps before, each of one length; () without `decay`."""


@dataclasses.dataclass(frozen=True)
class _TowardsTarget(Objective):
    """The targeted ratio from the label to `target`; any wrong class is a success."""

    target: Label | None = None

    def of(self, logits: Logits) -> ObjectiveValue:
        """Returns the evaluation of one logit vector."""
        assert self.target is not None
        ratio = losses.targeted_dlr(logits, self.label, self.target)
        return ObjectiveValue(ratio, self.succeeds(logits))


@registry.register("apgd")
@dataclasses.dataclass(frozen=True)
class APGD(SteppedAttack[APGDState]):
    """Auto-PGD (Croce and Hein 2020), in l1 as Croce and Hein 2021 have it.

    Steps begin at twice the radius and are halved, at the paper's checkpoints, where
    fewer than `rho` of the steps raised the loss, or where nothing was gained since
    the last checkpoint without a halving; the search then goes on from the best image
    so far.  l1 steps begin at the radius, move the entries of largest gradient, two
    thirds as many as the best image has changed, and the ball shrinks from three times
    the radius.  Runs start at random and follow one another, so that a first success
    can end them all.
    """

    family: ClassVar[Family] = "budgeted"
    ends_at_success: ClassVar[bool] = True
    takes_start: ClassVar[bool] = True
    title: ClassVar[str] = "Auto-PGD"
    source: ClassVar[str] = "Croce and Hein 2020"

    epsilon: float
    """Radius of the ball, in the plain norm, on pixels in [0, 1]."""
    norm: Norm = "linf"
    """`linf`, `l2` or `l1`."""
    loss: Literal[Loss, "targeted_dlr"] = "margin"
    """`targeted_dlr` goes for other classes one after another, a run each; any class
    but the label's is a success."""
    steps: int = 100
    restarts: int = 1
    """Runs, or with `targeted_dlr` runs for each class; the first of them begins at
    the given start, if there is one."""
    rho: float = 0.75
    stop: bool = False
    """End an image's search at its first success: successes stay the same, but the
    image is then the first adversarial one, not the worst."""
    targets: int = 9
    """How many classes `targeted_dlr` goes for: those of the clean image's highest
    logits, the label's aside.  A targeted attack has one."""
    decay: float = 0.0
    """What is left, after a step, of the gradients before it: a step goes along their
    sum, in which the noise of a random classifier averages out.  0 is the paper's."""

    def __post_init__(self):
        check_epsilon(self)
        check(self.norm in ("linf", "l2", "l1"), self, "norm", "linf or l2 or l1")
        check_loss(self, "targeted_dlr")
        check(is_whole(self.steps, 1), self, "steps", "1 or more")
        check(is_whole(self.restarts, 1), self, "restarts", "1 or more")
        check(0 < self.rho < 1, self, "rho", "between 0 and 1")
        check(is_whole(self.targets, 1), self, "targets", "1 or more")
        check(0 <= self.decay < 1, self, "decay", "0 or more and below 1")

    @property
    def iterations(self) -> int:
        """The evaluations of all runs: their steps, and each one's last image."""
        runs = self.restarts * (self.targets if self._has_targets else 1)
        return runs * self._evaluations

    @property
    def ends_early(self) -> bool:  # type: ignore[override]
        """Whether the first success ends the search."""
        return self.stop

    @property
    def _has_targets(self) -> bool:
        return self.loss == "targeted_dlr"

    @property
    def _evaluations(self) -> int:
        """How many a run has."""
        return len(_timetable(self.steps, self.norm).first)

    def passes(self, classes: int) -> Passes:
        """Returns the cost: the clean image's value, then a gradient each time."""
        return Passes(begin=Queries(1, 0), step=Queries(1, 1))

    def for_classes(self, classes: int, targeted: bool = False) -> Any:
        """Returns the attack with a loss, and targets, that so many classes have."""
        if not self._has_targets:
            return with_enough_classes(self, classes, targeted)
        if classes < 4:
            return dataclasses.replace(self, loss="margin")
        others = 1 if targeted else classes - 1
        return dataclasses.replace(self, targets=min(self.targets, others))

    def begin(self, problem: Problem, key: PRNGKey) -> APGDState:
        """Returns the first run's start, and the clean image as the best so far."""
        image = problem.image
        logits = problem.classify(image)
        targets = jnp.zeros(1, jnp.int32)
        if self._has_targets:
            targets = self._likeliest(problem, logits)
        clean = self._objective(problem, targets[0]).of(logits)
        lowest = jnp.full((), -jnp.inf, image.dtype)
        start = self._start(problem, key, 0)
        return APGDState(
            evaluations=jnp.int32(0),
            targets=targets,
            image=start,
            previous=start,
            peak=Peak(start, jnp.zeros_like(image), lowest),
            found=Candidate(image, clean),
            loss=lowest,
            rises=jnp.int32(0),
            step_size=jnp.zeros_like(lowest),
            reduced=jnp.bool_(True),
            loss_at_checkpoint=lowest,
            entries=jnp.int32(0),
            memory=jnp.zeros_like(image) if self.decay else (),
        )

    def step(self, problem: Problem, key: PRNGKey, state: APGDState) -> APGDState:
        """Returns the state after one more evaluation, and the step that follows it."""
        place = state.evaluations % self._evaluations
        now = _Timetable(
            *(
                jnp.asarray(column)[place]
                for column in _timetable(self.steps, self.norm)
            )  # type: ignore[arg-type]
        )
        epsilon = problem.epsilon * now.radius.astype(state.image.dtype)
        state = optax.tree.where(now.first, self._fresh(problem, epsilon, state), state)
        target = state.targets[state.evaluations // (self._evaluations * self.restarts)]
        image = state.image
        evaluation, gradient = self._objective(problem, target).evaluate_with_gradient(
            image
        )
        if self.decay:
            gradient = self.decay * state.memory + _of_one_length(gradient)
        counted = state.found.better_of(Candidate(image, evaluation))
        reached = Peak(image, gradient, evaluation.loss)
        state = state._replace(
            evaluations=state.evaluations + 1,
            found=optax.tree.where(now.radius <= 1, counted, state.found),
            peak=optax.tree.where(
                evaluation.loss > state.peak.loss, reached, state.peak
            ),
            rises=state.rises + (evaluation.loss > state.loss),
            loss=evaluation.loss,
        )
        checkpoint = self._checked if self.norm != "l1" else self._checked_entries
        checked, back = checkpoint(problem, epsilon, now.window, state)
        state = optax.tree.where(now.window > 0, checked, state)
        back &= now.window > 0
        image = jnp.where(back, state.peak.image, image)
        gradient = jnp.where(back, state.peak.gradient, gradient)
        share = jnp.where(now.first, 1, _MOMENTUM).astype(image.dtype)
        moved = self._moved(problem, epsilon, state, image, gradient, share)
        following = jnp.where(now.last, self._next(problem, key, now, state), moved)
        memory = gradient if self.decay else ()
        return state._replace(image=following, previous=image, memory=memory)

    def ended(self, state: APGDState) -> Bool[Array, ""]:
        """Returns whether an adversarial image has been met."""
        return state.found.evaluation.adversarial

    def finish(self, problem: Problem, key: PRNGKey, state: APGDState) -> Image:
        """Returns the best image over all runs."""
        return state.found.image

    def _objective(self, problem: Problem, target: Label) -> Objective:
        if self.loss != "targeted_dlr":
            return problem.objective(self.loss)
        if problem.targeted:
            return problem.objective("dlr")
        return _TowardsTarget(problem.classify, problem.label, target=target)

    def _likeliest(self, problem: Problem, logits: Logits) -> Int[Array, " targets"]:
        """Returns the targets: classes that can win, again where there are too few."""
        ranked = losses.ranked(logits, problem.label)
        targets = jax.lax.top_k(ranked, self.targets)[1]
        living = jnp.sum(losses.possible(logits)[targets])
        return targets[jnp.arange(self.targets) % jnp.maximum(living, 1)]

    def _start(
        self, problem: Problem, key: PRNGKey, run: Int[Array, ""] | int
    ) -> Image:
        """Returns a run's start: a random one, or the given one if it is the first."""
        image, start = problem.image, self._random_start(problem, key)
        if problem.start is None:
            return start
        radius = problem.epsilon * _stages(self.steps, self.norm)[0][0]
        given = region.projection(image, radius, self.norm)(problem.start)
        return jnp.where(run % self.restarts == 0, given, start)

    def _random_start(self, problem: Problem, key: PRNGKey) -> Image:
        image = problem.image
        radius = problem.epsilon * _stages(self.steps, self.norm)[0][0]
        project = region.projection(image, radius, self.norm)
        if self.norm == "l1":
            # A point of the ball itself would change every entry, by next to nothing.
            normal = keys.drawn(jax.random.normal, key, image.shape, image.dtype)
            return project(image + normal)
        return project(image + radius * norms.uniform_in_ball(key, image, self.norm))

    def _next(
        self, problem: Problem, key: PRNGKey, now: _Timetable, state: APGDState
    ) -> Image:
        """Returns the next stage's start: the peak, or a random one in a new run."""
        start = self._start(problem, key, state.evaluations // self._evaluations)
        if self.norm != "l1":
            return start
        epsilon = problem.epsilon * now.next_radius.astype(start.dtype)
        inside = region.projection(problem.image, epsilon, self.norm)
        return jnp.where(now.next_radius < now.radius, inside(state.peak.image), start)

    def _fresh(self, problem: Problem, epsilon: Scalar, state: APGDState) -> APGDState:
        """Returns the state at a stage's first evaluation."""
        lowest = jnp.full_like(state.loss, -jnp.inf)
        return state._replace(
            previous=state.image,
            peak=Peak(state.image, jnp.zeros_like(state.image), lowest),
            # The start is no rise.
            loss=-lowest,
            rises=jnp.int32(0),
            step_size=epsilon if self.norm == "l1" else 2 * epsilon,
            reduced=jnp.bool_(True),
            loss_at_checkpoint=lowest,
            entries=_entries(state.image - problem.image),
            memory=jnp.zeros_like(state.image) if self.decay else (),
        )

    def _checked(
        self, problem: Problem, epsilon: Scalar, window: Any, state: APGDState
    ) -> tuple[APGDState, Bool[Array, ""]]:
        """Returns the state after a checkpoint, and whether to go back to the peak."""
        oscillates = state.rises <= self.rho * window
        stuck = ~state.reduced & (state.loss_at_checkpoint >= state.peak.loss)
        reduced = oscillates | stuck
        state = state._replace(
            rises=jnp.int32(0),
            step_size=jnp.where(reduced, state.step_size / 2, state.step_size),
            reduced=reduced,
            loss_at_checkpoint=state.peak.loss,
        )
        return state, reduced

    def _checked_entries(
        self, problem: Problem, epsilon: Scalar, window: Any, state: APGDState
    ) -> tuple[APGDState, Bool[Array, ""]]:
        """Does what `_checked` does, for l1, by how many entries are changed.

        Where they have become fewer, large steps that move few are worth their while.
        """
        entries = _entries(state.peak.image - problem.image)
        fewer = entries < 0.95 * state.entries
        smaller = jnp.maximum(state.step_size / 1.5, epsilon / 10)
        state = state._replace(
            step_size=jnp.where(fewer, epsilon, smaller), entries=entries
        )
        return state, fewer

    def _moved(
        self,
        problem: Problem,
        epsilon: Scalar,
        state: APGDState,
        image: Image,
        gradient: Image,
        share: Scalar,
    ) -> Image:
        """Returns where the step from `image` leads; `state` has the step before it."""
        project = region.projection(problem.image, epsilon, self.norm)
        if self.norm == "l1":
            direction = _sparse_direction(gradient, image, state.entries)
            return project(image + state.step_size * direction)
        direction = norms.steepest_direction(gradient, self.norm)
        change = project(image + state.step_size * direction) - image
        last = image - state.previous
        return project(image + share * change + (1 - share) * last)


def _of_one_length(gradient: Image) -> Image:
    size = jnp.mean(jnp.abs(gradient))
    return gradient / jnp.where(size > 0, size, 1)


def _sparse_direction(gradient: Image, image: Image, entries: Int[Array, ""]) -> Image:
    """Returns an l1 step for two thirds as many entries as are changed.

    Two kinds of the paper's steps lead nowhere, however many there are.  Where the box
    holds all entries that would move, the steepest free ones move in their place, and
    the held ones are pushed on against the box.  And where no fewer entries would move
    than are changed, those of the smallest gradient stay: of equal steps of all the
    projection leaves nothing.
    """
    count = jnp.clip(-(-2 * entries // 3), 1, gradient.size)
    direction = norms.sparse_direction(gradient, count)
    free = region.inwards(gradient, image)
    held = (region.inwards(direction, image) == 0).all()
    direction = jnp.where(held, norms.sparse_direction(free, count), direction)

    moving = region.inwards(direction, image)
    size = jnp.abs(gradient)
    least = jnp.min(jnp.where(moving != 0, size, jnp.inf))
    steeper = jnp.where(size > least, moving, 0)
    undone = (_entries(moving) >= entries) & (steeper != 0).any()
    direction = jnp.where(undone, jnp.where(size > least, direction, 0), direction)

    largest = jnp.max(jnp.abs(direction))
    pushed = held & (free == 0) & (size >= least)
    return jnp.where(pushed, jnp.sign(gradient) * largest, direction)


def _entries(delta: Float[Array, "..."]) -> Int[Array, ""]:
    return jnp.sum(delta != 0).astype(jnp.int32)
