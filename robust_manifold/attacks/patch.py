"""A sticker on the image that fools the classifier from many views."""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Key

from robust_manifold.attacks.base import (
    Family,
    Images,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    registry,
)
from robust_manifold.attacks.losses import (
    Loss,
    Objective,
    check_loss,
    with_enough_classes,
)
from robust_manifold.attacks.masks import Mask, as_mask, pixels_of
from robust_manifold.attacks.stickers import (
    check_channels,
    check_printable,
    non_printability,
    total_variation,
)
from robust_manifold.attacks.transformations import (
    Transformations,
    View,
    transformations_registry,
)
from robust_manifold.core import keys
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey, Scalar

DEFAULT_TRANSFORMATIONS = Transformations(
    rotation=15.0, scale=0.1, shift=0.05, contrast=0.2, brightness=0.1, noise=0.02
)
"""Small enough that a person takes every view for the same thing."""


class Judged(NamedTuple):
    """A stickered image, and what the fixed views of it are taken for."""

    image: Image
    share: Scalar
    """Of the views that are misclassified; the untransformed one is among them."""
    adversarial: Bool[Array, ""]
    """Whether the untransformed image is misclassified."""
    loss: Scalar
    """Mean over the views; a NaN counts as the lowest."""

    def better_of(self, other: "Judged") -> "Judged":
        """Returns `other` if it is strictly better, this one otherwise."""
        gained = other.adversarial & ~self.adversarial
        level = other.adversarial == self.adversarial
        gained |= level & (other.loss > self.loss)
        better = (other.share > self.share) | ((other.share == self.share) & gained)
        return optax.tree.where(better, other, self)


def best_judged(judged: Judged) -> Judged:
    """Returns the best along the leading axis: by share, by success, by loss."""
    rows = [
        jax.tree.map(lambda leaf, place=place: leaf[place], judged)
        for place in range(judged.share.size)
    ]
    return functools.reduce(Judged.better_of, rows)


class Sticking(NamedTuple):
    """Where the search stands at each position, along a leading axis."""

    mask: Float[Array, "height width 1"]
    """1 where the sticker lies."""
    sticker: Image
    """Its pixels; those outside the mask mean nothing."""
    optimizer: optax.OptState
    best: Judged


class PatchState(NamedTuple):
    """The search at all positions, and the draws it is judged by."""

    positions: Sticking
    draws: Array
    """Data of the key of the fixed views."""


