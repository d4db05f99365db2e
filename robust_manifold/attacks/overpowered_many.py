"""The overpowered attack for many pairs or images, compiled, on all devices."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks.overpowered import (
    Neighbour,
    OneSided,
    Overpowered,
    Pair,
    TwoSided,
    latent_type,
    neighbour_of,
    neighbour_starts,
    pair_of,
    pair_starts,
)
from robust_manifold.attacks.overpowered_search import LatentClimb
from robust_manifold.attacks.random import Apply, Expectation, bound
from robust_manifold.attacks.range_checks import (
    checked_range,
    checked_range_images,
    look,
    range_loop_form,
)
from robust_manifold.core import keys, loops
from robust_manifold.core.checks import checked_labels
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.core.spec import is_whole
from robust_manifold.core.types import (
    Classify,
    Image,
    Label,
    Params,
    PRNGKey,
    Scalar,
)


class ManifoldParams(NamedTuple):
    """The parameters of a generator, with its encoder, and of a classifier."""

    spanner: SpannerParams
    classifier: Params


class Pairs(NamedTuple):
    """Pairs of images of a generator; see `Pair`."""

    latents: Float[Array, "n 2 latent"]
    images: Float[Array, "n 2 height width channels"]
    distances: Float[Array, " n"]
    """The norms of the differences of `images`, over all pixels."""
    logits: Float[Array, "n 2 classes"]
    feasible: Bool[Array, " n"]
    """Whether a distance is at most the bound."""
    found: Bool[Array, " n"]
    """Whether it is, and the predicted classes differ."""


class Neighbours(NamedTuple):
    """Images of a generator near given ones; see `Neighbour`."""

    latents: Float[Array, "n latent"]
    images: Float[Array, "n height width channels"]
    distances: Float[Array, " n"]
    """The norms of their differences from the given images, over all pixels."""
    logits: Float[Array, "n classes"]
    feasible: Bool[Array, " n"]
    """Whether a distance is at most the bound."""
    found: Bool[Array, " n"]
    """Whether it is, and the predicted class is not the label."""


def find_pairs(
    spec: Overpowered,
    spanner: Spanner,
    classify: Apply,
    params: Params,
    n: int,
    *,
    key: PRNGKey,
    ids: np.ndarray | jax.Array | None = None,
    batch_size: int | None = None,
    tile: int | None = None,
    loop: str | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Pairs:
    """Returns `n` pairs, each the best that a search of its own met.

    A pair depends on its id and `key`, never on the others.  Calls whose specs differ
    only in `eta` compile once.

    Args:
      spec: the attack.
      spanner: the generator.
      classify: `classify(params, image) -> logits`, for one image; for a random
        classifier an `Expectation`.
      params: `ManifoldParams`, or what else has its fields.
      n: number of pairs.
      key: the root of all randomness.
      ids: global ids [n] of the pairs; 0..n-1 by default.
      batch_size: pairs worked on together; results do not depend on it.
      tile: pairs that a device computes at once; by default what memory allows.
      loop: "scan" compiles many steps as one program, "python" calls a compiled step
        again and again; by default as for `craft`.
      on_chunk: called with (pairs ready, n) whenever some are.

    Raises:
      UsageError: for arguments that are not allowed.

    Warns:
      AttackWarning: if logits of G(z) are NaN, or gradients by z are zero or not
        finite, or if `eta` is wider than the box of all images.
    """
    if not is_whole(n, 1):
        raise UsageError(f"n is {n!r}; allowed: a whole number, 1 or more.")
    shared = without_bound(spec)
    range = checked_range(spanner, classify, params, key, ids=ids)
    shape = range.image.shape
    look(spanner, classify, params, key, bound=spec.eta, norm=spec.norm, shape=shape)
    dtype = latent_type(spanner.bind(params.spanner))
    search = _PairSearch(shared, spanner, classify)
    found = loops.map_loop(
        search.loop(),
        params,
        np.full(int(n), spec.eta, dtype),
        key=key,
        ids=ids,
        batch_size=batch_size,
        tile=tile,
        form=range_loop_form(spanner, classify, params, range)
        if loop is None
        else loop,
        on_chunk=on_chunk,
    )
    return Pairs(*found)


def find_neighbours(
    spec: Overpowered,
    spanner: Spanner,
    classify: Apply,
    params: Params,
    images: Any,
    labels: Any,
    *,
    key: PRNGKey,
    ids: np.ndarray | jax.Array | None = None,
    batch_size: int | None = None,
    tile: int | None = None,
    loop: str | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """Returns, for each image, the best image of the range near it.

    Args:
      spec: the attack; `eta` bounds the distance from the image.
      spanner: the generator; with an encoder, half of the starts begin at its guess.
      classify: as for `find_pairs`.
      params: as for `find_pairs`.
      images: [n, height, width, channels], floats in [0, 1].
      labels: [n], the classes to get away from.
      key: as for `find_pairs`.
      ids: global ids [n] of the images; 0..n-1 by default.
      batch_size: as for `find_pairs`.
      tile: as for `find_pairs`.
      loop: as for `find_pairs`.
      on_chunk: as for `find_pairs`.

    Raises:
      UsageError: for arguments that are not allowed, or a generator whose images have
        another shape.

    Warns:
      AttackWarning: as `find_pairs`.
    """
    shared = without_bound(spec)
    range = checked_range(
        spanner, classify, params, key, images=images, labels=labels, ids=ids
    )
    images = checked_range_images(range, images)
    labels = checked_labels(labels, len(images), range.classes)
    shape = range.image.shape
    look(spanner, classify, params, key, bound=spec.eta, norm=spec.norm, shape=shape)
    bounds = np.full(len(images), spec.eta, images.dtype)
    search = _NeighbourSearch(shared, spanner, classify)
    found = loops.map_loop(
        search.loop(),
        params,
        _Example(images, labels, bounds),  # type: ignore[arg-type]
        key=key,
        ids=ids,
        batch_size=batch_size,
        tile=tile,
        form=range_loop_form(spanner, classify, params, range)
        if loop is None
        else loop,
        on_chunk=on_chunk,
    )
    return Neighbours(*found)


def without_bound(spec: Overpowered) -> Overpowered:
    """Returns the attack as a part of a program that serves all bounds."""
    if not isinstance(spec, Overpowered):
        raise UsageError(
            f"spec is {spec!r}; allowed: an overpowered attack, such as "
            "Overpowered(eta=1.5)."
        )
    shared = copy.copy(spec)
    object.__setattr__(shared, "eta", None)
    return shared


class _Example(NamedTuple):
    image: Image
    label: Label
    bound: Scalar


@dataclasses.dataclass(frozen=True)
class _Search:
    """The attack on one example as a loop, hashed by value."""

    spec: Overpowered
    spanner: Spanner
    apply: Apply

    def loop(self) -> loops.Loop:
        """Returns the loop."""
        # What parts one draw of a random classifier need not part the next.
        ends = self.spec.stop and not isinstance(self.apply, Expectation)
        return loops.Loop(
            begin=loops.Method(self, "begin"),
            step=loops.Method(self, "step"),
            finish=loops.Method(self, "finish"),
            steps=self.spec.steps,
            ended=loops.Method(self, "ended") if ends else None,
        )

    def classify(self, params: Params, key: PRNGKey, use: str) -> Classify:
        return bound(self.apply, params.classifier, keys.stream(key, use))

    def ended(self, climbs: LatentClimb) -> Bool[Array, ""]:
        return climbs.best.found.any()


@dataclasses.dataclass(frozen=True)
class _PairSearch(_Search):
    """Of a pair; the example is its bound."""

    def contest(self, params: Params, key: PRNGKey, use="classifier") -> TwoSided:
        manifold = self.spanner.bind(params.spanner)
        classify = self.classify(params, key, use)
        return TwoSided(self.spec, manifold, classify)

    def begin(self, params: Params, key: PRNGKey, eta: Scalar) -> LatentClimb:
        del eta
        starts = pair_starts(self.spec, self.spanner.bind(params.spanner), key)
        return jax.vmap(self.spec.ascent.begin)(starts)

    def step(
        self, params: Params, key: PRNGKey, eta: Scalar, climbs: LatentClimb
    ) -> LatentClimb:
        contest = self.contest(params, key)
        return self.spec.moved(contest, contest.manifold, eta, climbs)

    def finish(
        self,
        params: Params,
        key: PRNGKey,
        eta: Scalar,
        climbs: LatentClimb,
        steps: Int[Array, ""],
    ) -> Pair:
        del steps
        contest = self.contest(params, key)
        judge = self.contest(params, key, "evaluation")
        return pair_of(self.spec, contest, judge, eta, climbs)


@dataclasses.dataclass(frozen=True)
class _NeighbourSearch(_Search):
    """Of an image of the range near a given one."""

    def contest(
        self, params: Params, key: PRNGKey, example: _Example, use="classifier"
    ) -> OneSided:
        manifold = self.spanner.bind(params.spanner)
        classify = self.classify(params, key, use)
        image, label, _ = example
        return OneSided(self.spec, manifold, classify, image, label)

    def begin(self, params: Params, key: PRNGKey, example: _Example) -> LatentClimb:
        manifold = self.spanner.bind(params.spanner)
        starts = neighbour_starts(self.spec, manifold, example.image, key)
        return jax.vmap(self.spec.ascent.begin)(starts)

    def step(
        self, params: Params, key: PRNGKey, example: _Example, climbs: LatentClimb
    ) -> LatentClimb:
        contest = self.contest(params, key, example)
        return self.spec.moved(contest, contest.manifold, example.bound, climbs)

    def finish(
        self,
        params: Params,
        key: PRNGKey,
        example: _Example,
        climbs: LatentClimb,
        steps: Int[Array, ""],
    ) -> Neighbour:
        del steps
        contest = self.contest(params, key, example)
        judge = self.contest(params, key, example, "evaluation")
        return neighbour_of(self.spec, contest, judge, example.bound, climbs)
