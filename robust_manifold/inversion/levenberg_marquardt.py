"""Levenberg-Marquardt on the latent: least squares with few, dear, good steps."""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float

from robust_manifold.core.spec import check
from robust_manifold.core.types import Latent, Scalar
from robust_manifold.inversion.constraints import Directions
from robust_manifold.inversion.problem import InversionProblem
from robust_manifold.inversion.solver import Solver, Step, registry

Linear = Literal["auto", "dense", "conjugate_gradients"]

_LARGEST_DENSE = 256
"""Latents of more dimensions are solved for by conjugate gradients."""
_LEAST_DAMPING = 1e-6
"""Below it a float32 Cholesky factor of a nearly singular matrix may not exist."""
_LARGEST_DAMPING = 1e12
"""Beyond it no step moves; an infinite one would make derivatives NaN or 0."""


class LMState(NamedTuple):
    """The last accepted latent, and how far the linear model is trusted."""

    anchor: Latent
    objective: Scalar
    damping: Scalar
    growth: Scalar
    predicted: Scalar
    """By how much the linear model let the objective fall."""


@registry.register("levenberg_marquardt")
@dataclasses.dataclass(frozen=True)
class LevenbergMarquardt(Solver):
    """Gauss-Newton with adaptive damping (Marquardt 1963; Nielsen 1999).

    A step looks at one latent: where it is better than the last accepted one, the
    damping falls and the search goes on from it, else the damping grows and the
    search goes on from the accepted one.

    Attributes:
      damping: of the first step, relative to the mean curvature; 0 is Gauss-Newton
        at first.
      linear: how the step is found: "dense" computes the Jacobian by forward mode, one
        pass a dimension of the latent, and solves exactly; "conjugate_gradients"
        needs two passes an iteration and never forms a matrix; "auto" takes the
        first up to 256 dimensions.
      iterations: of conjugate gradients.
    """

    steps: int = 12
    damping: float = 0.01
    linear: Linear = "auto"
    iterations: int = 20

    def __post_init__(self):
        super().__post_init__()
        check(
            0 <= self.damping < math.inf, self, "damping", "a finite number, 0 or more"
        )
        allowed = ", ".join(get_args(Linear))
        check(self.linear in get_args(Linear), self, "linear", allowed)
        check(self.iterations >= 1, self, "iterations", "1 or more")

    def init(self, start: Latent) -> LMState:
        """Returns a state that accepts the start."""
        dtype = start.dtype
        return LMState(
            start,
            jnp.full((), jnp.inf, dtype),
            jnp.full((), max(self.damping, _LEAST_DAMPING), dtype),
            jnp.full((), 2.0, dtype),
            jnp.ones((), dtype),
        )

    def step(self, problem: InversionProblem, latent: Latent, state: LMState) -> Step:
        """Returns the damped least-squares step from the better of two latents."""
        measured = problem.measure(latent)
        state = _judged(state, latent, measured.objective)
        model = self._model(problem, state.anchor)
        allowed = problem.tangent(state.anchor, model.gradient)
        change = model.minimiser(state.damping, allowed)
        # A matrix that could not be factored: the damping grows until it can.
        change = jnp.where(jnp.isfinite(change).all(), change, 0)
        latent = problem.project(state.anchor + change)
        predicted = model.decrease(latent - state.anchor)
        return Step(measured, latent, state._replace(predicted=predicted))

    def passes(self, latent_size: int) -> float:
        """Returns 2 and one a dimension, or 9 and two an iteration.

        Both look at the new latent and linearise at the accepted one.  Without the
        Jacobian there are also the gradient, the mean curvature, the predicted
        decrease, and the residual that conjugate gradients start from.
        """
        if self._dense(latent_size):
            return 2.0 + latent_size
        return 9.0 + 2 * self.iterations

    def _dense(self, latent_size: int) -> bool:
        if self.linear == "auto":
            return latent_size <= _LARGEST_DENSE
        return self.linear == "dense"

    def _model(
        self, problem: InversionProblem, latent: Latent
    ) -> "_Dense | _MatrixFree":
        """Returns the objective near a latent, with the residual made linear."""
        residual, push = jax.linearize(problem.residual, latent)
        slopes, curvatures = _penalty(problem, latent)
        pixels = residual.size
        if self._dense(latent.size):
            jacobian = jax.vmap(push)(jnp.eye(latent.size, dtype=latent.dtype))
            # On accelerators a product is rounded to fewer bits unless told otherwise.
            gram = jnp.matmul(jacobian, jacobian.T, precision="highest") / pixels
            gradient = jnp.matmul(jacobian, residual, precision="highest") / pixels
            return _Dense(gradient + slopes, gram + jnp.diag(curvatures))
        pull = jax.linear_transpose(push, latent)

        def curve(vector):
            return pull(push(vector))[0] / pixels + curvatures * vector

        gradient = pull(residual)[0] / pixels + slopes
        return _MatrixFree(gradient, curve, self.iterations)