@registry.register("patch")
@dataclasses.dataclass(frozen=True)
class Patch(SteppedAttack[PatchState]):
    """A sticker, found by Adam under expectation over transformations.

    The sticker replaces the pixels under the mask, in any colour of [0, 1] (Brown et
    al. 2017; two bars as on the road signs of Eykholt et al. 2018).  Each step draws
    `samples` views of the whole stickered image (Athalye et al. 2018) and follows the
    gradient of the loss, averaged over the views that are not fooled yet, or over all
    once all of them are.  It is brought to a mean of 1 a pixel of the sticker, so that
    the weights of the penalties mean the same for every classifier.

    Every sticker met is judged on `evaluation_samples` views that are drawn once and
    shared by all steps, and on the untransformed image.  The best has the highest
    share of these views misclassified; then the untransformed image being
    misclassified counts, then the mean loss.  Success is that of the untransformed
    image, as for every attack; `physical_success` tells the share of fresh views.
    """

    family: ClassVar[Family] = "physical"
    title: ClassVar[str] = "sticker under transformations"
    source: ClassVar[str] = "Eykholt et al. 2018"

    mask: Mask | str
    """Where the sticker lies: a mask, or its text as in a config."""
    steps: int = 100
    learning_rate: float = 0.05
    """Adam's, so about the change of a pixel in a step."""
    samples: int = 8
    """Views a step; one where the transformations change nothing."""
    evaluation_samples: int = 16
    """Fixed views that stickers are judged by, besides the untransformed image."""
    transformations: Transformations | str = DEFAULT_TRANSFORMATIONS
    """What views are drawn from: transformations, or their text as in a config."""
    positions: int = 1
    """Places tried side by side: the mask's own, and others drawn at random, at which
    the mask is moved by whole pixels and stays on the image."""
    printability: float = 0.0
    """Weight of the sticker's distance from printable colours."""
    printable: tuple[Any, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Colours that can be printed: grey levels, or tuples with a level a channel."""
    smoothness: float = 0.0
    """Weight of the sticker's total variation."""
    loss: Loss = "margin"
    stop: bool = False
    """End an image's search once all fixed views are misclassified at one position."""
    norm: Norm = dataclasses.field(default="l0", init=False, repr=False)

    def __post_init__(self):
        # Texts become specs, so that equal attacks are equal and hash alike.
        object.__setattr__(self, "mask", as_mask(self.mask))
        if isinstance(self.transformations, str):
            views = transformations_registry.build(self.transformations)
            object.__setattr__(self, "transformations", views)
        for field in ("steps", "samples", "evaluation_samples", "positions"):
            whole = is_whole(getattr(self, field), 1)
            check(whole, self, field, "a whole number, 1 or more")
        known = isinstance(self.mask, Mask)
        check(known, self, "mask", "a mask such as 'square(size=0.2)'")
        known = isinstance(self.transformations, Transformations)
        check(known, self, "transformations", "such as 'transformations(rotation=10)'")
        check(0 < self.learning_rate < np.inf, self, "learning_rate", "above 0")
        for field in ("printability", "smoothness"):
            check(0 <= getattr(self, field) < np.inf, self, field, "0 or more")
        check_printable(self)
        check_loss(self)

    @property
    def iterations(self) -> int:
        """The steps."""
        return self.steps

    def covered(self, height: int, width: int) -> Bool[np.ndarray, "height width"]:
        """Returns which pixels the mask covers; see `masks.pixels_of`."""
        assert isinstance(self.mask, Mask)
        return pixels_of(self.mask, height, width)

    @property
    def ends_early(self) -> bool:  # type: ignore[override]
        """Whether a sticker that fools all fixed views ends the search."""
        return self.stop

    def passes(self, classes: int) -> Passes:
        """Returns the cost: gradients of the views of a step, values of the fixed."""
        drawn, judged = (self.positions * views for views in self._views)
        return Passes(step=Queries(drawn + judged, drawn), finish=Queries(judged, 0))

    def for_classes(self, classes: int, targeted: bool = False) -> Any:
        """Returns the attack with a loss that so many classes have."""
        return with_enough_classes(self, classes, targeted)

    def check_images(self, channels: int) -> None:
        """Raises a `UsageError` unless the sticker can lie on such images.

        Args:
          channels: of the images.
        """
        check_channels(self, channels)

    def begin(self, problem: Problem, key: PRNGKey) -> PatchState:
        """Returns a grey sticker at every position, none of them judged."""
        image = problem.image
        self.check_images(image.shape[-1])
        lowest = jnp.full((), -jnp.inf, image.dtype)
        nothing = Judged(image, lowest, jnp.bool_(False), lowest)
        sticker = jnp.full_like(image, 0.5)

        def at(mask: Float[Array, "height width 1"]) -> Sticking:
            return Sticking(mask, sticker, self._adam.init(sticker), nothing)

        masks = self._masks(keys.stream(key, "positions"), image)
        draws = jax.random.key_data(keys.stream(key, "evaluation views"))
        return PatchState(jax.vmap(at)(masks), draws)

    def step(self, problem: Problem, key: PRNGKey, state: PatchState) -> PatchState:
        """Returns every sticker judged, and one step on."""
        drawn, _ = self._views
        views = self._draw(jax.random.split(key, drawn), problem.image)
        judge = self._judge(problem, key, state)

        def step(at: Sticking) -> Sticking:
            best = at.best.better_of(judge(at))
            ascent = self._ascent(problem, views, at)
            update, optimizer = self._adam.update(-ascent, at.optimizer)
            sticker = jnp.clip(at.sticker + jnp.asarray(update), 0, 1)
            return Sticking(at.mask, sticker, optimizer, best)

        return state._replace(positions=jax.vmap(step)(state.positions))

    def image_of(self, state: PatchState) -> Images:
        """Returns the best stickered image of each position."""
        return state.positions.best.image

    def ended(self, state: PatchState) -> Bool[Array, ""]:
        """Returns whether at some position all fixed views are misclassified."""
        return (state.positions.best.share >= 1).any()

    def finish(self, problem: Problem, key: PRNGKey, state: PatchState) -> Image:
        """Returns the best stickered image over all steps at all positions."""
        judge = self._judge(problem, key, state)
        last = jax.vmap(judge)(state.positions)
        return best_judged(jax.vmap(Judged.better_of)(state.positions.best, last)).image

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    @property
    def _views(self) -> tuple[int, int]:
        """How many views a step draws and how many judge a sticker."""
        if self.transformations.vary:  # type: ignore[union-attr]
            return self.samples, self.evaluation_samples + 1
        return 1, 1

    def _draw(self, view_keys: Key[Array, " views"], image: Image) -> View:
        """Returns so many views' parameters."""
        draw = self.transformations.draw  # type: ignore[union-attr]
        return jax.vmap(draw, in_axes=(0, None))(view_keys, image)

    def _masks(
        self, key: PRNGKey, image: Image
    ) -> Float[Array, "positions height width 1"]:
        """Returns the mask at its own place and at others drawn at random."""
        height, width, _ = image.shape
        pixels = self.covered(height, width)
        rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        mask = jnp.asarray(pixels, image.dtype)[..., None]
        least = jnp.asarray([-rows[0], -columns[0]])
        most = jnp.asarray([height - rows[-1], width - columns[-1]])

        def moved(place: Array) -> Array:
            own = jax.random.fold_in(key, place)
            by = jax.random.randint(own, (2,), least, most)
            return jnp.roll(mask, jnp.where(place > 0, by, 0), axis=(0, 1))

        return jax.vmap(moved)(jnp.arange(self.positions))

    def _seen(self, problem: Problem, at: Sticking, view: View | None) -> Objective:
        """Returns the objective of the sticker as one view shows it."""

        def classify(sticker: Image) -> Array:
            image = _stuck(problem.image, sticker, at.mask)
            if view is not None:
                image = self.transformations.view(image, view)  # type: ignore[union-attr]
            return problem.classify(image)

        return dataclasses.replace(problem.objective(self.loss), classify=classify)

    def _ascent(self, problem: Problem, views: View, at: Sticking) -> Image:
        """Returns the direction of the sticker's next step, penalties included."""

        def one(view: View) -> Any:
            seen = self._seen(problem, at, view)
            return seen.evaluate_with_gradient(at.sticker)

        evaluation, gradients = jax.vmap(one)(views)
        # Views that are fooled pull no more, unless all of them are.
        fooled = evaluation.adversarial
        pulls = (fooled == fooled.all()).astype(gradients.dtype)
        largest = jnp.max(jnp.abs(gradients))
        gradients = gradients / jnp.where(largest > 0, largest, 1)
        ascent = jnp.tensordot(pulls, gradients, 1)
        covered = jnp.sum(at.mask) * at.sticker.shape[-1]
        mean = jnp.sum(jnp.abs(ascent)) / covered
        ascent = ascent / jnp.where(mean > 0, mean, 1)
        return ascent - jax.grad(self._penalty)(at.sticker, at.mask)

    def _penalty(self, sticker: Image, mask: Float[Array, "h w 1"]) -> Scalar:
        penalty = jnp.zeros((), sticker.dtype)
        if self.printability:
            distance = non_printability(sticker, mask, self.printable)
            penalty += self.printability * distance
        if self.smoothness:
            penalty += self.smoothness * total_variation(sticker, mask)
        return penalty

    def _judge(self, problem: Problem, key: PRNGKey, state: PatchState) -> Any:
        """Returns the function that judges a sticker by the fixed views."""
        fixed = self._views[1] - 1
        views = None
        if fixed:
            draws = jax.random.wrap_key_data(state.draws, impl=jax.random.key_impl(key))
            views = self._draw(jax.random.split(draws, fixed), problem.image)

        def judge(at: Sticking) -> Judged:
            plain = self._seen(problem, at, None).evaluate(at.sticker)
            adversarial, loss = plain.adversarial[None], plain.loss[None]
            if views is not None:
                one = lambda view: self._seen(problem, at, view).evaluate(at.sticker)  # noqa: E731
                of_views = jax.vmap(one)(views)
                adversarial = jnp.append(adversarial, of_views.adversarial)
                loss = jnp.append(loss, of_views.loss)
            mean = jnp.mean(loss)
            return Judged(
                _stuck(problem.image, at.sticker, at.mask),
                jnp.mean(adversarial, dtype=at.sticker.dtype),
                plain.adversarial,
                jnp.where(jnp.isnan(mean), -jnp.inf, mean).astype(at.sticker.dtype),
            )

        return judge


def _stuck(image: Image, sticker: Image, mask: Float[Array, "h w 1"]) -> Image:
    """Returns the image with the sticker in place of the pixels under the mask."""
    return jnp.where(mask > 0, sticker, image)
