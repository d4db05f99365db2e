"""Jacobian-based saliency map attack: the two pixels that matter most, step by step."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks import losses
from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    registry,
)
from robust_manifold.core.norms import Norm, norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, Label, Logits, PRNGKey, Scalar

_ROWS = 64
"""Pixels of which the saliency with every other one is computed at once."""

Flat = Float[Array, " pixels"]


class JSMAState(NamedTuple):
    """The way to one class."""

    image: Image
    target: Label
    logits: Logits
    ended: Bool[Array, ""]


class PixelPair(NamedTuple):
    """Two pixels, by their places in the flat image."""

    first: Int[Array, ""]
    second: Int[Array, ""]
    saliency: Scalar
    """Negative where no pair is salient."""


@registry.register("jsma")
@dataclasses.dataclass(frozen=True)
class JSMA(SteppedAttack[JSMAState]):
    """Jacobian-based saliency map attack (Papernot et al. 2016, algorithms 2 and 3).

    Every step moves two pixels by `theta`: those with the largest product of how much
    they raise the target's logit and lower the sum of the others', both of which they
    must.  A pixel at the end of the box, or changed as often as `theta` fits into the
    box, takes no further part.  Saliency is taken of the logits; a factor on them
    changes no choice.  Classes masked by -inf have no part in the sum.

    What it can reach is less than other attacks can.  All pixels move in the direction
    of `theta`: raised by default, so that a class which only darker pixels lead to is
    never reached; `both_ways` lifts that.  No more than `gamma` of the pixels change,
    but two always may.  And where there are many classes, the sum of the others says
    little of the label, the one logit that has to fall: expect fewer successes.

    Untargeted, the attack makes for the likeliest other class of the clean image, or
    for every other class, of which the image with the fewest changed pixels counts.
    """

    family: ClassVar[Family] = "minimum norm"
    title: ClassVar[str] = "Jacobian-based saliency map"
    source: ClassVar[str] = "Papernot et al. 2016"
    needs_classes: ClassVar[bool] = True
    norm: Norm = dataclasses.field(default="l0", init=False, repr=False)
    ends_early: ClassVar[bool] = True

    theta: float = 1.0
    """By how much a pixel moves in a step: -1 to 1, but not 0.  Above 0 pixels are
    raised, below lowered: the paper has both forms."""
    gamma: float = 0.145
    """Share of the pixels that may be changed; two may always be."""
    steps: int = 1000
    """Steps at most; small `theta` needs more of them."""
    classes: Literal["nearest", "all"] = "nearest"
    """Untargeted, the classes to make for."""
    both_ways: bool = False
    """Raise or lower each pair, as is more salient (Wiyatno and Xu 2018, "maximal"
    JSMA); a changed pixel goes on in its own direction alone."""

    def __post_init__(self):
        fits = 0 < abs(self.theta) <= 1
        check(fits, self, "theta", "a number from -1 to 1, but not 0")
        check(0 < self.gamma <= 1, self, "gamma", "a number above 0, at most 1")
        check(is_whole(self.steps, 1), self, "steps", "a whole number, 1 or more")
        known = ("nearest", "all")
        check(self.classes in known, self, "classes", " or ".join(known))

    @property
    def iterations(self) -> int:
        """Steps at most."""
        return self.steps

    def passes(self, classes: int) -> Passes:
        """Returns the cost: for each class made for, two gradients a step."""
        climbs = classes - 1 if self.classes == "all" else 1
        return Passes(
            begin=Queries(1, 0),
            step=Queries(climbs, 2 * climbs),
            finish=Queries(climbs, 0),
        )

    def for_classes(self, classes: int, targeted: bool = False) -> "JSMA":
        """Returns the attack itself: a target leaves nothing to choose."""
        if targeted and self.classes == "all":
            return dataclasses.replace(self, classes="nearest")
        return self

    def begin(self, problem: Problem, key: PRNGKey) -> JSMAState:
        """Returns a climb for each class made for, along a leading axis."""
        logits = problem.classify(problem.image)
        places = jnp.arange(logits.size)
        if problem.targeted:
            targets = problem.label[None]
        elif self.classes == "all":
            targets = places[:-1] + (places[:-1] >= problem.label)
        else:
            targets = jnp.argmax(losses.others(logits, problem.label))[None]
        there = problem.succeeds(logits)
        return jax.vmap(lambda target: JSMAState(problem.image, target, logits, there))(
            targets.astype(jnp.int32)
        )

    def step(self, problem: Problem, key: PRNGKey, state: JSMAState) -> JSMAState:
        """Returns every climb two pixels on."""
        return jax.vmap(lambda climb: self.climb(problem, climb))(state)

    def climb(self, problem: Problem, climb: JSMAState) -> JSMAState:
        """Returns one climb two pixels on; it ends with success or for lack of them."""
        logits, raised, lowered = _slopes(problem, climb)
        ended = climb.ended | problem.succeeds(logits)
        thetas = (self.theta, -self.theta) if self.both_ways else (self.theta,)
        pairs = []
        for theta in thetas:
            sign = 1 if theta > 0 else -1
            domain = self._domain(problem.image, climb.image, sign)
            pairs.append(_best_pair(sign * raised, sign * lowered, domain))
        choices: PixelPair = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)
        best = jnp.argmax(choices.saliency)
        pair: PixelPair = jax.tree.map(lambda leaf: leaf[best], choices)
        ended |= pair.saliency < 0
        flat = climb.image.reshape(-1)
        chosen = jnp.stack([pair.first, pair.second])
        theta = jnp.asarray(thetas, flat.dtype)[best]
        # Not `add`: of a single pixel both places are one.
        moved = flat.at[chosen].set(flat[chosen] + theta)
        moved = jnp.clip(moved, 0, 1).reshape(climb.image.shape)
        image = jnp.where(ended, climb.image, moved)
        return JSMAState(image, climb.target, logits, ended)

    def ended(self, state: JSMAState) -> Bool[Array, ""]:
        """Returns whether all climbs have ended."""
        return state.ended.all()

    def finish(self, problem: Problem, key: PRNGKey, state: JSMAState) -> Image:
        """Returns the adversarial image with the fewest changed pixels, if any."""
        adversarial = jax.vmap(lambda x: problem.succeeds(problem.classify(x)))(
            state.image
        )
        changed = jax.vmap(lambda x: norm(x - problem.image, "l0"))(state.image)
        best = jnp.argmin(jnp.where(adversarial, changed, jnp.inf))
        return jnp.where(adversarial[best], state.image[best], problem.image)

    def _domain(self, clean: Image, image: Image, sign: int) -> Bool[Array, " pixels"]:
        """Returns which pixels may still be moved upwards, or downwards."""
        if sign > 0:
            room = (image < 1) & (image >= clean)
        else:
            room = (image > 0) & (image <= clean)
        changed = image != clean
        # One pair may move, or of a small image nothing ever would.
        full = jnp.sum(changed) + 2 > max(self.gamma * image.size, 2)
        return (room & (changed | ~full)).reshape(-1)


def _slopes(problem: Problem, climb: JSMAState) -> tuple[Logits, Flat, Flat]:
    """Returns the logits, and the gradients of the target's and of all others' sum."""
    logits, pull_back = jax.vjp(problem.classify, climb.image)
    possible = losses.possible(logits)
    target = (jnp.arange(logits.size) == climb.target).astype(logits.dtype)
    others = jnp.where(possible, 1 - target, 0)
    # One of two logits may be constant: only their difference has a meaning.
    two = jnp.sum(possible) == 2
    weights = [
        jnp.where(two, one - other, one)
        for one, other in ((target, others), (others, target))
    ]
    slopes = [pull_back(weight)[0].reshape(-1) for weight in weights]
    raised, lowered = map(losses.finite, slopes)
    return logits, raised, lowered


def _best_pair(
    raised: Flat, lowered: Flat, domain: Bool[Array, " pixels"]
) -> PixelPair:
    """Returns the most salient pair of pixels of the domain.

    Args:
      raised: how fast each pixel raises the target's logit.
      lowered: how fast it raises the sum of the others.
      domain: pixels to choose from.
    """
    places = jnp.arange(raised.size)

    def row(first: Int[Array, ""]) -> tuple[Array, Array]:
        gain, loss = raised + raised[first], lowered + lowered[first]
        # The pixel of an image that has but one is its own pair.
        other = (places != first) | (raised.size == 1)
        allowed = domain & domain[first] & other
        salient = allowed & (gain > 0) & (loss < 0)
        saliency = jnp.where(salient, -gain * loss, -1)
        second = jnp.argmax(saliency)
        return saliency[second], second

    saliency, seconds = jax.lax.map(row, places, batch_size=_ROWS)
    first = jnp.argmax(saliency)
    return PixelPair(first, seconds[first], saliency[first])
