"""The region an attack may search: the ball around an image, inside the box [0, 1]."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import Image, Scalar


def projection(
    image: Image, epsilon: float | Scalar, norm: Norm
) -> Callable[[Image], Image]:
    """Returns the map of any image into the ball around `image` and into [0, 1].

    For `linf` and `l1` it is the exact projection onto the intersection; for `l2` onto
    the ball, then onto the box, which stays in the ball since `image` is in the box.
    Rounding never leaves the ball: the bounds are rounded towards `image`.  For `l0`
    and `pixels` the largest changes are kept, of pixels by their sum over the channels.

    Args:
      image: pixels in [0, 1].
      epsilon: the radius.
      norm: the ball's norm.
    """
    if norm == "linf":
        lower, upper = image - epsilon, image + epsilon
        lower = jnp.where(image - lower > epsilon, jnp.nextafter(lower, image), lower)
        upper = jnp.where(upper - image > epsilon, jnp.nextafter(upper, image), upper)
        lower, upper = jnp.maximum(lower, 0), jnp.minimum(upper, 1)
        return lambda candidate: jnp.clip(candidate, lower, upper)

    if norm == "l1":
        return lambda candidate: _projected_l1(image, candidate - image, epsilon)

    if norm in ("l0", "pixels"):

        def keep(candidate: Image) -> Image:
            channels = image.shape[-1] if norm == "pixels" else 1
            change = jnp.abs(candidate - image).reshape(-1, channels).sum(-1)
            kept = largest(change, jnp.floor(epsilon))
            kept = jnp.broadcast_to(kept[:, None], (len(kept), channels))
            return jnp.where(
                kept.reshape(image.shape), jnp.clip(candidate, 0, 1), image
            )

        return keep

    # Writing a pixel rounds it by at most eps / 4; the radius makes room for that.
    rounding = norms.norm(jnp.full_like(image, jnp.finfo(image.dtype).eps / 4), norm)
    radius = jnp.maximum(epsilon - rounding, 0)

    def project(candidate: Image) -> Image:
        delta = norms.project_ball(candidate - image, radius, norm)
        return jnp.clip(image + delta, 0, 1)

    return project


def largest(
    values: Float[Array, " n"], count: Int[Array, ""] | Scalar
) -> Bool[Array, " n"]:
    """Returns which values are among the `count` largest; of equal ones the first."""
    return jnp.argsort(jnp.argsort(-values)) < count


def inwards(gradient: Image, image: Image) -> Image:
    """Returns the gradient, 0 where it leads from the box's faces outwards.

    Args:
      gradient: of what is climbed.
      image: pixels in [0, 1].
    """
    outwards = ((image <= 0) & (gradient < 0)) | ((image >= 1) & (gradient > 0))
    return jnp.where(outwards, 0, gradient)


def sparse_inwards(gradient: Image, image: Image, count: int | Int[Array, ""]) -> Image:
    """Returns an l1 step for the entries of largest gradient that the box lets move.

    Entries that the box holds, and of a gradient as large, are pushed on against it:
    the projection onto the ball would else take them back into the box.

    Args:
      gradient: of what is climbed.
      image: pixels in [0, 1].
      count: of the entries that move, 1 or more; may be traced.
    """
    held = jnp.where(gradient > 0, image >= 1, image <= 0)
    direction = norms.sparse_direction(jnp.where(held, 0, gradient), count)
    size = jnp.abs(gradient)
    least = jnp.min(jnp.where(direction != 0, size, jnp.inf))
    pushed = jnp.sign(gradient) * jnp.max(jnp.abs(direction))
    return jnp.where(held & (size >= least), pushed, direction)


def _projected_l1(image: Image, delta: Image, epsilon: float | Scalar) -> Image:
    """Returns the point of the l1 ball and of the box nearest to `image + delta`.

    Every pixel's change is shortened by one and the same amount, the multiplier of
    the ball's constraint, and cut off at the box; nothing is shortened where the box
    alone suffices.  The changes' sum falls with the multiplier, piece by piece
    linearly: bisection finds the piece, to the last bit of a pixel, and interpolation
    the point on it, so that all images cost the same.
    """
    # The sum of n changes is rounded by less than this share of it.
    precision = jnp.finfo(image.dtype)
    radius = epsilon * (1 - precision.eps * image.size**0.5)
    wanted = jnp.abs(delta)
    room = jnp.where(delta > 0, 1 - image, image)

    def changes(multiplier: Scalar) -> Image:
        return jnp.minimum(jnp.maximum(wanted - multiplier, 0), room)

    def halved(_, bounds: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = bounds
        middle = (low + high) / 2
        outside = jnp.sum(changes(middle)) > radius
        return jnp.where(outside, middle, low), jnp.where(outside, high, middle)

    start = jnp.zeros((), image.dtype), jnp.max(wanted)
    low, high = jax.lax.fori_loop(0, precision.nmant + 2, halved, start)
    outer, inner = jnp.sum(changes(low)), jnp.sum(changes(high))
    share = (outer - radius) / jnp.where(outer > inner, outer - inner, 1)
    # Where the whole of `delta` is in the ball, `outer` is its sum and `low` is 0.
    multiplier = low + jnp.clip(share, 0, 1) * (high - low)
    change = changes(multiplier)
    # Large steps leave the multiplier fewer digits than the ball asks for.
    total = jnp.sum(change)
    change *= jnp.where(total > radius, radius / jnp.where(total > 0, total, 1), 1)
    moved = jnp.clip(image + jnp.sign(delta) * change, 0, 1)
    further = jnp.abs(moved - image) > change
    return jnp.where(further, jnp.nextafter(moved, image), moved)
