"""The derivative of an inversion by the implicit function theorem.

Where z* minimises f(z, x), the slope of f along z is zero for every image x near by, so
that dz*/dx = -H^-1 d(slope)/dx, with H the curvature of f at z* (its Hessian).  How z*
was found does not matter: memory and work do not grow with the steps.

What is minimised may be curved very unevenly, or z* may be no minimum at all, since the
steps ran out or a restart rests on a saddle.  So curvatures too small to be told from
rounding are not divided by, and `ImplicitFindings` say what was found.
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.core.manifold import Manifold
from robust_manifold.core.spec import check, is_whole, with_checked_fields
from robust_manifold.core.types import Image, Latent, PRNGKey, Scalar
from robust_manifold.inversion.constraints import Directions
from robust_manifold.inversion.problem import InversionProblem
from robust_manifold.inversion.search import Inversion, Search

Hessian: TypeAlias = Literal["exact", "gauss_newton"]
Linear: TypeAlias = Literal["auto", "dense", "conjugate_gradients"]

_LARGEST_DENSE = 128
"""Latents of more dimensions are solved for by conjugate gradients."""
_SOLVED = 1e-2
"""A linear system counts as solved if its residual is this share of its right side."""


class ImplicitOutcome(enum.IntEnum):
    """Whether the theorem holds at a latent, and its linear system could be solved."""

    SOLVED = 0
    NOT_A_MINIMUM = 1
    NOT_SOLVED = 2
    NON_FINITE = 3

    @property
    def message(self) -> str:
        """The outcome as a sentence."""
        outcomes = ImplicitOutcome
        return {
            outcomes.SOLVED: "The latent lies where the error curves upwards.",
            outcomes.NOT_A_MINIMUM: "The error curves downwards: no minimum is here.",
            outcomes.NOT_SOLVED: "The linear system was not solved in its iterations.",
            outcomes.NON_FINITE: "Slope or curvature is not finite: no derivative.",
        }[self]


class ImplicitFindings(NamedTuple):
    """What the theorem finds at the latent of one image, or of n."""

    outcome: Int[Array, "*n"]
    """An `ImplicitOutcome`."""
    least: Float[Array, "*n"]
    """The least curvature of the objective; by conjugate gradients, that they met."""
    largest: Float[Array, "*n"]
    """The curvature of the largest size, likewise."""
    slope: Float[Array, "*n"]
    """The norm of the objective's gradient, which is 0 at a minimum."""
    move: Float[Array, "*n"]
    """The length of Newton's step: how far off the minimum is, if one is near."""


class _Solved(NamedTuple):
    """The solution of a linear system, and what was met on the way."""

    solution: Float[Array, " latent"]
    least: Scalar
    largest: Scalar
    residual: Scalar
    """As a share of the right-hand side."""


