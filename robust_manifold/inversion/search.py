"""The search for one image's latent: its runs from their start to the best of them."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Manifold
from robust_manifold.core.types import Image, PRNGKey
from robust_manifold.inversion.problem import InversionProblem
from robust_manifold.inversion.restarts import Restarts
from robust_manifold.inversion.solver import Solution, Solver, SolverRun, Status


class Inversion(NamedTuple):
    """The best restart of one image, or of n with a leading axis everywhere."""

    latent: Float[Array, "*n latent"]
    image: Float[Array, "*n height width channels"]
    """The projection G(z*)."""
    error: Float[Array, "*n"]
    """Mean squared error per pixel."""
    restart_errors: Float[Array, "*n restarts"]
    """Of each restart's best latent; infinite if none of its iterates was finite."""
    status: Int[Array, "*n"]
    """The `Status` of the best restart."""
    restart_status: Int[Array, "*n restarts"]


class SearchState(NamedTuple):
    """The runs of one image that are still followed, and what became of all."""

    runs: SolverRun
    """With a leading axis [followed]."""
    numbers: Int[Array, " followed"]
    """Which restarts they are."""
    best: Solution
    """With a leading axis [restarts]: of every restart, as far as it is noted."""
    taken: Int[Array, ""]
    """How many steps there were before the image had enough."""


