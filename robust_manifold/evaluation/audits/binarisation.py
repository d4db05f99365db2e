"""The active test of an attack: an adversarial image is there, is it found?

Around each image points of the ball are drawn, and one on its surface.  A linear
read-out of the network's features tells that one from all others, and a long search
drives it as far as it goes: it is planted.  The second of two classes begins shortly
before it.  So an image of that class is known to lie in the ball, and an attack that
finds none is no evidence for the network itself either.

After Zimmermann et al. 2022, "Increasing confidence in adversarial robustness
evaluations", NeurIPS.  There the drawn point itself is planted (`plant=0`), and the
second class begins right before it (`closeness=0.999`): that finds gradients that are
masked, but on a smooth network a single step passes.  What is planted here asks an
attack to come nine tenths as far as a long one.
"""

import dataclasses
import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Bool, Float

from robust_manifold import attacks
from robust_manifold.attacks import Attack, Expectation
from robust_manifold.attacks.contract import output_of
from robust_manifold.attacks.random import Apply, outputs_of
from robust_manifold.core import keys, norms
from robust_manifold.core.checks import checked_images, checked_key
from robust_manifold.core.criterion import Criterion
from robust_manifold.core.errors import UsageError
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import is_whole
from robust_manifold.core.types import Image, Params, PRNGKey, Scalar
from robust_manifold.evaluation.audits.check import Check, judged, percent, skipped

ACTIVE = "active test"

CLOSENESS = 0.9
"""Where the second class begins, on the way from the other points to the planted."""
PASSING = 0.95
"""Share of the images on which a sound attack succeeds, at least."""
TOO_EASY = 0.5
"""Share of the images on which random points succeed, above which it says nothing."""
INNER_RADIUS = 0.95
"""Of the ball in which the other points are drawn, as a share of the budget."""
_FEWEST = 4
"""Images without which nothing is said."""
_LEAST_GAP = 1e-3
"""Of the features' spread; a smaller gap may be lost in rounding."""


class Readout(NamedTuple):
    """Two classes told apart by the features of one image's ball.

    Attributes:
      weights: [d], of the features.
      origin: [d], the planted point's features, where the lead is `bias`.
      bias: a number, how far the planted point lies beyond the boundary.
    """

    weights: Any
    origin: Any
    bias: Any

    def lead(self, features: Any) -> Any:
        """Returns the second logit less the first, of features [..., d]."""
        return (features - self.origin) @ self.weights + self.bias


@dataclasses.dataclass(frozen=True)
class Planted(Criterion):
    """The second class of a `Readout`, which is the target, is predicted.

    Attributes:
      climbs: the loss of the two logits; the margin is the lead itself.
    """

    climbs: Literal["margin", "ce"] = "margin"

    def loss(self, output: Array, target: Readout) -> Scalar:
        """Returns the loss of the two logits, less what it is on the boundary."""
        lead = target.lead(output.reshape(-1))
        if self.climbs == "margin":
            return lead
        return jax.nn.softplus(lead) - math.log(2)

    def succeeds(self, output: Array, target: Readout) -> Bool[Array, ""]:
        """Returns whether the second class leads."""
        return target.lead(output.reshape(-1)) > 0

    def check(self, output: jax.ShapeDtypeStruct, targets: Any, n: int) -> Any:
        """Returns the read-outs as they are: no user hands in any."""
        del output, n
        return targets


class BinarisationResult(NamedTuple):
    """How often an attack finds what was planted.

    Attributes:
      kept: for which images a planted point could be told from all others; of the
        rest nothing is known.
      found: of these, where the attack found an image of the second class.
      at_random: of these, where one of as many random points is one.
    """

    kept: Bool[np.ndarray, " n"]
    found: Bool[np.ndarray, " n"]
    at_random: Bool[np.ndarray, " n"]

    @property
    def rate(self) -> float:
        """The share of the kept images on which the attack succeeds; NaN of none."""
        return _share(self.found, self.kept)

    @property
    def random_rate(self) -> float:
        """The same of random points: high where the test is too easy to say much."""
        return _share(self.at_random, self.kept)