@with_checked_fields
@dataclasses.dataclass(frozen=True)
class ImplicitDerivative:
    """How the derivative of an inversion is computed; pure and hashable.

    Attributes:
      hessian: "exact", or "gauss_newton", which leaves out the curvature of the
        generator: never negative, but wrong unless the image is near the range.
      linear: "dense" computes the Hessian and its eigenvalues, "conjugate_gradients"
        needs its products with vectors only; "auto" takes the first up to 128
        dimensions.
      damping: curvatures below this share of the largest count as that share; negative
        ones by their size.  Conjugate gradients stop before them.
      iterations: of conjugate gradients, at most.
    """

    hessian: Hessian = "exact"
    linear: Linear = "auto"
    damping: float = 1e-6
    iterations: int = 100

    def __post_init__(self):
        for field, choices in (("hessian", Hessian), ("linear", Linear)):
            allowed = get_args(choices)
            check(getattr(self, field) in allowed, self, field, ", ".join(allowed))
        check(0 < self.damping < 1, self, "damping", "above 0, below 1")
        check(is_whole(self.iterations, 1), self, "iterations", "1 or more")

    def __call__(
        self, search: Search, manifold: Manifold, image: Image, key: PRNGKey
    ) -> Inversion:
        """Returns the inversion of one image, to be differentiated by the image.

        Args:
          search: how the image is inverted.
          manifold: the generator, its parameters bound.
          image: pixels in [0, 1].
          key: the image's own random key.
        """
        found = search(manifold, jax.lax.stop_gradient(image), key)
        problem = search.solver.problem(manifold.generate, image, manifold.prior)
        latent = self.attach(problem, found.latent)
        projection = manifold.generate(latent).astype(image.dtype)
        error = jnp.mean((projection - image) ** 2)
        return found._replace(latent=latent, image=projection, error=error)

    def attach(self, problem: InversionProblem, latent: Latent) -> Latent:
        """Returns the latent, as a function of the image that it minimises for.

        It is a Newton step without its value: the slope less itself is 0, but its
        derivative by `problem.image` is what the theorem asks for.  So forward and
        reverse mode are JAX's own, and only products with the Hessian are computed.
        """
        latent = jax.lax.stop_gradient(latent)
        slope = jax.grad(_objective(problem))(latent)
        level = jax.lax.stop_gradient(slope)
        # A slope that is not finite would turn the latent itself into NaN.
        difference = jnp.where(jnp.isfinite(level).all(), slope - level, 0)
        allowed, curve = self._system(problem, latent, level)
        change = self._solution(allowed, curve, allowed(difference))
        # Restricted again: in reverse mode the solution is the right-hand side.
        return latent - allowed(change)

    def report(self, problem: InversionProblem, latent: Latent) -> ImplicitFindings:
        """Returns whether the theorem holds at a latent, with its figures."""
        gradient = jax.grad(_objective(problem))(latent)
        allowed, curve = self._system(problem, latent, gradient)
        slope = allowed(gradient)
        solved = self._solve(allowed, curve, slope)
        finite = jnp.isfinite(slope).all() & jnp.isfinite(solved.largest)
        finite &= jnp.isfinite(solved.solution).all()
        outcome = jnp.select(
            [
                ~finite,
                solved.least < -self.damping * solved.largest,
                solved.residual > _SOLVED,
            ],
            [
                jnp.int32(ImplicitOutcome.NON_FINITE),
                jnp.int32(ImplicitOutcome.NOT_A_MINIMUM),
                jnp.int32(ImplicitOutcome.NOT_SOLVED),
            ],
            jnp.int32(ImplicitOutcome.SOLVED),
        )
        return ImplicitFindings(
            outcome,
            solved.least,
            solved.largest,
            jnp.linalg.norm(slope),
            jnp.linalg.norm(solved.solution),
        )

    def products(self, latent_size: int) -> int:
        """Returns how many products with the Hessian a derivative takes at most."""
        return latent_size if self._dense(latent_size) else self.iterations

    def _dense(self, size: int) -> bool:
        return self.linear == "dense" or (
            self.linear == "auto" and size <= _LARGEST_DENSE
        )

    def _system(
        self, problem: InversionProblem, latent: Latent, gradient: Latent
    ) -> tuple[Directions, Directions]:
        """Returns the map to the directions that are free, and the curvature there."""
        problem = problem._replace(image=jax.lax.stop_gradient(problem.image))
        tangent = problem.tangent(latent, gradient)
        # Entries that choose a class do not move.
        free = jnp.arange(latent.size) < problem.prior.free_size(latent.size)

        def allowed(vector):
            return tangent(jnp.where(free, vector, 0))

        curve = _curvature(problem, latent, self.hessian)
        bend: Scalar | float = 0.0
        if problem.constraint is not None:
            bend = problem.constraint.bend(latent, gradient, problem.prior)

        def restricted(vector):
            vector = allowed(vector)
            return allowed(curve(vector) + bend * vector)

        return allowed, restricted

    def _solution(self, allowed, curve, right: Latent) -> Latent:
        """Returns the solution alone, with the derivative of a linear map."""
        if self._dense(right.size):
            return self._solve(allowed, curve, right).solution
        return jax.lax.custom_linear_solve(
            curve,
            right,
            lambda product, vector: self._solve(allowed, product, vector).solution,
            symmetric=True,
        )

    def _solve(self, allowed, curve, right: Latent) -> _Solved:
        if self._dense(right.size):
            return _by_eigenvalues(allowed, curve, right, self.damping)
        return _by_conjugate_gradients(curve, right, self.damping, self.iterations)


