"""What a solver is, and how ONE restart of it goes on from step to step."""

import abc
import dataclasses
import enum
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.core.prior import STANDARD_NORMAL, Prior
from robust_manifold.core.spec import Registry, check, is_whole
from robust_manifold.core.types import Generate, Image, Latent, Scalar
from robust_manifold.inversion.constraints import Constraint, as_constraint
from robust_manifold.inversion.problem import InversionProblem, Measured


class Status(enum.IntEnum):
    """How a restart ended."""

    FINISHED = 0
    NON_FINITE = 1
    ENOUGH = 2
    DROPPED = 3

    @property
    def message(self) -> str:
        """The status as a sentence."""
        return {
            Status.FINISHED: "All steps were taken.",
            Status.NON_FINITE: "An iterate was not finite; the best finite one counts.",
            Status.ENOUGH: "The image's error was as small as asked for.",
            Status.DROPPED: "Other restarts of the image were better half-way.",
        }[self]


class Step(NamedTuple):
    """One step of a solver: what the latent was worth, and where it goes."""

    measured: Measured
    """Of the latent that the step was given, so that no evaluation is made twice."""
    latent: Latent
    state: Any


class Solution(NamedTuple):
    """The best latent that one run of a solver met."""

    latent: Latent
    error: Scalar
    """Mean squared error per pixel, to rounding; infinite if no iterate was finite."""
    status: Int[Array, ""]
    """A `Status`."""
    objective: Scalar
    """What the solver minimised: the error, and the penalty if there is one."""


class SolverRun(NamedTuple):
    """A run of a solver that is under way."""

    latent: Latent
    """The next to be looked at."""
    state: Any
    best: Solution


@dataclasses.dataclass(frozen=True)
class Solver(abc.ABC):
    """Base class of all solvers: subclasses are frozen dataclasses.

    A subclass writes `init`, `step` and `passes`; the loop, the best-so-far and the
    check for non-finite iterates are common to all.  `state` is a tree of arrays of
    its own.

    Attributes:
      steps: how many steps a restart takes at most.
      penalty: weight of the latent's mean squared distance from the prior's centre,
        in deviations of the prior; restarts are compared by error and penalty.
      constraint: where the latent may be, or its text as in a config: "box(reach=2)".
        All keep to it, but Adam, whose steps differ by coordinate, comes to rest beside
        the optimum on a curved bound (`shell`).
      forward: number format of the passes through the generator.  In "bfloat16" its
        weights and activations have 8 bits, for accelerators; errors are summed in
        the image's own format.  Restarts are then compared by the images of the
        bfloat16 generator, but what is returned is the exact image and its error.
    """

    steps: int
    penalty: float = dataclasses.field(default=0.0, kw_only=True)
    constraint: Constraint | str | None = dataclasses.field(default=None, kw_only=True)
    forward: Literal["float32", "bfloat16"] = dataclasses.field(
        default="float32", kw_only=True
    )

    def __post_init__(self):
        # The text becomes its spec, so that equal solvers are equal and hash alike.
        object.__setattr__(self, "constraint", as_constraint(self.constraint))
        check(is_whole(self.steps, 1), self, "steps", "1 or more")
        constraint = self.constraint
        check(
            constraint is None or isinstance(constraint, Constraint),
            self,
            "constraint",
            "a constraint such as 'box(reach=2.0)', or None",
        )
        check(
            0 <= self.penalty < math.inf, self, "penalty", "a finite number, 0 or more"
        )
        formats = ("float32", "bfloat16")
        check(self.forward in formats, self, "forward", " or ".join(formats))

    @abc.abstractmethod
    def init(self, start: Latent) -> Any:
        """Returns the state before the first step."""

    @abc.abstractmethod
    def step(self, problem: InversionProblem, latent: Latent, state: Any) -> Step:
        """Returns what `latent` is worth, the next latent and the next state."""

    @abc.abstractmethod
    def passes(self, latent_size: int) -> float:
        """Returns how many passes through the generator a step is worth.

        A forward pass counts as 1, so does a backward pass to the latent, and so does
        a forward-mode derivative along one direction.
        """

    def problem(
        self, generate: Generate, image: Image, prior: Prior = STANDARD_NORMAL
    ) -> InversionProblem:
        """Returns the problem that the solver works on."""
        constraint = as_constraint(self.constraint)
        return InversionProblem(generate, image, prior, self.penalty, constraint)

    def begin(self, problem: InversionProblem, start: Latent) -> SolverRun:
        """Returns a run that has not taken a step."""
        start = problem.project(start)
        worst = jnp.full((), jnp.inf, problem.image.dtype)
        finished = jnp.int32(Status.FINISHED)
        return SolverRun(
            start, self.init(start), Solution(start, worst, finished, worst)
        )

    def advance(self, problem: InversionProblem, run: SolverRun) -> SolverRun:
        """Returns the run after one more step."""
        step = self.step(problem, run.latent, run.state)
        best = _update(run.best, run.latent, step.measured)
        return SolverRun(step.latent, step.state, best)

    def finish(self, problem: InversionProblem, run: SolverRun) -> Solution:
        """Returns the best latent of a run, the last one included."""
        return _update(run.best, run.latent, problem.measure(run.latent))

    def __call__(
        self,
        generate: Generate,
        image: Image,
        start: Latent,
        prior: Prior = STANDARD_NORMAL,
    ) -> Solution:
        """Returns the best latent met from `start`, the last one included.

        Args:
          generate: latent -> image.
          image: pixels in [0, 1].
          start: the latent to start from.
          prior: of the generator's latents, for penalty and constraint.
        """
        problem = self.problem(generate, image, prior)
        run = self.begin(problem, start)
        run, _ = jax.lax.scan(
            lambda run, _: (self.advance(problem, run), None), run, length=self.steps
        )
        return self.finish(problem, run)


def _update(best: Solution, latent: Latent, measured: Measured) -> Solution:
    """Returns the better of `best` and a new iterate, noting a non-finite one.

    Around the optimum the objective is flat, and rounding alone orders the iterates:
    among those equal to rounding the later iterate counts, as the nearer one.
    """
    objective, error = measured
    finite = _is_finite(latent, objective)
    rounding = 8 * jnp.finfo(error.dtype).eps
    better = finite & (objective <= (1 + rounding) * best.objective)
    return Solution(
        jnp.where(better, latent, best.latent),
        # The least of all, so that ties can't add up to a drift.
        jnp.where(
            better,
            jnp.where(objective > best.objective, best.error, error),
            best.error,
        ),
        jnp.where(finite, best.status, jnp.int32(Status.NON_FINITE)),
        jnp.where(better, jnp.minimum(objective, best.objective), best.objective),
    )


def _is_finite(latent: Latent, objective: Float[Array, ""]) -> Bool[Array, ""]:
    # A saturated generator may map an infinite latent to a finite error.
    return jnp.isfinite(objective) & jnp.isfinite(latent).all()


registry: Registry[Solver] = Registry("solver")
"""The solvers by the names that configs use."""


def as_solver(solver: Solver | str) -> Solver:
    """Returns the solver that a config's text describes, or the solver itself.

    Raises:
      UsageError: for a text that `registry` cannot build.
    """
    return solver if isinstance(solver, Solver) else registry.build(solver)
