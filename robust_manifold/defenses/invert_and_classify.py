"""Classify the projection onto the generator's range in place of the image."""

import abc
import dataclasses

from robust_manifold.core.networks import GENERATOR, Bound
from robust_manifold.core.spec import check
from robust_manifold.core.types import Image, PRNGKey
from robust_manifold.defenses.base import registry
from robust_manifold.defenses.purifier import Purified, Purifier
from robust_manifold.inversion import (
    DEFAULT_RESTARTS,
    DEFAULT_SOLVER,
    GradientDescent,
    Restarts,
    Search,
    Solver,
    as_restarts,
    as_solver,
    invert_one,
    unrolled,
)


class ProjectionDefense(Purifier):
    """A defence that classifies G(z*): subclasses say how z* is searched for.

    The details of what it returns are the `Inversion`.
    """

    needs = (GENERATOR,)
    tiled = True

    @property
    @abc.abstractmethod
    def search(self) -> Search:
        """How z* is found."""

    def purify(self, key: PRNGKey, networks: Bound, image: Image) -> Purified:
        """Returns the projection of one image; arguments as for `defend`."""
        solver, restarts = self.search.solver, self.search.restarts
        manifold = networks[GENERATOR]
        found = invert_one(manifold, image, key, solver=solver, restarts=restarts)
        return Purified(found.image, found)

    def unrolled(self, key, networks, image, *, rematerialise=True) -> Purified:
        """Returns the best restart's projection; see `inversion.unrolled`."""
        manifold, search = networks[GENERATOR], self.search
        found = unrolled(search, manifold, image, key, rematerialise=rematerialise)
        return Purified(found.image, found)

    def passes(self, latent_size: int) -> float:
        """Returns the passes of the search."""
        return search_passes(self.search, latent_size)

    def unrolled_passes(self, latent_size, *, rematerialise=True) -> float:
        """Returns the passes of the best restart, taken again and differentiated."""
        solver = self.search.solver
        return (3 + rematerialise) * solver.steps * solver.passes(latent_size)


def search_passes(search: Search, latent_size: int) -> float:
    """Returns the passes through the generator of a search that does not end early.

    Args:
      search: of one image.
      latent_size: of the generator.
    """
    segments = search.restarts.segments(search.solver.steps)
    taken = sum(segment.steps * segment.runs for segment in segments)
    return taken * search.solver.passes(latent_size)


@registry.register("invert_and_classify")
@dataclasses.dataclass(frozen=True)
class InvertAndClassify(ProjectionDefense):
    """Invert and Classify (Ilyas et al. 2017): classify the best restart's G(z*)."""

    solver: Solver | str = DEFAULT_SOLVER
    """A solver, or its text as in a config: "adam(steps=100)"."""
    restarts: Restarts | str | int = DEFAULT_RESTARTS
    """Restarts, their text as in a config, or their number."""

    def __post_init__(self):
        # Texts become specs, so that equal defences are equal and hash alike.
        object.__setattr__(self, "solver", as_solver(self.solver))
        object.__setattr__(self, "restarts", as_restarts(self.restarts))

    @property
    def search(self) -> Search:
        """The solver, from the restarts."""
        return Search(as_solver(self.solver), as_restarts(self.restarts))


@registry.register("defense_gan")
@dataclasses.dataclass(frozen=True)
class DefenseGAN(ProjectionDefense):
    """Defense-GAN's projection (Samangouei et al. 2018): L = 200 steps, R = 10 starts.

    Momentum gradient descent from starts N(0, 1/d), with d the latent size, where the
    prior is N(0, 1): draws of any prior come nearer to its centre by sqrt(d).  But the
    best iterate of a restart counts, where theirs returns the last.
    """

    steps: int = 200
    restarts: int = 10
    learning_rate: float = 10.0
    momentum: float = 0.7

    def __post_init__(self):
        # The solver checks its own fields.
        _ = self.solver
        check(self.restarts >= 1, self, "restarts", "1 or more")

    @property
    def solver(self) -> GradientDescent:
        """The recipe's solver."""
        return GradientDescent(self.steps, self.learning_rate, self.momentum)

    @property
    def search(self) -> Search:
        """The solver, from the recipe's starts."""
        starts = Restarts(self.restarts, scale="unit", encoded=0)
        return Search(self.solver, starts)
