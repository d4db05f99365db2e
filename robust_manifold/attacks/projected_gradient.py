"""Gradient ascent in a ball with steps of one size, and the best of the trajectory."""

import abc
import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from robust_manifold.attacks import region
from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    check_epsilon,
    registry,
)
from robust_manifold.attacks.losses import (
    Candidate,
    Loss,
    best_of,
    check_loss,
    with_enough_classes,
)
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey, Scalar


class Climb(NamedTuple):
    """Where the restarts stand, along a leading axis."""

    image: Image
    best: Candidate
    memory: Any = ()
    """What the next direction depends on beside the gradient."""


class GradientAscent(SteppedAttack[Climb]):
    """What attacks with steps of one size have in common: all but the direction.

    Every step moves by `step_size` along a direction and projects onto the ball and
    onto [0, 1].  What is returned is the best image met, the clean one and the last
    one included: an adversarial image beats any other, then the higher loss wins.
    Restart r draws from the key folded with r, so more restarts only add candidates.
    """

    family: ClassVar[Family] = "budgeted"
    ends_at_success: ClassVar[bool] = True

    steps: int
    step_size: float | None
    restarts: int
    random_start: bool
    """Start from a uniform point of the ball; otherwise from the image itself."""
    loss: Loss
    stop: bool
    """End an image's search at its first success."""

    @abc.abstractmethod
    def default_size(self, epsilon: Scalar) -> Scalar:
        """Returns the size of a step where none is given."""

    @abc.abstractmethod
    def direction(
        self, image: Image, gradient: Image, memory: Any
    ) -> tuple[Image, Any]:
        """Returns the direction of a step, and what the next one depends on.

        Args:
          image: where the step starts.
          gradient: of the loss there.
          memory: what the last step returned; `remember` before the first.
        """

    def remember(self, image: Image) -> Any:
        """Returns the memory before the first step, for a start at `image`."""
        del image
        return ()

    def check_fields(self, *allowed: Norm) -> None:
        """Raises a `UsageError` unless all that the attacks share is valid."""
        check_epsilon(self)
        check(self.norm in allowed, self, "norm", " or ".join(allowed))
        check(is_whole(self.steps, 1), self, "steps", "1 or more")
        check(
            self.step_size is None or 0 < self.step_size < math.inf,
            self,
            "step_size",
            "a finite number above 0, or None",
        )
        check(is_whole(self.restarts, 1), self, "restarts", "1 or more")
        check(
            self.random_start or self.restarts == 1,
            self,
            "restarts",
            "1 where random_start is off, since all restarts would be equal",
        )
        check_loss(self)

    @property
    def iterations(self) -> int:
        """The steps."""
        return self.steps

    @property
    def ends_early(self) -> bool:  # type: ignore[override]
        """Whether the first success ends the search."""
        return self.stop

    def passes(self, classes: int) -> Passes:
        """Returns the cost: a gradient a step, and the value of both ends."""
        restarts = self.restarts
        return Passes(
            begin=Queries(int(self.random_start), 0),
            step=Queries(restarts, restarts),
            finish=Queries(restarts, 0),
        )

    def for_classes(self, classes: int, targeted: bool = False) -> Any:
        """Returns the attack with a loss that so many classes have."""
        return with_enough_classes(self, classes, targeted)

    def begin(self, problem: Problem, key: PRNGKey) -> Climb:
        """Returns the starts, and the clean image as the first best."""
        clean = self._clean(problem)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
            key, jnp.arange(self.restarts)
        )

        def start(key: PRNGKey) -> Climb:
            image = self._start(problem, key)
            return Climb(image, clean, self.remember(image))

        return jax.vmap(start)(keys)

    def step(self, problem: Problem, key: PRNGKey, state: Climb) -> Climb:
        """Returns every restart one step on."""
        return jax.vmap(lambda climb: self.climb(problem, climb))(state)

    def climb(self, problem: Problem, climb: Climb) -> Climb:
        """Returns one restart one step on, its last image compared with the best."""
        image = climb.image
        evaluation, gradient = problem.objective(self.loss).evaluate_with_gradient(
            image
        )
        best = climb.best.better_of(Candidate(image, evaluation))
        size = self.step_size
        if size is None:
            size = self.default_size(problem.epsilon)
        direction, memory = self.direction(image, gradient, climb.memory)
        project = region.projection(problem.image, problem.epsilon, self.norm)
        return Climb(project(image + size * direction), best, memory)

    def ended(self, state: Climb) -> Bool[Array, ""]:
        """Returns whether some restart has met an adversarial image."""
        return state.best.evaluation.adversarial.any()

    def finish(self, problem: Problem, key: PRNGKey, state: Climb) -> Image:
        """Returns the best image over all steps of all restarts."""
        last = jax.vmap(problem.objective(self.loss).candidate)(state.image)
        return best_of(jax.vmap(Candidate.better_of)(state.best, last)).image

    def _clean(self, problem: Problem) -> Candidate:
        """Returns the clean image as the first best."""
        clean = problem.image
        if self.random_start:
            return problem.objective(self.loss).candidate(clean)
        # The first step evaluates the very same image: any loss beats this one.
        return Candidate.nothing(clean)

    def _start(self, problem: Problem, key: PRNGKey) -> Image:
        image = problem.image
        if not self.random_start:
            return image
        project = region.projection(image, problem.epsilon, self.norm)
        unit = norms.uniform_in_ball(key, image, self.norm)
        return project(image + problem.epsilon * unit)


