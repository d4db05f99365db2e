"""Elastic-net attack: few changed pixels through an l1 penalty beside the l2 one."""

import dataclasses
import math
from typing import ClassVar, Literal, NamedTuple

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
    registry,
)
from robust_manifold.attacks.losses import finite
from robust_manifold.attacks.trade_off import (
    Constant,
    Goal,
    Look,
    RoundProgress,
    check_search,
    first_constant,
    repeats,
)
from robust_manifold.core.norms import Norm, norm
from robust_manifold.core.spec import check
from robust_manifold.core.types import Image, PRNGKey, Scalar


class ElasticNetRound(NamedTuple):
    """One descent with one constant."""

    image: Image
    ahead: Image
    """Where the gradient is taken: the image with momentum."""
    steps: Int[Array, ""]
    found: Bool[Array, ""]
    progress: RoundProgress


class ElasticNetState(NamedTuple):
    """Where the attack stands."""

    round: ElasticNetRound
    rounds: Int[Array, ""]
    constant: Constant
    goal: Goal
    best: Image
    distance: Scalar
    """Of the best image, by the decision rule; infinite while there is none."""


@registry.register("elastic_net")
@dataclasses.dataclass(frozen=True)
class ElasticNet(SteppedAttack[ElasticNetState]):
    """Elastic-net attack, "EAD" (Chen et al. 2018): FISTA with shrinkage.

    Minimises `beta * |delta|_1 + |delta|_2^2 + c * max(z_y - max_j z_j + kappa, 0)` and
    searches for the constant c as `CarliniWagner` does.  A step of size
    `learning_rate`, falling with the square root of what is left of the round, is
    followed by shrinkage by `beta`: a pixel that moved less stays where it was.  As in
    the authors' program the shrinkage does not fall with the step, so the penalty
    that it stands for is beta over the step's size.

    With `normalise` the logits are measured in units of the clean image's own
    shortfall (`Goal`), so that their scale changes nothing.
    """

    family: ClassVar[Family] = "minimum norm"
    title: ClassVar[str] = "elastic net"
    source: ClassVar[str] = "Chen et al. 2018"
    norm: Norm = dataclasses.field(default="l1", init=False, repr=False)
    ends_early: ClassVar[bool] = True
    takes_start: ClassVar[bool] = True

    beta: float = 0.01
    """Shrinkage, in pixels, and weight of the l1 distance."""
    decision_rule: Literal["l1", "elastic_net"] = "l1"
    """By which distance the best adversarial image is chosen."""
    binary_search_steps: int = 9
    """Rounds, each with another constant."""
    steps: int = 100
    """Steps of a round at most."""
    learning_rate: float = 0.01
    """Size of a round's first step."""
    initial_const: float | None = None
    """The first round's c; by default 1 with `normalise` and 0.001 without."""
    confidence: float = 0.0
    """kappa: the lead in logits that counts as a success."""
    abort_early: bool = True
    """End a round when a tenth of its steps brought no gain."""
    normalise: bool = True
    """Make the attack blind to the scale of the logits."""

    def __post_init__(self):
        check_search(self)
        check(0 < self.beta < math.inf, self, "beta", "a finite number above 0")
        rules = ("l1", "elastic_net")
        check(self.decision_rule in rules, self, "decision_rule", " or ".join(rules))

    @property
    def iterations(self) -> int:
        """All steps of all rounds."""
        return self.binary_search_steps * self.steps

    def passes(self, classes: int) -> Passes:
        """Returns the cost: the clean image, then a gradient and a look a step."""
        return Passes(begin=Queries(1, 0), step=Queries(2, 1))

    def begin(self, problem: Problem, key: PRNGKey) -> ElasticNetState:
        """Returns the start of the first round."""
        image = problem.image
        goal, there = Goal.of(problem, self.confidence, self.normalise)
        return ElasticNetState(
            _fresh(problem.begins_at),
            # Nothing is nearer than the image itself: there is nothing to search.
            jnp.where(there, self.binary_search_steps, 0),
            Constant.starting(first_constant(self), image),
            goal,
            image,
            jnp.full((), jnp.inf, image.dtype),
        )

    def step(
        self, problem: Problem, key: PRNGKey, state: ElasticNetState
    ) -> ElasticNetState:
        """Returns the search one step of FISTA on."""
        clean, descent = problem.image, state.round

        def loss(image: Image) -> tuple[Scalar, Look]:
            look = state.goal.look(problem, problem.classify(image))
            squared = jnp.sum((image - clean) ** 2)
            return state.constant.value * look.shortfall + squared, look

        (value, there), gradient = jax.value_and_grad(loss, has_aux=True)(descent.ahead)
        if problem.start is not None:
            # The first step leads away from a given start.
            begins = descent.steps == 0
            state = self._met(state, problem.start, clean, there.adversarial & begins)
        place = descent.steps.astype(clean.dtype)
        size = self.learning_rate * jnp.sqrt(1 - place / self.steps)
        image = self._shrunk(descent.ahead - size * finite(gradient), clean)
        ahead = image + place / (place + 3) * (image - descent.image)
        look = state.goal.look(problem, problem.classify(image))
        state = self._met(state, image, clean, look.adversarial)
        going = state.round._replace(image=image, ahead=ahead, steps=descent.steps + 1)
        return self._end_of_round(problem.begins_at, value, state._replace(round=going))

    def image_of(self, state: ElasticNetState) -> Image:
        """Returns the image of the round's descent."""
        return state.round.image

    def ended(self, state: ElasticNetState) -> Bool[Array, ""]:
        """Returns whether all rounds are done."""
        return state.rounds >= self.binary_search_steps

    def finish(self, problem: Problem, key: PRNGKey, state: ElasticNetState) -> Image:
        """Returns the nearest adversarial image of all rounds."""
        return state.best

    def _met(
        self,
        state: ElasticNetState,
        image: Image,
        clean: Image,
        adversarial: Bool[Array, ""],
    ) -> ElasticNetState:
        """Returns the state with an image that was looked at, the best if it is."""
        distance = self._distance(image - clean)
        nearer = adversarial & (distance < state.distance)
        found = state.round.found | adversarial
        return state._replace(
            round=state.round._replace(found=found),
            best=jnp.where(nearer, image, state.best),
            distance=jnp.where(nearer, distance, state.distance),
        )

    def _shrunk(self, image: Image, clean: Image) -> Image:
        """Returns the image in the box, its moves shortened by beta or undone."""
        delta = image - clean
        shorter = jnp.clip(image - jnp.sign(delta) * self.beta, 0, 1)
        return jnp.where(jnp.abs(delta) > self.beta, shorter, clean)

    def _distance(self, delta: Image) -> Scalar:
        if self.decision_rule == "l1":
            return norm(delta, "l1")
        return self.beta * norm(delta, "l1") + jnp.sum(delta**2)

    def _end_of_round(
        self, start: Image, loss: Scalar, state: ElasticNetState
    ) -> ElasticNetState:
        """Returns the state, in the next round, from `start`, if this one is over."""
        descent = state.round
        over = descent.steps >= self.steps
        if self.abort_early:
            moved = jnp.any(descent.image != start)
            progress = descent.progress.after(descent.steps, self.steps, loss, moved)
            over |= progress.stalled
            state = state._replace(round=descent._replace(progress=progress))
        rounds = state.rounds + 1
        after = state._replace(
            round=_fresh(start),
            rounds=rounds,
            constant=state.constant.after(
                descent.found, repeats(self.binary_search_steps, rounds)
            ),
        )
        return optax.tree.where(over, after, state)


def _fresh(image: Image) -> ElasticNetRound:
    progress = RoundProgress.starting(image)
    return ElasticNetRound(image, image, jnp.int32(0), jnp.bool_(False), progress)
