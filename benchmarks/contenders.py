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


def check_same_steps(run, images, others):
    """Raises unless the other inversions take the steps of the recipe that ours takes.

    The first step leads every restart to the same error.  Further ones amplify
    rounding, of some restarts by much: after five the middle one's error is compared,
    since steps by another formula move all of them.

    Args:
      run: with the generator.
      images: [n, h, w, c].
      others: by name, functions from a setting to the restarts' errors, [n, restarts].
    """
    for steps, over_all in ((1, np.max), (5, np.median)):
        setting = RECIPE_SETTING.stopped(steps)
        ours = np.asarray(invert(run, images, setting).restart_errors)
        for name, errors in others.items():
            apart = over_all(np.abs(np.asarray(errors(setting)) / ours - 1))
            assert apart <= 1e-3, f"{name}: errors differ by {apart:.2g} in {steps}"


def check_same_errors(name, errors, ours):
    """Raises unless the mean errors of a whole search are the same but for chance.

    Two hundred steps amplify rounding so far that single images end elsewhere; over
    the images that evens out.

    Args:
      name: of the other inversion.
      errors: of the best restart of each image, [n].
      ours: the same.
    """
    differences = np.asarray(errors) - np.asarray(ours)
    chance = 4 * differences.std() / np.sqrt(differences.size)
    allowed = 0.01 * np.mean(ours) + chance
    assert abs(differences.mean()) <= allowed, f"{name} finds other errors than ours"


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
