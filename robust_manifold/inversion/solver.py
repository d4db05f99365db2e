"""What a solver is, and the loop that drives every one of them from ONE start."""

import abc
import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_manifold.core.spec import Registry
from robust_manifold.core.types import Generate, Image, Latent, Scalar


class Status(enum.IntEnum):
    """How a solver ended."""

    FINISHED = 0
    NON_FINITE = 1

    @property
    def message(self) -> str:
        """The status as a sentence."""
        return {
            Status.FINISHED: "All steps were taken.",
            Status.NON_FINITE: "An iterate was not finite; the best before it counts.",
        }[self]


class Problem(NamedTuple):
    """Find the latent whose image is nearest to `image`."""

    generate: Generate
    image: Image

    def residual(self, latent: Latent) -> Float[Array, " pixels"]:
        """Returns G(z) - x as a vector."""
        return (self.generate(latent) - self.image).reshape(-1)

    def error(self, latent: Latent) -> Scalar:
        """Returns the mean squared error per pixel."""
        return jnp.mean(self.residual(latent) ** 2)


class Step(NamedTuple):
    """One step of a solver: the error where it stood, and where it goes."""

    error: Scalar
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


class Solver(abc.ABC):
    """Base class of all solvers: subclasses are frozen dataclasses.

    A subclass writes `init` and `step`; the loop, the best-so-far and the check for
    non-finite iterates are common to all.  `state` is a tree of arrays of its own.
    """

    steps: int
    """Length of the loop, at least 1."""

    @abc.abstractmethod
    def init(self, start: Latent) -> Any:
        """Returns the state before the first step."""

    @abc.abstractmethod
    def step(self, problem: Problem, latent: Latent, state: Any) -> Step:
        """Returns the error at `latent`, the next latent and the next state."""

    def __call__(self, generate: Generate, image: Image, start: Latent) -> Solution:
        """Returns the best latent met from `start`, the last one included.

        Args:
          generate: latent -> image.
          image: pixels in [0, 1].
          start: the latent to start from.
        """
        problem = Problem(generate, image)

        def advance(carry, _):
            latent, state, best = carry
            step = self.step(problem, latent, state)
            return (step.latent, step.state, _update(best, latent, step.error)), None

        nothing = Solution(
            start, jnp.full((), jnp.inf, image.dtype), jnp.int32(Status.FINISHED)
        )
        carry = (start, self.init(start), nothing)
        (last, _, best), _ = jax.lax.scan(advance, carry, length=self.steps)
        return _update(best, last, problem.error(last))


def _update(best: Solution, latent: Latent, error: Scalar) -> Solution:
    """Returns the better of `best` and a new iterate, noting a non-finite one.

    Around the optimum the error is flat, and rounding alone orders the iterates:
    among errors equal to rounding the later iterate counts, as the nearer one.
    """
    # A saturated generator may map an infinite latent to a finite error.
    finite = jnp.isfinite(error) & jnp.isfinite(latent).all()
    rounding = 8 * jnp.finfo(error.dtype).eps
    better = finite & (error <= (1 + rounding) * best.error)
    return Solution(
        jnp.where(better, latent, best.latent),
        # The least of all, so that ties can't add up to a drift.
        jnp.where(better, jnp.minimum(error, best.error), best.error),
        jnp.where(finite, best.status, jnp.int32(Status.NON_FINITE)),
    )


registry: Registry[Solver] = Registry("solver")
"""The solvers by the names that configs use."""


def as_solver(solver: Solver | str) -> Solver:
    """Returns the solver that a config's text describes, or the solver itself.

    Raises:
      UsageError: for a text that `registry` cannot build.
    """
    return solver if isinstance(solver, Solver) else registry.build(solver)