def binarisation_test(
    attack: Attack,
    features: Apply,
    params: Params,
    images: Any,
    *,
    key: PRNGKey,
    fixed_keys: Any = None,
    view: Apply | None = None,
    leads: Any = None,
    inner: int = 256,
    plant: int = 200,
    closeness: float = CLOSENESS,
) -> BinarisationResult:
    """Returns on which images an attack finds an adversarial image that is there.

    Args:
      attack: with a budget.  One that climbs the cross-entropy climbs that of the two
        classes, every other one their margin: ratios and aimed losses need more
        classes than two.
      features: `features(params, image) -> features`, of any shape, for one image in
        [0, 1]: the input of a network's last layer (`Model.features`), or else its
        logits; behind a defence those of the purified image.  For a random one an
        `attacks.Expectation`, which always has one key an image.
      params: of `features`.
      images: [n, height, width, channels], floats in [0, 1].
      key: the root of all randomness.
      fixed_keys: [n] keys of a random one; by default drawn here.
      view: what the attack, and the planting search, differentiate in place of
        `features`.
      leads: [n], how far the first class leads on each clean image, as far as the
        network's own does for instance; 1 by default.  Attacks that climb the
        cross-entropy depend on it.
      inner: points that are drawn around each image.
      plant: steps of the search that plants; 0 plants the drawn point itself.
      closeness: where the second class begins, on the way from the other points (0) to
        the planted one (1).

    Raises:
      UsageError: for an attack without a budget, or arguments out of range.
    """
    checked_key(key)
    images = checked_images(images)
    _check(attack, inner, plant, closeness)
    shape = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    output_of(features, params, shape, Planted(), "features")
    fixed: Any = np.full(len(images), None)
    if isinstance(features, Expectation):
        own = keys.per_example(keys.stream(key, "defence"), np.arange(len(images)))
        fixed = own if fixed_keys is None else fixed_keys
    ball = _Ball(features, params, view, attack.norm, float(attack.budget or 0))
    draws = keys.per_example(keys.stream(key, "points"), np.arange(len(images)))
    drawn = [
        _drawn(ball, image, fixed[place], draws[place], inner)
        for place, image in enumerate(images)
    ]
    kept = np.array([each is not None for each in drawn])
    found, at_random = np.zeros(len(images), bool), np.zeros(len(images), bool)
    if not kept.any():
        return BinarisationResult(kept, found, at_random)
    told = jax.tree.map(lambda *leaves: np.stack(leaves), *filter(None, drawn))
    leads = np.ones(len(images)) if leads is None else np.asarray(leads)
    known = fixed[kept] if isinstance(features, Expectation) else None
    readouts = _planted(
        ball, images[kept], told, key, plant, closeness, leads[kept], known
    )
    for place, readout in zip(
        np.flatnonzero(kept), zip(*readouts, strict=True), strict=True
    ):
        points = ball.draw(
            jax.random.fold_in(draws[place], 2), images[place], inner, 1.0
        )
        seen = ball.features_of(points, fixed[place])
        at_random[place] = bool((Readout(*readout).lead(seen) > 0).any())
    made = ball.attacked(
        _of_one_loss(attack),
        images[kept],
        readouts,
        key=keys.stream(key, "attack"),
        criterion=_criterion(attack),
        fixed_keys=known,
    )
    found[kept] = np.asarray(made.success)
    return BinarisationResult(kept, found, at_random)


def leads_of(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, " n"]:
    """Returns how far each image's first class is ahead of the next; 1 if they tie."""
    ordered = np.sort(logits, axis=-1)
    gaps = ordered[:, -1] - ordered[:, -2]
    return np.where(np.isfinite(gaps) & (gaps > 0), gaps, 1.0)