class _Dense(NamedTuple):
    """objective(z + m) - objective(z) = 2 gradient.m + m.curvature.m, as a matrix."""

    gradient: Float[Array, " latent"]
    curvature: Float[Array, "latent latent"]

    def minimiser(self, damping: Scalar, allowed: Directions) -> Latent:
        scale = _positive(jnp.mean(jnp.diag(self.curvature)))
        eye = jnp.eye(self.gradient.size, dtype=self.gradient.dtype)
        curvature = jax.vmap(allowed)(jax.vmap(allowed)(self.curvature).T)
        damped = curvature + damping * scale * eye
        return -jax.scipy.linalg.solve(damped, allowed(self.gradient), assume_a="pos")

    def decrease(self, move: Float[Array, " latent"]) -> Scalar:
        return -(2 * self.gradient @ move + move @ self.curvature @ move)


class _MatrixFree(NamedTuple):
    """The same as a function of a vector."""

    gradient: Float[Array, " latent"]
    curve: Callable[[Float[Array, " latent"]], Float[Array, " latent"]]
    iterations: int

    def minimiser(self, damping: Scalar, allowed: Directions) -> Latent:
        # The mean curvature, estimated along one vector of random signs.
        size, dtype = self.gradient.size, self.gradient.dtype
        signs = jax.random.rademacher(jax.random.key(0), (size,), dtype)
        damping = damping * _positive(signs @ self.curve(signs) / size)
        change, _ = cg(
            lambda v: allowed(self.curve(allowed(v))) + damping * v,
            -allowed(self.gradient),
            maxiter=self.iterations,
        )
        return change

    def decrease(self, move: Float[Array, " latent"]) -> Scalar:
        return -(2 * self.gradient @ move + move @ self.curve(move))


def _penalty(
    problem: InversionProblem, latent: Latent
) -> tuple[Float[Array, " latent"], Float[Array, " latent"]]:
    """Returns half the gradient and half the curvatures of the penalty."""
    offsets = problem.offsets(latent)
    weight = problem.penalty / offsets.size / problem.prior.deviation
    fixed = (0, latent.size - offsets.size)
    return (
        jnp.pad(weight * offsets, fixed),
        jnp.pad(jnp.full_like(offsets, weight / problem.prior.deviation), fixed),
    )


def _judged(state: LMState, latent: Latent, objective: Scalar) -> LMState:
    """Returns the state after a look at the latent that the last step led to."""
    # A derivative of the whole search follows the latents, not the choice of damping.
    objective = jax.lax.stop_gradient(objective)
    state = jax.lax.stop_gradient(state)._replace(anchor=state.anchor)
    accepted = objective < state.objective
    first = jnp.isinf(state.objective)
    gain = (state.objective - objective) / _positive(state.predicted)
    eased = state.damping * jnp.maximum(1 / 5, 1 - (2 * gain - 1) ** 3)
    damping = jnp.where(accepted, eased, state.damping * state.growth)
    return LMState(
        anchor=jnp.where(accepted, latent, state.anchor),
        objective=jnp.where(accepted, objective, state.objective),
        damping=jnp.where(
            first, state.damping, jnp.clip(damping, _LEAST_DAMPING, _LARGEST_DAMPING)
        ),
        growth=jnp.where(
            accepted, 2.0, jnp.minimum(2 * state.growth, _LARGEST_DAMPING)
        ),
        predicted=state.predicted,
    )


def _positive(value: Scalar) -> Scalar:
    return jnp.where(value > 0, value, 1.0)
