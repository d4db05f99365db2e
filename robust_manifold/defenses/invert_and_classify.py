"""Classify the projection onto the generator's range in place of the image."""

import abc
import dataclasses

from robust_manifold.core.manifold import Manifold
from robust_manifold.core.spec import check
from robust_manifold.core.types import Classify, Image, PRNGKey
from robust_manifold.defenses.base import Defended, Defense, registry
from robust_manifold.inversion import (
    DEFAULT_RESTARTS,
    DEFAULT_SOLVER,
    GradientDescent,
    Inversion,
    Restarts,
    Search,
    Solver,
    as_restarts,
    as_solver,
    invert_one,
)


class ProjectionDefense(Defense):
    """A defence that classifies G(z*): subclasses say how z* is searched for."""

    @property
    @abc.abstractmethod
    def search(self) -> Search:
        """How z* is found."""

    def project(self, key: PRNGKey, manifold: Manifold, image: Image) -> Inversion:
        """Returns the projection of one image; arguments as for `defend`."""
        solver, restarts = self.search.solver, self.search.restarts
        return invert_one(manifold, image, key, solver=solver, restarts=restarts)

    def defend(
        self,
        key: PRNGKey,
        manifold: Manifold,
        classify: Classify,
        image: Image,
    ) -> Defended:
        """Returns the logits of the projection, and the projection."""
        inversion = self.project(key, manifold, image)
        return Defended(classify(inversion.image), inversion)


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