def _objective(problem: InversionProblem) -> Callable[[Latent], Scalar]:
    return lambda latent: problem.measure(latent).objective


def _curvature(
    problem: InversionProblem, latent: Latent, hessian: Hessian
) -> Directions:
    """Returns the products of the Hessian of the objective with vectors."""
    if hessian == "exact":
        return jax.linearize(jax.grad(_objective(problem)), latent)[1]
    residual, push = jax.linearize(problem.residual, latent)
    pull = jax.linear_transpose(push, latent)
    penalty = jax.grad(lambda z: jnp.asarray(problem.regret(z), z.dtype))
    penalise = jax.linearize(penalty, latent)[1]
    return lambda vector: 2 / residual.size * pull(push(vector))[0] + penalise(vector)


def _by_eigenvalues(
    allowed: Directions, curve: Directions, right: Latent, damping: float
) -> _Solved:
    """Returns the solution along the directions that are free."""
    eye = jnp.eye(right.size, dtype=right.dtype)
    matrix = jax.lax.stop_gradient(jax.vmap(curve)(eye))
    finite = jnp.isfinite(matrix).all()
    matrix = jnp.where(finite, matrix, eye)
    # Directions that are not free get a curvature among the others.
    held = eye - jax.vmap(allowed)(eye)
    typical = jnp.trace(matrix) / jnp.maximum(right.size - jnp.trace(held), 1)
    values, vectors = jnp.linalg.eigh(matrix + typical * held)
    sizes = jnp.abs(values)
    divisors = jnp.maximum(sizes, damping * sizes.max())
    shares = jnp.matmul(right, vectors, precision="highest") / _positive(divisors)
    solution = jnp.matmul(vectors, shares, precision="highest")
    return _Solved(
        jnp.where(finite, solution, 0),
        values[0],
        jnp.where(finite, sizes.max(), jnp.inf),
        jnp.zeros_like(values[0]),
    )


class _Iteration(NamedTuple):
    """Conjugate gradients under way."""

    solution: Float[Array, " latent"]
    residual: Float[Array, " latent"]
    direction: Float[Array, " latent"]
    square: Scalar
    """Of the residual."""
    least: Scalar
    largest: Scalar
    taken: Int[Array, ""]
    stopped: Bool[Array, ""]


def _by_conjugate_gradients(
    curve: Directions, right: Latent, damping: float, iterations: int
) -> _Solved:
    """Returns a solution; curvature that is too small ends the way (Steihaug 1983)."""
    square = right @ right
    tolerance = (4 * jnp.finfo(right.dtype).eps) ** 2 * square

    def going(at: _Iteration) -> Bool[Array, ""]:
        # False for NaN as well.
        return (at.taken < iterations) & (at.square > tolerance) & ~at.stopped

    def step(at: _Iteration) -> _Iteration:
        curved = curve(at.direction)
        length = _positive(at.direction @ at.direction)
        curvature = at.direction @ curved / length
        largest = jnp.maximum(at.largest, jnp.abs(curvature))
        stopped = curvature <= damping * largest
        # The first direction is all there is: followed by the size of its curvature.
        followed = ~stopped | (at.taken == 0)
        divisor = _positive(length * jnp.abs(curvature))
        rate = jnp.where(followed, at.square / divisor, 0)
        residual = at.residual - rate * curved
        after = residual @ residual
        direction = residual + after / _positive(at.square) * at.direction
        return _Iteration(
            at.solution + rate * at.direction,
            residual,
            direction,
            after,
            jnp.minimum(at.least, curvature),
            largest,
            at.taken + 1,
            stopped,
        )

    zero = jnp.zeros_like(square)
    start = _Iteration(
        jnp.zeros_like(right),
        right,
        right,
        square,
        jnp.full_like(square, jnp.inf),
        zero,
        jnp.int32(0),
        jnp.bool_(False),
    )
    end = jax.lax.while_loop(going, step, start)
    finite = jnp.isfinite(end.solution).all()
    share = jnp.sqrt(end.square / _positive(square))
    return _Solved(
        jnp.where(finite, end.solution, 0),
        end.least,
        jnp.where(finite, end.largest, jnp.inf),
        share,
    )


def _positive(value: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(value > 0, value, 1)
