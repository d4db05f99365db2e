"""Linearised decision boundaries, and the shortest way to one of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks import losses
from robust_manifold.attacks.base import Problem
from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import Image, Logits, Scalar

_DUAL: dict[Any, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}


class Boundaries(NamedTuple):
    """Differences of logits around one image; each is above 0 beyond its boundary."""

    logits: Logits
    values: Float[Array, " boundaries"]
    gradients: Float[Array, "boundaries height width channels"]


class BoxStep(NamedTuple):
    """A step inside the box towards a hyperplane."""

    delta: Image
    reached: Bool[Array, ""]
    """Whether the box holds a point on the hyperplane; if not, the step gets as near
    to it as the box allows."""


def rivals(problem: Problem, logits: Logits) -> Int[Array, " classes"]:
    """Returns all classes, the likeliest first and the label last."""
    return jnp.argsort(-losses.ranked(logits, problem.label), stable=True)


def boundaries(
    problem: Problem, image: Image, others: Int[Array, " others"]
) -> Boundaries:
    """Returns the boundaries to the classes `others`: a forward, a backward for each.

    In a targeted attack it is the one boundary between the label and the class that is
    likeliest among all others.  A class whose logit is not finite, as a masked one's,
    has no boundary: its value is -inf and its gradient 0, so that it is infinitely far
    and no step leads to it.  Elsewhere, entries of a gradient that are not finite
    become 0.
    """
    logits, pull_back = jax.vjp(problem.classify, image)
    own = jax.nn.one_hot(problem.label, logits.size, dtype=logits.dtype)
    if problem.targeted:
        others = rivals(problem, logits)[:1]

    def boundary(other: Int[Array, ""]) -> tuple[Scalar, Image]:
        cotangent = jax.nn.one_hot(other, logits.size, dtype=logits.dtype) - own
        value = logits[other] - logits[problem.label]
        if problem.targeted:
            cotangent, value = -cotangent, -value
        (gradient,) = pull_back(cotangent)
        exists = jnp.isfinite(value)
        gradient = jnp.where(exists, losses.finite(gradient), 0)
        return jnp.where(exists, value, -jnp.inf), gradient

    return Boundaries(logits, *jax.vmap(boundary)(others))


def dual_norm(gradient: Image, norm: Norm) -> Scalar:
    """Returns the most by which a linear function rises along a unit step."""
    scaled, largest = _scaled(gradient)
    return norms.norm(scaled, _DUAL[norm]) * largest


def distance(value: Scalar, gradient: Image, norm: Norm) -> Scalar:
    """Returns the distance to the hyperplane; infinite without a gradient."""
    dual = dual_norm(gradient, norm)
    return jnp.where(dual > 0, jnp.abs(value) / jnp.where(dual > 0, dual, 1), jnp.inf)


def free_step(gradient: Image, gain: Scalar, norm: Norm) -> Image:
    """Returns the shortest step that gains so much, wherever it leads, if any does."""
    dual = dual_norm(gradient, norm)
    length = jnp.where(dual > 0, gain / jnp.where(dual > 0, dual, 1), 0)
    return length * norms.steepest_direction(gradient, norm)


def step(point: Image, gradient: Image, gain: Scalar, norm: Norm) -> BoxStep:
    """Returns the shortest step inside [0, 1] that gains so much.

    Croce and Hein 2020, section 2.2 and appendix: the pixels move at one speed (linf),
    at speeds as their gradients (l2), or one after another (l1), until they meet the
    box or the hyperplane is reached.  Exact.

    Args:
      point: pixels in [0, 1].
      gradient: of the linear function; its scale does not matter if that of `gain`
        is the same.
      gain: by how much the function is to rise, 0 or more.
      norm: `linf`, `l2` or `l1`.
    """
    scaled, largest = _scaled(gradient)
    gain = gain / jnp.where(largest > 0, largest, 1)
    slope = jnp.abs(scaled)
    room = jnp.where(scaled > 0, 1 - point, point) * (slope > 0)
    reached = jnp.sum(slope * room) >= gain
    # Out of reach every pixel moves as far as it can, without a search.
    gain = jnp.where(reached, gain, 0)
    fill = _fill_in_turn if norm == "l1" else _fill_together
    rate = slope if norm == "l2" else (slope > 0).astype(slope.dtype)
    moved = jnp.where(reached, fill(slope, rate, room, gain), room)
    return BoxStep(jnp.sign(scaled) * moved, reached & ((largest > 0) | (gain == 0)))


def _scaled(gradient: Image) -> tuple[Image, Scalar]:
    """Returns the gradient over its largest entry, so that no square underflows."""
    largest = jnp.max(jnp.abs(gradient))
    return gradient / jnp.where(largest > 0, largest, 1), largest


def _fill_together(slope: Image, rate: Image, room: Image, gain: Scalar) -> Image:
    """Returns min(time * rate, room) at the time when slope . moved is the gain."""
    full_at = jnp.where(rate > 0, room / jnp.where(rate > 0, rate, 1), jnp.inf)

    def later(time: Scalar) -> Scalar:
        """Returns the time at which those who still move at `time` make up the gain."""
        full = full_at < time
        left = gain - jnp.sum(jnp.where(full, slope * room, 0))
        speed = jnp.sum(jnp.where(full, 0, slope * rate))
        return jnp.where(speed > 0, left / jnp.where(speed > 0, speed, 1), time)

    # What is gained is concave in time, so Newton's steps from the left never pass the
    # time sought, and end there: each but the last finds a pixel that has become full.
    start = jnp.zeros_like(gain)
    _, time = jax.lax.while_loop(
        lambda times: times[1] > times[0],
        lambda times: (times[1], later(times[1])),
        (start, later(start)),
    )
    return jnp.minimum(time * rate, room)


def _fill_in_turn(slope: Image, rate: Image, room: Image, gain: Scalar) -> Image:
    """Returns the moves of the pixels of the steepest slopes, as few as will do."""
    del rate
    falling, gains = jax.lax.sort(
        (-slope.ravel(), (slope * room).ravel()), num_keys=1, is_stable=True
    )
    last = -falling[jnp.argmax(jnp.cumsum(gains) >= gain)]
    steeper = slope > last
    left = jnp.maximum(gain - jnp.sum(jnp.where(steeper, slope * room, 0)), 0)
    # Pixels of one slope take their turns in their order.
    level = jnp.where(slope == last, slope * room, 0).ravel()
    before = (jnp.cumsum(level) - level).reshape(slope.shape)
    share = (left - before) / jnp.where(last > 0, last, 1)
    turn = jnp.where(slope == last, jnp.clip(share, 0, room), 0)
    return jnp.where(steeper, room, turn)
