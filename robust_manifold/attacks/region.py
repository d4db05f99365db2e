"""The region an attack may search: the ball around an image, inside the box [0, 1]."""

from collections.abc import Callable

import jax.numpy as jnp

from robust_manifold.core import norms
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import Image


def projection(image: Image, epsilon: float, norm: Norm) -> Callable[[Image], Image]:
    """Returns the map of any image into the ball around `image` and into [0, 1].

    For `linf` it is the exact projection onto the intersection; otherwise onto the
    ball, then onto the box, which stays in the ball since `image` is in the box.
    Rounding never leaves the ball: the bounds are rounded towards `image`.

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

    # Writing a pixel rounds it by at most eps / 4; the radius makes room for that.
    rounding = norms.norm(jnp.full_like(image, jnp.finfo(image.dtype).eps / 4), norm)
    radius = jnp.maximum(epsilon - rounding, 0)

    def project(candidate: Image) -> Image:
        delta = norms.project_ball(candidate - image, radius, norm)
        return jnp.clip(image + delta, 0, 1)

    return project