def planted_found(
    result: BinarisationResult, attack: str, read: str = "the features"
) -> Check:
    """Returns whether an attack finds what was planted.

    One image alone that it misses is luck.

    Args:
      result: of `binarisation_test`.
      attack: as the sentence says it.
      read: what the second class was read from.
    """
    n, kept = len(result.kept), int(result.kept.sum())
    if kept < _FEWEST:
        return skipped(
            ACTIVE, f"of {n} images {kept} have a plane in {read} to plant behind"
        )
    missed = kept - int(result.found[result.kept].sum())
    told = (
        f"An adversarial image was planted in the balls of {kept} of {n} images, "
        f"behind a plane in {read}: {attack} found one in {percent(result.rate)}, "
        f"random points in {percent(result.random_rate)}"
    )
    if result.rate < PASSING and missed > 1:
        return judged(
            True,
            ACTIVE,
            result.rate,
            f"{told}. What it does not find need not be absent.",
        )
    if result.random_rate > TOO_EASY:
        return skipped(ACTIVE, "random points find what was planted as well")
    return judged(False, ACTIVE, result.rate, f"{told}.")


class _Ball(NamedTuple):
    """What is attacked, and in which ball around each image."""

    features: Apply
    params: Params
    view: Apply | None
    norm: Norm
    epsilon: float

    def draw(
        self, key: PRNGKey, image: np.ndarray, count: int, radius: float
    ) -> np.ndarray:
        """Returns points of the ball; `radius` is a share of the budget."""
        split = jax.random.split(key, count)
        return np.asarray(_inside(split, image, radius * self.epsilon, self.norm))

    def on_surface(self, key: PRNGKey, image: np.ndarray) -> np.ndarray:
        """Returns a point of the ball's surface: in linf one of its corners."""
        return np.asarray(_outermost(key, image, self.epsilon, self.norm))

    def features_of(self, points: np.ndarray, key: Any) -> np.ndarray:
        """Returns the features [n, d] of points around one image, whose key it is."""
        fixed = None if key is None else jnp.broadcast_to(key, (len(points),))
        found = outputs_of(
            self.features,
            self.params,
            points,
            key=jax.random.key(0),
            fixed_keys=fixed,
        )
        return found.reshape(len(points), -1)

    def attacked(
        self, attack: Attack, images: np.ndarray, readouts: Any, **options: Any
    ) -> attacks.Crafted:
        """Returns what an attack makes of images under their read-outs."""
        return attacks.craft(
            attack,
            self.features,
            self.params,
            images,
            readouts,
            view=self.view,
            **options,
        )


@functools.partial(jax.jit, static_argnames="norm")
def _inside(split, image, radius, norm):
    def draw(key):
        return _moved(image, radius * norms.uniform_in_ball(key, image, norm))

    return jax.vmap(draw)(split)


@functools.partial(jax.jit, static_argnames="norm")
def _outermost(key, image, radius, norm):
    move = norms.uniform_in_ball(key, image, norm)
    if norm == "linf":
        move = jnp.sign(move)
    return _moved(image, radius * move / norms.norm(move, norm))


def _moved(image: Image, move: Image) -> Image:
    """Returns the image, moved; pixels that would leave [0, 1] move the other way."""
    outside = (image + move < 0) | (image + move > 1)
    return jnp.clip(image + jnp.where(outside, -move, move), 0, 1)


class _Drawn(NamedTuple):
    """The points that are drawn around one image, and what parts them.

    Attributes:
      point: the one on the surface.
      direction: a read-out that grows away from the others; 0 on the point.
      nearest: of the others, the most that it gives.
      clean: what it gives on the image itself.
    """

    point: np.ndarray
    direction: Readout
    nearest: np.ndarray
    clean: np.ndarray


def _drawn(
    ball: _Ball, image: np.ndarray, fixed: Any, key: PRNGKey, inner: int
) -> _Drawn | None:
    """Returns points around one image; None where no plane parts them."""
    first, second = (jax.random.fold_in(key, place) for place in range(2))
    point = ball.on_surface(second, image)
    others = ball.draw(first, image, inner, INNER_RADIUS)
    seen = ball.features_of(np.concatenate([image[None], others, [point]]), fixed)
    weights = widest_gap(seen[:-1], seen[-1])
    if weights is None:
        return None
    weights = weights.astype(image.dtype)
    direction = Readout(weights, seen[-1], np.zeros((), image.dtype))
    found = direction.lead(seen[:-1])
    return _Drawn(point, direction, found.max(), found[0])


