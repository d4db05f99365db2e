"""Solvers that follow the gradient through an optax optimiser."""

import abc
import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from robust_manifold.core.spec import check
from robust_manifold.core.types import Latent
from robust_manifold.inversion.problem import InversionProblem, Measured
from robust_manifold.inversion.solver import Solver, Step, registry


@dataclasses.dataclass(frozen=True)
class FirstOrder(Solver):
    """A solver whose step is an optax update from one gradient of the error."""

    @abc.abstractmethod
    def optimiser(self) -> optax.GradientTransformation:
        """Returns the optimiser, built from the spec and never stored."""

    def init(self, start: Latent) -> Any:
        """Returns the optimiser's state."""
        return self.optimiser().init(start)

    def step(self, problem: InversionProblem, latent: Latent, state: Any) -> Step:
        """Returns one update, from one forward and one backward pass."""
        measured, gradient = value_and_gradient(problem, latent)
        gradient = self.differentiable(gradient, state)
        updates, state = self.optimiser().update(gradient, state, latent)
        latent = jnp.asarray(optax.apply_updates(latent, updates))
        return Step(measured, problem.project(latent), state)

    def differentiable(
        self, gradient: Float[Array, " latent"], state: Any
    ) -> Float[Array, " latent"]:
        """Returns the gradient, a constant where the update has no derivative by it."""
        del state
        return gradient

    def passes(self, latent_size: int) -> float:
        """Returns 2: one pass forward, one backward."""
        return 2.0


def value_and_gradient(
    problem: InversionProblem, latent: Latent
) -> tuple[Measured, Float[Array, " latent"]]:
    """Returns what a latent is worth, and the gradient of the objective there."""

    def objective(latent):
        measured = problem.measure(latent)
        return measured.objective, measured

    gradient, measured = jax.grad(objective, has_aux=True)(latent)
    return measured, gradient


def _check_rate(solver: Any) -> None:
    check(
        0 < solver.learning_rate < math.inf,
        solver,
        "learning_rate",
        "a finite number above 0",
    )


@registry.register("gradient_descent")
@dataclasses.dataclass(frozen=True)
class GradientDescent(FirstOrder):
    """Gradient descent with momentum; the defaults are Defense-GAN's.

    The learning rate is multiplied by `decay` once, after the share `decay_at` of
    the steps, rounded up (Samangouei et al. 2018).  Their released code evaluates
    the schedule at step 0 in every step, so that there the rate never decays:
    `decay=1.0` is that.
    """

    steps: int = 200
    learning_rate: float = 10.0
    """For the error of one image, the mean over its pixels."""
    momentum: float = 0.7
    decay: float = 0.1
    decay_at: float = 0.8

    def __post_init__(self):
        super().__post_init__()
        _check_rate(self)
        check(0 <= self.momentum < 1, self, "momentum", "0 to less than 1")
        check(0 < self.decay <= 1, self, "decay", "above 0, to 1")
        check(0 < self.decay_at <= 1, self, "decay_at", "above 0, to 1")

    def optimiser(self) -> optax.GradientTransformation:
        """Returns momentum gradient descent with one drop of the learning rate."""
        schedule = optax.join_schedules(
            [
                optax.constant_schedule(self.learning_rate),
                optax.constant_schedule(self.learning_rate * self.decay),
            ],
            boundaries=[math.ceil(self.decay_at * self.steps)],
        )
        return optax.sgd(schedule, momentum=self.momentum)


@registry.register("adam")
@dataclasses.dataclass(frozen=True)
class Adam(FirstOrder):
    """Adam (Kingma and Ba 2015) on the latent."""

    steps: int = 200
    learning_rate: float = 0.1
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine` lets the learning rate fall to 0 at the last step."""
    b1: float = 0.9
    b2: float = 0.999

    def __post_init__(self):
        super().__post_init__()
        _check_rate(self)
        check(
            self.schedule in ("constant", "cosine"),
            self,
            "schedule",
            "constant or cosine",
        )
        check(0 <= self.b1 < 1, self, "b1", "0 to less than 1")
        check(0 <= self.b2 < 1, self, "b2", "0 to less than 1")

    def optimiser(self) -> optax.GradientTransformation:
        """Returns Adam with its schedule."""
        if self.schedule == "cosine":
            rate = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        else:
            rate = self.learning_rate
        return optax.adam(rate, b1=self.b1, b2=self.b2)

    def differentiable(
        self, gradient: Float[Array, " latent"], state: Any
    ) -> Float[Array, " latent"]:
        """Returns the gradient, a constant where it has been 0 so far.

        Adam divides by the root of its squares, whose derivative at 0 would be NaN.
        """
        squares = self.b2 * state[0].nu + (1 - self.b2) * gradient**2
        moved = squares >= jnp.finfo(gradient.dtype).tiny
        return jnp.where(moved, gradient, jax.lax.stop_gradient(gradient))
