"""Analysis by synthesis: the class whose generator explains the image best."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Manifold
from robust_manifold.core.networks import GENERATOR, Bound
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, Logits, PRNGKey, Scalar
from robust_manifold.defenses.base import registry
from robust_manifold.defenses.purifier import Purified, Purifier
from robust_manifold.inversion import Adam, Solver, as_solver, repeated
from robust_manifold.inversion.problem import InversionProblem
from robust_manifold.inversion.solver import Solution


class Synthesis(NamedTuple):
    """What each class makes of one image."""

    latents: Float[Array, "classes latent"]
    bounds: Float[Array, " classes"]
    """On the log likelihood of the image under each class, in nats, without the
    constant that all have."""
    image: Image
    """The image that the likeliest class makes of it."""


@registry.register("analysis_by_synthesis")
@dataclasses.dataclass(frozen=True)
class AnalysisBySynthesis(Purifier):
    """Asks every class for its best image (ABS; Schott, Rauber, Bethge, Brendel 2018).

    A class's logit is its bound max over z of -||G_c(z) - x||^2 / (2 deviation^2)
    - ||z||^2 / 2, in nats, times `scale`.  The classifier is not asked.  The best of
    many draws of z, the same for every image, is where the solver begins.

    A minimum over z moves with the image, but what it is worth does not move with it
    (the envelope theorem).  So the straight-through view, which holds the latents
    fixed, has the gradient of a search that has converged, and the unrolled one that
    of the search as it is.  What is shown as the purified image is what the classes are
    asked to explain: the image, or its rounded pixels.

    Attributes:
      solver: of the latents, or its text as in a config; the deviation sets its
        penalty.
      draws: latents of each class that are tried before.
      deviation: standard deviation of a pixel, as in training with the Gaussian
        likelihood.
      scale: logits a nat.
      binary: whether pixels are rounded to 0 or 1 first (binary ABS).
      classes: of the generator.
    """

    solver: Solver | str = Adam(steps=50, learning_rate=0.05)
    draws: int = 8000
    deviation: float = 0.3
    scale: float = 1.0
    binary: bool = False
    classes: int = 10

    needs = (GENERATOR,)
    tiled = True

    def __post_init__(self):
        # Texts become specs, so that equal defences are equal and hash alike.
        object.__setattr__(self, "solver", as_solver(self.solver))
        for field, least in (("draws", 1), ("classes", 2)):
            whole = is_whole(getattr(self, field), least)
            check(whole, self, field, f"a whole number, {least} or more")
        for field in ("deviation", "scale"):
            finite = 0 < getattr(self, field) < math.inf
            check(finite, self, field, "a finite number above 0")
        if self._solver.penalty:
            raise UsageError(
                f"AnalysisBySynthesis.solver has the penalty {self._solver.penalty}; "
                "allowed: 0, the deviation sets it."
            )
        if self._solver.forward != "float32":
            raise UsageError(
                f"AnalysisBySynthesis.solver has the forward {self._solver.forward!r}; "
                "allowed: 'float32', in which the bounds are, too."
            )

    def check_latents(self, prior, latent_size) -> None:
        """Refuses a generator of other classes, or of none."""
        classes = latent_size - prior.free_size(latent_size)
        if not classes:
            raise UsageError(
                "the generator of analysis_by_synthesis knows of no classes; allowed: "
                "a class-conditional one, such as 'one_per_class'."
            )
        if classes != self.classes:
            raise UsageError(
                f"AnalysisBySynthesis.classes is {self.classes}; allowed: {classes}, "
                "the generator's."
            )

    def purify(self, key: PRNGKey, networks: Bound, image: Image) -> Purified:
        """Returns what is explained; the details are the `Synthesis`."""
        del key
        manifold = networks[GENERATOR]
        if self.binary:
            image = (image > 0.5).astype(image.dtype)
        numbers = jnp.arange(self.classes)
        found = jax.lax.map(
            lambda number: self._found(manifold.of_class(number), image), numbers
        )
        bounds = self._in_nats(found.objective, image)
        best = jnp.argmax(bounds)
        made = manifold.of_class(best).generate(found.latent[best])
        made = made.astype(image.dtype)
        return Purified(image, Synthesis(found.latent, bounds, made))

    def output(self, networks, classify, image, found) -> Logits:
        """Returns the bounds of the latents that were found, scaled."""
        del classify, image
        bounds = self._bounds(networks[GENERATOR], found.image, found.details.latents)
        return self.scale * bounds

    def passes(self, latent_size: int) -> float:
        """Returns the passes of the solver, of its last latent and of the bounds.

        The draws, which all images of a tile share, are not counted.
        """
        steps = self._solver.steps * self._solver.passes(latent_size - self.classes)
        return self.classes * (steps + 2)

    def unrolled_passes(self, latent_size, *, rematerialise=True) -> float:
        """Returns the passes of the derivative through the solver's steps."""
        del rematerialise
        return 3 * self.passes(latent_size)

    @property
    def _solver(self) -> Solver:
        return as_solver(self.solver)

    def _problem(self, one: Manifold, image: Image) -> tuple[Solver, InversionProblem]:
        """Returns the search for one class's latent: of the least negative bound.

        The solver weighs means, over pixels and over the latent's entries.
        """
        weight = self.deviation**2 * one.latent_shape[0] / image.size
        solver = dataclasses.replace(self._solver, penalty=weight)
        return solver, solver.problem(one.generate, image, one.prior)

    def _found(self, one: Manifold, image: Image) -> Solution:
        solver, problem = self._problem(one, image)
        # One key for all images: their draws are made once.
        shape = (self.draws, *one.latent_shape)
        drawn = one.prior.sample(jax.random.key(0), shape, image.dtype)
        made = jax.vmap(one.generate)(drawn).astype(image.dtype).reshape(len(drawn), -1)
        # The squared distance, less that of the image itself from black.
        distances = jnp.sum(made**2, axis=1) - 2 * made @ image.reshape(-1)
        regrets = jax.vmap(problem.regret)(drawn)
        start = drawn[jnp.argmin(distances / image.size + regrets)]
        run = repeated(
            lambda run: solver.advance(problem, run),
            solver.begin(problem, start),
            solver.steps,
        )
        return solver.finish(problem, run)

    def _bounds(
        self, manifold: Manifold, image: Image, latents: Float[Array, "classes latent"]
    ) -> Float[Array, " classes"]:
        def bound(number_and_latent) -> Scalar:
            number, latent = number_and_latent
            one = manifold.of_class(number)
            _, problem = self._problem(one, image)
            return self._in_nats(problem.measure(latent).objective, image)

        return jax.lax.map(bound, (jnp.arange(self.classes), latents))

    def _in_nats(self, objective: Array, image: Image) -> Array:
        """Returns the bounds that the solver's objectives stand for."""
        return -objective * image.size / (2 * self.deviation**2)