def _planted(
    ball: _Ball,
    images: np.ndarray,
    drawn: _Drawn,
    key: PRNGKey,
    steps: int,
    closeness: float,
    leads: np.ndarray,
    fixed: Any,
) -> Readout:
    """Returns the read-outs of images whose points are drawn."""
    origin, far = drawn.direction.origin, np.zeros(len(images), images.dtype)
    if steps:
        search = attacks.APGD(ball.epsilon, ball.norm, steps=steps)
        made = ball.attacked(
            search,
            images,
            drawn.direction,
            key=keys.stream(key, "plant"),
            criterion=Planted(),
            starts=drawn.point,
            fixed_keys=fixed,
        )
        reached = np.asarray(made.logits).reshape(origin.shape)
        gained = np.einsum("nd,nd->n", reached - origin, drawn.direction.weights)
        # A view may have led astray.
        further = gained > 0
        origin = np.where(further[:, None], reached, origin)
        far = np.where(further, gained, far)
    beyond = (1 - closeness) * (far - drawn.nearest)
    scale = leads / (far - drawn.clean - beyond)
    weights = scale[:, None] * drawn.direction.weights
    return Readout(
        *(np.asarray(each, images.dtype) for each in (weights, origin, scale * beyond))
    )


def widest_gap(
    others: Float[np.ndarray, "n d"], planted: Float[np.ndarray, " d"]
) -> Float[np.ndarray, " d"] | None:
    """Returns the direction along which one point is farthest from all others.

    It is the normal of the widest gap (the hard-margin support vector machine): from
    the nearest point of the others' convex hull to the planted one.

    Returns:
      A unit vector, or None where the point lies in the hull, or next to it.
    """
    spokes = np.asarray(others - planted, float)
    spread = np.sqrt((spokes**2).sum(1).mean())
    if not np.isfinite(spread) or spread == 0:
        return None
    # The nearest point of the hull is a mean of the others with weights that are all
    # 0 or more.  The least squares of (mean, sum of weights - 1) have it, too, but for
    # a common factor.
    triangle = np.linalg.qr(spokes.T / spread, mode="r")
    system = np.concatenate([triangle, np.ones((1, len(others)))])
    shares, _ = scipy.optimize.nnls(system, np.append(np.zeros(len(triangle)), 1.0))
    nearest = shares @ spokes / shares.sum()
    size = np.linalg.norm(nearest)
    if size <= _LEAST_GAP * spread:
        return None
    weights = -nearest / size
    return weights if np.max(spokes @ weights) < 0 else None


def _of_one_loss(attack: Any) -> Any:
    """Returns the attack with its default loss: the criterion has the other."""
    if not hasattr(attack, "loss"):
        return attack
    default = next(f.default for f in dataclasses.fields(attack) if f.name == "loss")
    return dataclasses.replace(attack, loss=default)


def _criterion(attack: Any) -> Planted:
    return Planted("ce" if getattr(attack, "loss", None) == "ce" else "margin")


def _check(attack: Any, inner: Any, plant: Any, closeness: Any) -> None:
    if not isinstance(attack, Attack) or attack.budget is None:
        raise UsageError(
            f"attack is {attack!r}; allowed: an attack with a budget, such as "
            "APGD(epsilon=0.1)."
        )
    if attack.norm not in ("linf", "l2", "l1"):
        raise UsageError(
            f"attack is measured in {attack.norm}; allowed: linf, l2 and l1."
        )
    for name, value, least in (("inner", inner, 2), ("plant", plant, 0)):
        if not is_whole(value, least):
            raise UsageError(
                f"{name} is {value!r}; allowed: a whole number, {least} or more."
            )
    if not 0 < closeness < 1:
        raise UsageError(f"closeness is {closeness!r}; allowed: between 0 and 1.")


def _share(holds: np.ndarray, kept: np.ndarray) -> float:
    return float(holds[kept].mean()) if kept.any() else math.nan
