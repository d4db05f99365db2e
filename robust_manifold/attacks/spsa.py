"""Gradient ascent on gradients that are estimated from scores."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from robust_manifold.attacks import region
from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    ThreatModel,
    check_epsilon,
    registry,
)
from robust_manifold.attacks.losses import (
    Candidate,
    Loss,
    check_loss,
    finite,
    with_enough_classes,
)
from robust_manifold.core import keys
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey


class SPSAState(NamedTuple):
    """Where the search stands."""

    image: Image
    adam: optax.OptState
    best: Candidate


@registry.register("spsa")
@dataclasses.dataclass(frozen=True)
class SPSA(SteppedAttack[SPSAState]):
    """Simultaneous perturbation stochastic approximation (Uesato et al. 2018).

    The gradient is the mean over random sign vectors v of the loss's difference
    between the image plus and less `delta` * v, times v; it drives Adam, and each step
    is projected onto the ball and onto [0, 1].  The classifier sees pixels in [0, 1]
    only: the two images of a pair are clipped, which shortens a difference at the edge
    of the box and keeps its sign.

    An image's search ends at its first success.  Adam's denominator has no constant,
    so that the scale of the logits does not matter.  Pixel by pixel Adam's steps are
    little else than signs, which is the steepest direction of linf alone: in l2 and l1
    all pixels share the largest denominator, and move in proportion to the gradient.
    """

    family: ClassVar[Family] = "black box"
    ends_at_success: ClassVar[bool] = True
    threat_model: ClassVar[ThreatModel] = "scores"
    title: ClassVar[str] = "SPSA"
    source: ClassVar[str] = "Uesato et al. 2018"
    takes_start: ClassVar[bool] = True
    ends_early: ClassVar[bool] = True

    epsilon: float
    """Radius of the ball, in the plain norm, on pixels in [0, 1]."""
    norm: Norm = "linf"
    """`linf`, `l2` or `l1`."""
    steps: int = 100
    samples: int = 128
    """Sign vectors of a step; each costs two queries."""
    delta: float = 0.01
    """Size of the sign vectors, in pixels."""
    learning_rate: float = 0.01
    """Of Adam, in pixels: no pixel moves much further in a step."""
    loss: Loss = "difference"

    def __post_init__(self):
        check_epsilon(self)
        check(self.norm in ("linf", "l2", "l1"), self, "norm", "linf, l2 or l1")
        check(is_whole(self.steps, 1), self, "steps", "a whole number, 1 or more")
        check(is_whole(self.samples, 1), self, "samples", "a whole number, 1 or more")
        for field in ("delta", "learning_rate"):
            good = 0 < getattr(self, field) < float("inf")
            check(good, self, field, "a finite number above 0")
        check_loss(self)

    def for_classes(self, classes: int, targeted: bool = False) -> "SPSA":
        """Returns the attack, with the margin where its loss needs more classes."""
        return with_enough_classes(self, classes, targeted)

    @property
    def iterations(self) -> int:
        """The steps."""
        return self.steps

    def passes(self, classes: int) -> Passes:
        """Returns the queries: the pairs of a step, and where it leads."""
        del classes
        return Passes(Queries(1, 0), Queries(2 * self.samples + 1, 0))

    def begin(self, problem: Problem, key: PRNGKey) -> SPSAState:
        """Returns the clean image, or the given one, as the start."""
        del key
        clean = start = problem.image
        best = Candidate.nothing(clean).better_of(
            problem.objective(self.loss).candidate(clean)
        )
        if problem.start is not None:
            project = region.projection(clean, problem.epsilon, self.norm)
            start = project(problem.start)
        return SPSAState(start, self._adam(clean).init(clean), best)

    def step(self, problem: Problem, key: PRNGKey, state: SPSAState) -> SPSAState:
        """Returns the image one step on."""
        gradient = self._estimate(problem, key, state.image)
        # Adam descends.
        update, adam = self._adam(gradient).update(-gradient, state.adam)
        project = region.projection(problem.image, problem.epsilon, self.norm)
        image = project(optax.apply_updates(state.image, update))  # type: ignore[arg-type]
        candidate = problem.objective(self.loss).candidate(image)
        return SPSAState(image, adam, state.best.better_of(candidate))

    def ended(self, state: SPSAState) -> Bool[Array, ""]:
        """Returns whether an adversarial image has been met."""
        return state.best.evaluation.adversarial

    def finish(self, problem: Problem, key: PRNGKey, state: SPSAState) -> Image:
        """Returns the best image met."""
        del problem, key
        return state.best.image

    def _estimate(
        self, problem: Problem, key: PRNGKey, image: Image
    ) -> Float[Array, "height width channels"]:
        evaluate = problem.objective(self.loss).evaluate
        signs = keys.drawn(
            jax.random.rademacher, key, (self.samples, *image.shape), image.dtype
        )

        def rise(signs: Image) -> Image:
            above, below = (
                evaluate(jnp.clip(image + side * self.delta * signs, 0, 1)).loss
                for side in (1, -1)
            )
            slope = (above - below) / (2 * self.delta)
            return finite(slope) * signs

        return jnp.mean(jax.vmap(rise)(signs), axis=0)

    def _adam(self, image: Image) -> optax.GradientTransformation:
        # A zero gradient makes no step, rather than 0 / 0.
        tiny = float(jnp.finfo(image.dtype).tiny)
        adam = optax.scale_by_adam if self.norm == "linf" else _adam_of_one_size
        return optax.chain(
            adam(eps=tiny), optax.scale_by_learning_rate(self.learning_rate)
        )


def _adam_of_one_size(eps: float) -> optax.GradientTransformation:
    """Returns Adam with the largest second moment in place of each pixel's own."""
    mean_decay, square_decay = 0.9, 0.999

    def init(image: Image) -> optax.ScaleByAdamState:
        zero = jnp.zeros_like(image)
        return optax.ScaleByAdamState(jnp.int32(0), zero, zero)

    def update(gradient: Image, state: Any, params: Any = None):
        del params
        count = state.count + 1
        mean = mean_decay * state.mu + (1 - mean_decay) * gradient
        square = square_decay * state.nu + (1 - square_decay) * gradient**2
        scale = jnp.sqrt(jnp.max(square) / (1 - square_decay**count))
        step = mean / (1 - mean_decay**count) / (scale + eps)
        return step, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]
