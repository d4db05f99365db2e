"""The derivative of an inversion through every step of its best restart.

An inversion is piecewise: which restart wins, and which of its latents, does not change
with a small change of the image.  So only the winner's steps are differentiated, taken
once more from its start.  They are rematerialised: what a step computed is computed
again when its derivative is due, and of the states between the steps only so many are
kept as the square root of the steps (Chen et al. 2016).
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from robust_manifold.core.manifold import Manifold
from robust_manifold.core.types import Image, PRNGKey
from robust_manifold.inversion.search import Inversion, Search
from robust_manifold.inversion.solver import Solution, SolverRun

State = TypeVar("State")


def unrolled(
    search: Search,
    manifold: Manifold,
    image: Image,
    key: PRNGKey,
    *,
    rematerialise: bool = True,
) -> Inversion:
    """Returns the inversion of one image, to be differentiated by the image.

    All steps of the winner are taken; those after the image's error was as small as
    `search.restarts.enough`, by whichever restart, change nothing.  What is returned is
    the winner taken once more, the same as `search` returns to rounding.

    Args:
      search: how the image is inverted.
      manifold: the generator, its parameters bound, and its encoder if there is one.
      image: pixels in [0, 1].
      key: the image's own random key.
      rematerialise: whether to compute again rather than to store; without it memory
        grows in proportion to the steps.
    """
    fixed = jax.lax.stop_gradient(image)
    state = search.searched(manifold, fixed, key)
    found = search.finish(manifold, fixed, state)
    number = search.winner(manifold, fixed, state)
    repeat = repeated if rematerialise else _scanned
    latent = _again(search, manifold, image, key, number, state.taken, repeat).latent
    projection = manifold.generate(latent).astype(image.dtype)
    error = jnp.mean((projection - image) ** 2)
    return found._replace(latent=latent, image=projection, error=error)


def _again(
    search: Search,
    manifold: Manifold,
    image: Image,
    key: PRNGKey,
    number: Int[Array, ""],
    taken: Int[Array, ""],
    repeat: Callable[[Callable[[Any], Any], Any, int], Any],
) -> Solution:
    """Returns what the restart of this number comes to, however the steps repeat."""
    solver = search.solver
    problem = search.problem(manifold, image)

    def step(
        state: tuple[SolverRun, Int[Array, ""]],
    ) -> tuple[SolverRun, Int[Array, ""]]:
        run, steps = state
        after = solver.advance(problem, run)
        if search.restarts.enough:
            after = optax.tree.where(steps < taken, after, run)
        return after, steps + 1

    start = search.restarts.starts(manifold, image, key)[number]
    begun = solver.begin(problem, start), jnp.int32(0)
    run, _ = repeat(step, begun, solver.steps)
    return solver.finish(problem, run)


def repeated(step: Callable[[State], State], state: State, steps: int) -> State:
    """Returns the state after so many steps, rematerialised in reverse mode.

    Backwards, each step is computed three times, and memory holds one step's
    intermediate values and about 2 sqrt(steps) states.

    Args:
      step: state -> state, with what else it needs in its closure.
      state: a tree of arrays.
      steps: how many, 1 or more.
    """
    stretch = math.isqrt(steps)
    # Loops keep XLA from merging the second computation with the first.
    step = jax.checkpoint(step, prevent_cse=False)
    many = jax.checkpoint(lambda s: _scanned(step, s, stretch), prevent_cse=False)
    state = _scanned(many, state, steps // stretch)
    rest = steps % stretch
    if rest:
        state = jax.checkpoint(lambda s: _scanned(step, s, rest))(state)
    return state


def _scanned(step: Callable[[State], State], state: State, steps: int) -> State:
    return jax.lax.scan(lambda s, _: (step(s), None), state, length=steps)[0]