@dataclasses.dataclass(frozen=True)
class Search:
    """How one image is inverted: a solver, from some starts; pure and hashable."""

    solver: Solver
    restarts: Restarts

    def problem(self, manifold: Manifold, image: Image) -> InversionProblem:
        """Returns what the solver works on.

        Raises:
          UsageError: if the solver asks for bfloat16 and the manifold has no such form.
        """
        generate = manifold.generate
        if self.solver.forward == "bfloat16":
            if manifold.generate_bfloat16 is None:
                raise UsageError(
                    f"{type(self.solver).__name__}.forward is 'bfloat16'; allowed: "
                    "'float32' where the generator's parameters are already bound."
                )
            generate = manifold.generate_bfloat16
        return self.solver.problem(generate, image, manifold.prior)

    def begin(self, manifold: Manifold, image: Image, key: PRNGKey) -> SearchState:
        """Returns the state before the first step."""
        problem, count = self.problem(manifold, image), self.restarts.count
        starts = self.restarts.starts(manifold, image, key)
        runs = jax.vmap(lambda start: self.solver.begin(problem, start))(starts)
        return SearchState(runs, jnp.arange(count), runs.best, jnp.int32(0))

    def advance(
        self, manifold: Manifold, image: Image, state: SearchState
    ) -> SearchState:
        """Returns the state after one step of all runs that are followed."""
        problem = self.problem(manifold, image)
        runs = jax.vmap(lambda run: self.solver.advance(problem, run))(state.runs)
        taken = state.taken + 1
        if self.restarts.enough:
            # The image keeps what it has, whatever is computed for its batch mates.
            runs, taken = jax.tree.map(
                lambda old, new: jnp.where(self.has_enough(state), old, new),
                (state.runs, state.taken),
                (runs, taken),
            )
        return state._replace(runs=runs, taken=taken)

    def has_enough(self, state: SearchState) -> Bool[Array, ""]:
        """Returns whether the image's error is as small as asked for."""
        return self._is_enough(_noted(state, state.runs.best))

    def _is_enough(self, state: SearchState) -> Bool[Array, ""]:
        return state.best.error[_winner(state)] <= self.restarts.enough

    def narrow(self, state: SearchState, kept: int) -> SearchState:
        """Returns the state with only the best `kept` runs followed up.

        A run whose latent is not finite has come to its end: any that can go on is
        followed before it, and what it had found stays noted.
        """
        if kept == len(state.numbers):
            return state
        state = _noted(state, state.runs.best)
        ended = ~jnp.isfinite(state.runs.latent).all(axis=-1)
        order = jnp.lexsort((state.runs.best.objective, ended))
        left = order[kept:]
        why = jnp.where(ended[left], Status.NON_FINITE, Status.DROPPED)
        status = state.best.status.at[state.numbers[left]].set(why.astype(jnp.int32))
        followed = jax.tree.map(lambda leaf: leaf[order[:kept]], state.runs)
        return state._replace(
            runs=followed,
            numbers=state.numbers[order[:kept]],
            best=state.best._replace(status=status),
        )

    def finish(self, manifold: Manifold, image: Image, state: SearchState) -> Inversion:
        """Returns the best of the runs."""
        state = self._looked(manifold, image, state)
        status = state.best.status
        if self.restarts.enough:
            enough = (status == Status.FINISHED) & self._is_enough(state)
            status = jnp.where(enough, jnp.int32(Status.ENOUGH), status)
        best = _winner(state)
        latent, error = state.best.latent[best], state.best.error[best]
        projection = manifold.generate(latent).astype(image.dtype)
        if self.solver.forward != "float32":
            exact = jnp.mean((projection - image) ** 2)
            error = jnp.where(jnp.isfinite(error), exact, error)
        return Inversion(
            latent=latent,
            image=projection,
            error=error,
            restart_errors=state.best.error,
            status=status[best],
            restart_status=status,
        )

    def winner(
        self, manifold: Manifold, image: Image, state: SearchState
    ) -> Int[Array, ""]:
        """Returns the number of the restart that `finish` returns."""
        return _winner(self._looked(manifold, image, state))

    def _looked(self, manifold, image, state: SearchState) -> SearchState:
        """Returns the state after a look at the last latents of all runs."""
        problem = self.problem(manifold, image)
        finish = jax.vmap(lambda run: self.solver.finish(problem, run))
        return _noted(state, finish(state.runs))

    def __call__(self, manifold: Manifold, image: Image, key: PRNGKey) -> Inversion:
        """Returns the inversion of one image.

        Can be differentiated in reverse mode unless `restarts.enough` is above 0, at
        the price of all intermediate values; see `inversion.unrolled` and
        `inversion.implicit`.
        """
        return self.finish(manifold, image, self.searched(manifold, image, key))

    def searched(self, manifold: Manifold, image: Image, key: PRNGKey) -> SearchState:
        """Returns the state after the last step."""
        state = self.begin(manifold, image, key)
        for segment in self.restarts.segments(self.solver.steps):
            state = self.narrow(state, segment.runs)
            state = self._repeat(manifold, image, state, segment.steps)
        return state

    def _repeat(self, manifold, image, state: SearchState, steps: int) -> SearchState:
        def advance(state, _):
            return self.advance(manifold, image, state), None

        if not self.restarts.enough:
            return jax.lax.scan(advance, state, length=steps)[0]

        def unfinished(carry):
            step, state = carry
            return (step < steps) & ~self.has_enough(state)

        return jax.lax.while_loop(
            unfinished,
            lambda carry: (carry[0] + 1, advance(carry[1], None)[0]),
            (jnp.int32(0), state),
        )[1]

    def curves(
        self, manifold: Manifold, image: Image, key: PRNGKey
    ) -> Float[Array, "restarts points"]:
        """Returns every restart's least error so far after 0, 1, ... all steps.

        A restart that is dropped keeps the error it had.
        """

        def advance(state, _):
            state = self.advance(manifold, image, state)
            return state, _noted(state, state.runs.best).best.error

        state, parts = self.begin(manifold, image, key), []
        for segment in self.restarts.segments(self.solver.steps):
            state = self.narrow(state, segment.runs)
            state, errors = jax.lax.scan(advance, state, length=segment.steps)
            parts.append(errors)
        last = self.finish(manifold, image, state).restart_errors
        return jnp.concatenate([*parts, last[None]]).T


def _noted(state: SearchState, solutions: Solution) -> SearchState:
    """Returns the state with the solutions of the runs that are followed written."""
    best = jax.tree.map(
        lambda old, new: old.at[state.numbers].set(new), state.best, solutions
    )
    return state._replace(best=best)


def _winner(state: SearchState) -> Int[Array, ""]:
    """Returns the number of the best restart; of equal ones, one that is followed."""
    objective = state.best.objective
    followed = objective[state.numbers]
    first = state.numbers[jnp.argmin(followed)]
    left = jnp.min(objective) < jnp.min(followed)
    return jnp.where(left, jnp.argmin(objective), first)
