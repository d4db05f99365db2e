"""The latent attack: the search for an adversarial image moves in the latent space."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks.base import Queries, warn
from robust_manifold.attacks.contract import check_function, classes_of
from robust_manifold.attacks.craft import Crafted, checked_fixed_keys
from robust_manifold.attacks.losses import (
    Candidate,
    Loss,
    Objective,
    ObjectiveValue,
    best_of,
    check_loss,
    with_enough_classes,
)
from robust_manifold.attacks.outputs import check_outputs
from robust_manifold.attacks.overpowered_search import (
    Ascent,
    BoundNorm,
    LatentClimb,
    Latents,
    TwoImages,
)
from robust_manifold.attacks.random import Apply, bound
from robust_manifold.attacks.range_checks import (
    Range,
    checked_range,
    checked_range_images,
    look,
    range_loop_form,
)
from robust_manifold.core import batching, keys, loops, norms
from robust_manifold.core.checks import checked_labels, checked_latents, checked_radius
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Manifold, Spanner
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole, with_checked_fields
from robust_manifold.core.types import (
    Classify,
    Image,
    Label,
    Latent,
    Logits,
    Params,
    PRNGKey,
    Scalar,
)
from robust_manifold.inversion import (
    DEFAULT_RESTARTS,
    DEFAULT_SOLVER,
    Restarts,
    Solver,
    as_restarts,
    as_solver,
    invert,
)

_CANDIDATES = 2
"""Images made of a latent; see `moved_into_ball`."""


@with_checked_fields
@dataclasses.dataclass(frozen=True)
class LatentSearch:
    """The latent attack on a defence that projects (Athalye et al. 2018).

    The projector is taken for a perfect one, that returns G(z) for G(z).  From the
    inversion z0 of the image, and from starts near it, Adam climbs the loss at G(z)
    while ||G(z) - G(z0)|| stays within the budget; see `Ascent`.  What is handed to the
    defence lies in the ball around the image; see `moved_into_ball`.

    Attributes:
      steps: of Adam from each start.
      restarts: the first starts at z0, the others at draws around it.
      learning_rate: Adam's first, in latent units; it falls to 0 along a cosine.
      spread: of the draws around z0, in deviations of the prior.
      loss: climbed at G(z), as of other attacks.
      solver: that inverts the images, or its text as in a config.
      inversion_restarts: its restarts, their text as in a config, or their number.
    """

    steps: int = 200
    restarts: int = 4
    learning_rate: float = 0.05
    spread: float = 0.5
    loss: Loss = "margin"
    solver: Solver | str = DEFAULT_SOLVER
    inversion_restarts: Restarts | str | int = DEFAULT_RESTARTS

    def __post_init__(self):
        object.__setattr__(self, "solver", as_solver(self.solver))
        restarts = as_restarts(self.inversion_restarts)
        object.__setattr__(self, "inversion_restarts", restarts)
        for field in ("steps", "restarts"):
            whole = is_whole(getattr(self, field), 1)
            check(whole, self, field, "a whole number, 1 or more")
        finite = 0 < self.learning_rate < math.inf
        check(finite, self, "learning_rate", "a finite number above 0")
        check(0 <= self.spread < math.inf, self, "spread", "a finite number from 0")
        check_loss(self)

    def ascent(self, norm: BoundNorm) -> Ascent:
        """Returns how one start climbs within a budget of this norm."""
        return Ascent(norm, self.steps, self.learning_rate)

    def starts(
        self, manifold: Manifold, latent: Latent, key: PRNGKey
    ) -> Float[Array, "restarts 1 latent"]:
        """Returns where the restarts begin, the inversion and draws around it."""
        (size,) = manifold.latent_shape
        free = jnp.arange(size) < manifold.prior.free_size(size)
        noise = jax.random.normal(key, (self.restarts, size), latent.dtype)
        noise = noise.at[0].set(0) * (self.spread * manifold.prior.deviation)
        return (latent[None] + jnp.where(free[None], noise, 0))[:, None]


def moved_into_ball(
    image: Image, near: Image, projection: Image, epsilon: Scalar, norm: BoundNorm
) -> Float[Array, "2 height width channels"]:
    """Returns the images to hand to a defence, that it may project to `near`.

    Both lie in the ball around `image` and in [0, 1].  The first is the nearest to
    `near`.  The second is the image moved as the range is from `projection` to `near`:
    it keeps what no image of the range has, which a projector takes away again.

    Args:
      image: the clean one.
      near: of the range.
      projection: of the clean image.
      epsilon: the radius of the ball.
      norm: of the ball.
    """
    moves = jnp.stack([near - image, near - projection])
    moves = jax.vmap(norms.project_ball, (0, None, None))(moves, epsilon, norm)
    # Clipping brings each pixel nearer to the image's own: the ball is not left.
    return jnp.clip(image[None] + moves, 0, 1)


def find_on_manifold(
    search: LatentSearch,
    norm: Norm,
    epsilon: float,
    spanner: Spanner,
    classify: Apply,
    params: Params,
    images: Any,
    labels: Any,
    *,
    key: PRNGKey,
    apply: Apply | None = None,
    criterion: Criterion = MISCLASSIFIED,
    latents: Any = None,
    fixed_keys: Any = None,
    ids: np.ndarray | jax.Array | None = None,
    batch_size: int | None = None,
    tile: int | None = None,
    loop: str | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Crafted:
    """Returns an image in each ball that reads as another class once it is projected.

    The best candidates of all restarts are handed to `apply`, and the best of them by
    it is returned.  The result for an image depends on its id and `key`, never on its
    batch mates; calls that differ in `epsilon` alone compile once.

    Args:
      search: the spec.
      norm: of the budget, "l2" or "linf".
      epsilon: the budget, on pixels in [0, 1].
      spanner: the generator, and its encoder if it has one.
      classify: `classify(params, image) -> logits`, the bare classifier.
      params: `ManifoldParams`, `DefenseParams` or what else has their fields.
      images: [n, height, width, channels], floats in [0, 1].
      labels: [n], the true classes.
      key: the root of all randomness.
      apply: `apply(params, image) -> logits`, the true defended classifier with
        `params` whole, or an `Expectation` of a random one.  Without one, `logits` and
        `success` are those of a perfect projector: the classifier's at a G(z) within
        the budget of the image's own projection, or at that projection.
      criterion: what is wanted of `apply`; `MisclassifiedAndAccepted()` of one that
        rejects.
      latents: [n, latent], inversions of the images where they are known.
      fixed_keys: [n], the keys that a random `apply` always gets for each image; by
        default candidates are compared under one key, the best is judged by another.
      ids: global ids [n] of the images; 0..n-1 by default.
      batch_size: images worked on together; results do not depend on it.
      tile: images that a device computes at once; by default what memory allows.
      loop: as for `craft`.
      on_chunk: called with (images ready, n) whenever some are.

    Returns:
      As `craft`; `queries` are those of the bare classifier and `apply` together, and
      `member` is 0.

    Raises:
      UsageError: for arguments that are not allowed.

    Warns:
      AttackWarning: as `craft`, of gradients by the latent.
    """
    if norm not in ("l2", "linf"):
        raise UsageError(f"norm is {norm!r}; allowed: l2 or linf.")
    if not isinstance(search, LatentSearch):
        raise UsageError(
            f"search is {search!r}; allowed: a latent attack, such as LatentSearch()."
        )
    epsilon = checked_radius("epsilon", epsilon)
    range = checked_range(
        spanner,
        classify,
        params,
        key,
        images=images,
        labels=labels,
        latents=latents,
        fixed_keys=fixed_keys,
        ids=ids,
    )
    images = checked_range_images(range, images)
    labels = checked_labels(labels, len(images), range.classes)
    search = _fitting(search, range.classes)
    if apply is not None:
        _check_defended(apply, params, range, criterion)
    ids = batching.checked_ids(ids, len(images))
    held, key_impl = checked_fixed_keys(fixed_keys, len(images))
    if latents is None:
        latents = _inversions(search, spanner, params, images, key, ids, batch_size)
    (size,) = spanner.latent_shape
    latents = checked_latents(latents, len(images), size, images.dtype)
    look(
        spanner,
        classify,
        params,
        key,
        bound=epsilon,
        norm=norm,
        shape=range.image.shape,
        latents=latents,
        labels=labels,
    )
    if apply is not None:
        look_key = keys.stream(key, "look")
        check_outputs(
            apply, params, images, key=look_key, fixed_keys=fixed_keys, tile=tile
        )
    examples = _Example(
        images,  # type: ignore[arg-type]
        labels,  # type: ignore[arg-type]
        np.full(len(images), epsilon, images.dtype),  # type: ignore[arg-type]
        latents,  # type: ignore[arg-type]
        held,  # type: ignore[arg-type]
    )
    form = loop
    if form is None:
        form = range_loop_form(spanner, classify, params, range)
    one = _Search(search, norm, spanner, classify, apply, criterion, key_impl)
    return loops.map_loop(
        one.loop(),
        params,
        examples,
        key=key,
        ids=ids,
        batch_size=batch_size,
        tile=tile,
        form=form,
        on_chunk=on_chunk,
    )


def _fitting(search: LatentSearch, classes: int) -> LatentSearch:
    """Returns the attack as it is made for the classes, and tells of any change."""
    fitting = with_enough_classes(search, classes)
    if fitting != search:
        warn(f"{search} does not suit {classes} classes; {fitting} is made instead.")
    return fitting


def _check_defended(
    apply: Any, params: Params, range: Range, criterion: Criterion
) -> None:
    """Raises a `UsageError` unless both classifiers have the same classes."""
    check_function("apply", apply)
    classes = criterion.classes_among(classes_of(apply, params, range.image))
    if classes != range.classes:
        raise UsageError(
            f"apply gives {classes} logits and classify {range.classes}; allowed: "
            "equally many."
        )


def _inversions(search, spanner, params, images, key, ids, batch_size):
    """Returns the latents whose images are nearest to the clean ones."""
    return invert(
        spanner.generate,
        params.spanner.generator,
        images,
        key=keys.stream(key, "inversion"),
        latent_shape=spanner.latent_shape,
        solver=search.solver,
        restarts=search.inversion_restarts,
        prior=spanner.prior,
        encode=spanner.encode,
        encoder_params=params.spanner.encoder,
        batch_size=batch_size,
        ids=ids,
    ).latent


class _Example(NamedTuple):
    image: Image
    label: Label
    epsilon: Scalar
    latent: Latent
    """The inversion of the image."""
    held_key: Array | None
    """Data of the key that a random defended classifier always gets."""


class _State(NamedTuple):
    projection: Image
    """G(z0)."""
    climbs: LatentClimb
    """With a leading axis of restarts."""


@dataclasses.dataclass(frozen=True)
class _OnManifold:
    """G(z) against the projection of the clean image."""

    projection: Image
    manifold: Manifold
    objective: Objective

    def images(self, latents: Latents) -> TwoImages:
        return jnp.stack([self.projection, self.manifold.generate(latents[0])])

    def evaluate(self, images: TwoImages) -> ObjectiveValue:
        return self.objective.evaluate(images[1])


@dataclasses.dataclass(frozen=True)
class _Search:
    """The attack on one image as a loop, hashed by value."""

    spec: LatentSearch
    norm: BoundNorm
    spanner: Spanner
    classify: Apply
    apply: Apply | None
    criterion: Criterion = MISCLASSIFIED
    """What is wanted of `apply`."""
    key_impl: Any = None
    """The kind of the held keys; None if there are none."""

    def loop(self) -> loops.Loop:
        parts = {name: loops.Method(self, name) for name in ("begin", "step", "finish")}
        return loops.Loop(**parts, steps=self.spec.steps)

    def contest(self, params, key, example: _Example, projection: Image) -> _OnManifold:
        manifold = self.spanner.bind(params.spanner)
        key = keys.stream(key, "classifier")
        classify = bound(self.classify, params.classifier, key)
        objective = Objective(classify, example.label, self.spec.loss)
        return _OnManifold(projection, manifold, objective)

    def begin(self, params: Params, key: PRNGKey, example: _Example) -> _State:
        manifold = self.spanner.bind(params.spanner)
        starts = self.spec.starts(manifold, example.latent, keys.stream(key, "starts"))
        climbs = jax.vmap(self.spec.ascent(self.norm).begin)(starts)
        return _State(manifold.generate(example.latent), climbs)

    def step(
        self, params: Params, key: PRNGKey, example: _Example, state: _State
    ) -> _State:
        contest = self.contest(params, key, example, state.projection)
        ascent = self.spec.ascent(self.norm)

        def one(climb: LatentClimb) -> LatentClimb:
            pull = jnp.zeros_like(climb.latents)
            return ascent.step(contest, example.epsilon, pull, climb)

        return state._replace(climbs=jax.vmap(one)(state.climbs))

    def finish(
        self,
        params: Params,
        key: PRNGKey,
        example: _Example,
        state: _State,
        steps: Int[Array, ""],
    ) -> Crafted:
        del steps
        contest = self.contest(params, key, example, state.projection)
        ascent = self.spec.ascent(self.norm)

        def nearest_wanted(climb: LatentClimb) -> tuple[Image, Bool[Array, ""]]:
            best = ascent.finish(contest, example.epsilon, climb)
            return contest.manifold.generate(best.latents[0]), best.feasible

        near, inside = jax.vmap(nearest_wanted)(state.climbs)
        if self.apply is None:
            image, logits = self._projected(example, state, contest, near, inside)
            success = contest.objective.succeeds(logits)
        else:
            image, logits = self._chosen(params, key, example, state, contest, near)
            success = self.criterion.succeeds(logits, example.label)
        distance = norms.norm(image - example.image, self.norm)
        queries = Queries(*map(jnp.int32, self._cost))
        return Crafted(image, success, distance, queries, logits, jnp.int32(0))

    def _projected(
        self, example: _Example, state: _State, contest: _OnManifold, near, inside
    ) -> tuple[Image, Logits]:
        """Returns the best image to hand to a perfect projector, and its logits.

        Args:
          example: what is attacked.
          state: at the end.
          contest: of the example.
          near: [restarts, h, w, c], the best that each restart met in the range.
          inside: [restarts], whether it is within the budget; one that is not counts
            as the projection of the clean image.
        """
        near = jnp.where(inside[:, None, None, None], near, state.projection)
        scores = dataclasses.replace(contest.objective, loss="margin")
        evaluations = jax.vmap(scores.evaluate)(near)
        best = best_of(Candidate(near, evaluations)).image
        itself, moved = moved_into_ball(
            example.image, best, state.projection, example.epsilon, self.norm
        )
        # What lies in the ball is its own projection; what does not is not reached.
        within = norms.norm(best - example.image, self.norm) <= example.epsilon
        image = jnp.where(within, itself, moved)
        return image, contest.objective.classify(best)

    def _chosen(self, params, key, example: _Example, state: _State, contest, near):
        """Returns the best image to hand over, and its logits.

        Args:
          params: of all networks.
          key: of the end.
          example: what is attacked.
          state: at the end.
          contest: of the example.
          near: [restarts, h, w, c], the best that each restart met in the range.
        """
        handed = jax.vmap(moved_into_ball, (None, 0, None, None, None))(
            example.image, near, state.projection, example.epsilon, self.norm
        )
        handed = handed.reshape(-1, *example.image.shape)
        scores = dataclasses.replace(contest.objective, loss="margin")
        defended = self._defended(params, key, example, "scoring")
        defended, _ = self.criterion.reduced(defended, example.label)
        # One by one: a defence that inverts holds many images' worth of memory.
        evaluations = jax.lax.map(lambda image: scores.of(defended(image)), handed)
        image = best_of(Candidate(handed, evaluations)).image
        # By another key than the one that it was chosen under.
        return image, self._defended(params, key, example, "evaluation")(image)

    def _defended(self, params, key, example: _Example, use: str) -> Classify:
        """Returns the true defended classifier of the image."""
        assert self.apply is not None
        key = keys.stream(key, use)
        if example.held_key is not None:
            key = jax.random.wrap_key_data(example.held_key, impl=self.key_impl)
        fixed = example.held_key is not None
        return bound(self.apply, params, key, fixed=fixed)

    @property
    def _cost(self) -> Queries:
        """What is asked of the classifier and of the defended one, together."""
        looks = self.spec.restarts * self.spec.steps
        tried = self.spec.restarts * _CANDIDATES + 1
        return Queries(looks + self.spec.restarts + tried, looks)
