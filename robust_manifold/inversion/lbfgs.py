"""L-BFGS on the latent, without a line search's loop: a step is one evaluation."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from robust_manifold.core.spec import check
from robust_manifold.core.types import Latent, Scalar
from robust_manifold.inversion.first_order import value_and_gradient
from robust_manifold.inversion.problem import InversionProblem
from robust_manifold.inversion.solver import Solver, Step, registry

_SUFFICIENT = 1e-4
"""Share of the decrease along the slope that has to be reached (Armijo)."""


class LBFGSState(NamedTuple):
    """The last accepted latent, and the line along which the next is looked for."""

    anchor: Latent
    objective: Scalar
    gradient: Float[Array, " latent"]
    direction: Float[Array, " latent"]
    length: Scalar
    memory: optax.OptState


@registry.register("lbfgs")
@dataclasses.dataclass(frozen=True)
class LBFGS(Solver):
    """Limited-memory BFGS (Liu and Nocedal 1989), with backtracking across steps.

    A line search in a loop of its own costs many evaluations where many restarts are
    computed at once, since all wait for the slowest.  Here a latent that does not
    lower the objective enough sends the next step back along the same line, to the
    minimum of the parabola through what is known.

    Attributes:
      memory: how many pairs of moves and changes of the gradient are remembered.
    """

    steps: int = 200
    memory: int = 20

    def __post_init__(self):
        super().__post_init__()
        check(self.memory >= 1, self, "memory", "1 or more")

    def init(self, start: Latent) -> LBFGSState:
        """Returns a state that accepts the start."""
        nothing = jnp.zeros_like(start)
        infinite, one = jnp.full((), jnp.inf, start.dtype), jnp.ones((), start.dtype)
        memory = self._transformation().init(start)
        return LBFGSState(start, infinite, nothing, nothing, one, memory)

    def step(
        self, problem: InversionProblem, latent: Latent, state: LBFGSState
    ) -> Step:
        """Returns a new direction from here, or a shorter way along the last one."""
        measured, gradient = value_and_gradient(problem, latent)
        # The sum over the pixels, so that the first move has about unit length.
        pixels = problem.image.size
        objective, gradient = measured.objective * pixels, gradient * pixels
        # Of the move that was made: a constraint may have bent it.
        slope = state.gradient @ (latent - state.anchor)
        bound = state.objective + _SUFFICIENT * slope
        # Around the optimum the objective is flat: there the gradient alone leads on.
        rounding = 8 * jnp.finfo(objective.dtype).eps * jnp.abs(state.objective)
        accepted = (objective <= bound + rounding) & jnp.isfinite(gradient).all()

        moved = self._turn(problem, latent, objective, gradient, state)
        stayed = state._replace(length=_shorter(state, slope, objective))
        state = optax.tree.where(accepted, moved, stayed)
        latent = state.anchor + state.length * state.direction
        return Step(measured, problem.project(latent), state)

    def passes(self, latent_size: int) -> float:
        """Returns 2: one pass forward, one backward."""
        return 2.0

    def _turn(self, problem, latent, objective, gradient, state) -> LBFGSState:
        """Returns the state with a new direction, at an accepted latent."""
        transformation = self._transformation()
        allowed = problem.tangent(latent, gradient)
        gradient = allowed(gradient)
        # Without positive curvature along the move, what is remembered misleads.
        curvature = (latent - state.anchor) @ (gradient - state.gradient)
        fresh = _fresh(transformation.init(latent), latent, gradient)
        memory = optax.tree.where(curvature > 0, state.memory, fresh)
        descent, memory = transformation.update(gradient, memory, latent)
        descent = allowed(jnp.asarray(descent))  # which optax types as a tree
        # Of a gradient of 0, too, it has a derivative that is finite.
        norm = optax.safe_norm(gradient, 1)
        downhill = descent @ gradient > 0
        direction = -jnp.where(downhill, descent, gradient / norm)
        one = jnp.ones_like(state.length)
        return LBFGSState(latent, objective, gradient, direction, one, memory)

    def _transformation(self) -> optax.GradientTransformation:
        return optax.scale_by_lbfgs(self.memory)


def _fresh(memory: Any, latent: Latent, gradient: Latent) -> Any:
    """Returns an empty memory, with a last latent and gradient that cannot occur.

    What optax makes of their distances it drops at the first step, but where the
    product of the two is 0 the derivative of what it drops would be NaN.
    """
    before = (x - 1 - jnp.abs(x) for x in jax.lax.stop_gradient((latent, gradient)))
    params, updates = before
    return memory._replace(params=params, updates=updates)


def _shorter(state: LBFGSState, slope: Scalar, objective: Scalar) -> Scalar:
    """Returns where the parabola through both values and the slope is least."""
    excess = objective - state.objective - slope
    share = -slope / (2 * jnp.where(excess > 0, excess, 1))
    usable = (excess > 0) & jnp.isfinite(share)
    return state.length * jnp.where(usable, jnp.clip(share, 0.1, 0.5), 0.1)
