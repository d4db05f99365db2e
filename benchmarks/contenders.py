"""The package's inversion of a run's images, ready to be checked and timed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold import inversion
from robust_manifold.core import keys
from robust_manifold.core.manifold import Manifold

RECIPE = inversion.GradientDescent()
RECIPE_RESTARTS = inversion.Restarts(count=10, scale="unit")


def root_key():
    """Not a constant: a key made on import would choose the platform too soon."""
    return jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Setting:
    """How to invert.

    Attributes:
      solver: a solver.
      restarts: its starts.
      encoder: whether the run's encoder makes first guesses.
    """

    solver: inversion.Solver
    restarts: inversion.Restarts
    encoder: bool = False

    def stopped(self, steps: int) -> "Setting":
        """Returns the setting with another number of steps."""
        solver = dataclasses.replace(self.solver, steps=steps)
        return dataclasses.replace(self, solver=solver)

    @property
    def passes(self) -> str:
        return f"{self.restarts.count} x {self.solver.steps}"


RECIPE_SETTING = Setting(RECIPE, RECIPE_RESTARTS)


def default(encoder: bool) -> Setting:
    solver = inversion.as_solver(inversion.DEFAULT_SOLVER)
    return Setting(solver, inversion.as_restarts(inversion.DEFAULT_RESTARTS), encoder)


def invert(run, images, setting, *, generate=None, batch_size=None):
    """Returns the inversion, finished; `generate` may stand in for the run's own."""
    found = inversion.invert(
        generate or run.generator.model.apply,
        run.generator.params,
        images,
        **_arguments(run, setting),
        tile=batch_size,
    )
    return jax.block_until_ready(found)


def mean_best_errors(run, images, setting) -> np.ndarray:
    """Returns the mean over the images of the best restart's error, [steps + 1]."""
    curves = inversion.error_curves(
        run.generator.model.apply,
        run.generator.params,
        images,
        **_arguments(run, setting),
    )
    return np.asarray(curves).min(axis=1).mean(axis=0)


def starts(run, images, restarts) -> np.ndarray:
    """Returns the latents that random restarts begin at, [n, restarts, latent]."""
    model = run.generator.model
    manifold = Manifold(lambda latent: latent, model.input_shape, model.starts)
    ids = jnp.arange(len(images), dtype=jnp.int32)
    draw = jax.vmap(functools.partial(restarts.starts, manifold))
    return np.asarray(draw(images, keys.per_example(root_key(), ids)))


def _arguments(run, setting):
    model = run.generator.model
    arguments = {
        "key": root_key(),
        "latent_shape": model.input_shape,
        "prior": model.starts,
        "solver": setting.solver,
        "restarts": setting.restarts,
    }
    if setting.encoder:
        arguments["encode"] = run.encoder.model.apply
        arguments["encoder_params"] = run.encoder.params
    return arguments


def timed(run, images, setting, **options):
    """Returns the call without arguments that inverts."""
    return functools.partial(invert, run, images, setting, **options)