@registry.register("pgd")
@dataclasses.dataclass(frozen=True)
class PGD(GradientAscent):
    """Projected gradient ascent (Madry et al. 2018), best of the whole trajectory.

    A step goes along the steepest direction of the norm.  In l1 that direction moves a
    single pixel; the step is spread over more of them (Tramer and Boneh 2019), and
    pixels that the box holds back are passed over.
    """

    title: ClassVar[str] = "projected gradient descent"
    source: ClassVar[str] = "Madry et al. 2018"

    epsilon: float
    """Radius of the ball, in the plain norm, on pixels in [0, 1]."""
    norm: Norm = "linf"
    """`linf`, `l2` or `l1`."""
    steps: int = 40
    step_size: float | None = None
    """By default 2.5 * epsilon / steps, Madry et al.'s choice for l2 balls."""
    restarts: int = 1
    random_start: bool = True
    """Start from a uniform point of the ball; otherwise from the image itself."""
    loss: Loss = "margin"
    stop: bool = False
    """End an image's search at its first success: successes stay the same, but the
    image is then the first adversarial one, not the worst."""
    sparsity: float = 0.05
    """Share of the entries that an l1 step moves, those of largest gradient."""

    def __post_init__(self):
        self.check_fields("linf", "l2", "l1")
        check(0 < self.sparsity <= 1, self, "sparsity", "above 0, up to 1")

    def default_size(self, epsilon: Scalar) -> Scalar:
        """Returns a size with which the steps together cross the ball."""
        return 2.5 * epsilon / self.steps

    def direction(
        self, image: Image, gradient: Image, memory: Any
    ) -> tuple[Image, Any]:
        """Returns the steepest direction."""
        if self.norm != "l1":
            return norms.steepest_direction(gradient, self.norm), memory
        count = math.ceil(self.sparsity * image.size)
        return region.sparse_inwards(gradient, image, count), memory


@registry.register("bim")
@dataclasses.dataclass(frozen=True)
class BIM(GradientAscent):
    """Basic iterative method: FGSM in small steps from the image (Kurakin et al. 2017).

    The best of the trajectory is returned, not the last image.
    """

    title: ClassVar[str] = "basic iterative method"
    source: ClassVar[str] = "Kurakin et al. 2017"

    epsilon: float
    """Largest change of a pixel, on pixels in [0, 1]."""
    steps: int = 10
    step_size: float | None = None
    """By default epsilon / steps: the last step can just reach the ball's edge."""
    loss: Loss = "margin"
    stop: bool = False
    """End an image's search at its first success."""
    norm: Norm = dataclasses.field(default="linf", init=False, repr=False)
    restarts: int = dataclasses.field(default=1, init=False, repr=False)
    random_start: bool = dataclasses.field(default=False, init=False, repr=False)

    def __post_init__(self):
        self.check_fields("linf")

    def default_size(self, epsilon: Scalar) -> Scalar:
        """Returns the steps' equal share of the budget."""
        return epsilon / self.steps

    def direction(
        self, image: Image, gradient: Image, memory: Any
    ) -> tuple[Image, Any]:
        """Returns the signs of the gradient."""
        return jnp.sign(gradient), memory
