"""Classify the projection onto the generator's range in place of the image."""

import abc
import dataclasses
import math

from robust_manifold.core.prior import STANDARD_NORMAL, Prior
from robust_manifold.core.spec import check
from robust_manifold.core.types import Classify, Generate, Image, PRNGKey
from robust_manifold.defenses.base import Defended, Defense, registry
from robust_manifold.inversion import (
    GradientDescent,
    Inversion,
    Solver,
    as_solver,
    invert_one,
)


class ProjectionDefense(Defense):
    """A defence that classifies G(z*): subclasses say how z* is found."""

    @abc.abstractmethod
    def project(
        self,
        key: PRNGKey,
        generate: Generate,
        image: Image,
        latent_shape: tuple[int, ...],
        prior: Prior = STANDARD_NORMAL,
    ) -> Inversion:
        """Returns the projection of one image; arguments as for `defend`."""

    def defend(
        self,
        key: PRNGKey,
        generate: Generate,
        classify: Classify,
        image: Image,
        latent_shape: tuple[int, ...],
        prior: Prior = STANDARD_NORMAL,
    ) -> Defended:
        """Returns the logits of the projection, and the projection."""
        inversion = self.project(key, generate, image, latent_shape, prior)
        return Defended(classify(inversion.image), inversion)


@registry.register("invert_and_classify")
@dataclasses.dataclass(frozen=True)
class InvertAndClassify(ProjectionDefense):
    """Invert and Classify (Ilyas et al. 2017): classify the best restart's G(z*)."""

    solver: Solver | str = GradientDescent()
    """A solver, or its text as in a config: "adam(steps=100)"."""
    restarts: int = 10
    start_scale: float = 1.0
    """By which a start's distance from the prior's centre is multiplied."""

    def __post_init__(self):
        # The text becomes its solver, so that equal defences are equal and hash alike.
        object.__setattr__(self, "solver", as_solver(self.solver))
        check(self.restarts >= 1, self, "restarts", "1 or more")
        check(
            0 <= self.start_scale < math.inf,
            self,
            "start_scale",
            "a finite number, 0 or more",
        )

    def project(
        self,
        key: PRNGKey,
        generate: Generate,
        image: Image,
        latent_shape: tuple[int, ...],
        prior: Prior = STANDARD_NORMAL,
    ) -> Inversion:
        """Returns the best of `restarts` runs of the solver."""
        return invert_one(
            generate,
            image,
            key,
            solver=self.solver,
            restarts=self.restarts,
            latent_shape=latent_shape,
            prior=prior,
            start_scale=self.start_scale,
        )


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

    def project(
        self,
        key: PRNGKey,
        generate: Generate,
        image: Image,
        latent_shape: tuple[int, ...],
        prior: Prior = STANDARD_NORMAL,
    ) -> Inversion:
        """Returns the best of `restarts` runs of Defense-GAN's recipe."""
        return invert_one(
            generate,
            image,
            key,
            solver=self.solver,
            restarts=self.restarts,
            latent_shape=latent_shape,
            prior=prior,
            start_scale=1 / math.sqrt(math.prod(latent_shape)),
        )
