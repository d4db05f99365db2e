"""Norms, balls and steepest directions for ONE perturbation of any shape.

All norms are plain: over every entry, never a mean.
"""

from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from robust_manifold.core import keys
from robust_manifold.core.types import PRNGKey, Scalar

Norm: TypeAlias = Literal["linf", "l2", "l1", "l0", "pixels"]
NORMS: tuple[Norm, ...] = get_args(Norm)


def norm(delta: Float[Array, "..."], kind: Norm) -> Scalar:
    """Returns the norm `kind` of the whole array.

    `l0` counts non-zero entries, `pixels` those of an image [height, width, channels]
    of which any channel is not zero.
    """
    match kind:
        case "linf":
            return jnp.max(jnp.abs(delta))
        case "l2":
            return jnp.sqrt(jnp.sum(delta**2))
        case "l1":
            return jnp.sum(jnp.abs(delta))
        case "l0":
            return jnp.sum(delta != 0).astype(delta.dtype)
        case "pixels":
            return jnp.sum(jnp.any(delta != 0, axis=-1)).astype(delta.dtype)
    raise ValueError(f"norm is {kind!r}; allowed: {', '.join(NORMS)}.")


def project_ball(
    delta: Float[Array, "*shape"], epsilon: float | Scalar, kind: Norm
) -> Float[Array, "*shape"]:
    """Returns the point of the ball of radius `epsilon` (pixels) nearest to `delta`."""
    match kind:
        case "linf":
            return jnp.clip(delta, -epsilon, epsilon)
        case "l2":
            length = norm(delta, "l2")
            # optax's projection is 0/0 at the centre of a ball of radius 0.
            shrink = epsilon / jnp.where(length > 0, length, 1)
            return jnp.where(length > epsilon, shrink * delta, delta)
        case "l1":
            radius = jnp.where(epsilon > 0, epsilon, 1)
            # Optax mixes types where JAX has wider ones than that of `delta`.
            widest = jax.dtypes.canonicalize_dtype(jnp.float64)
            projected = optax.projections.projection_l1_ball(
                delta.astype(widest), radius.astype(widest)
            )
            return jnp.where(epsilon > 0, projected.astype(delta.dtype), 0)
    raise ValueError(f"no projection for norm {kind!r}; allowed: linf, l2, l1.")


def uniform_in_ball(
    key: PRNGKey, like: Float[Array, "*shape"], kind: Norm
) -> Float[Array, "*shape"]:
    """Returns a uniform draw from the unit ball of a norm, shaped as `like`."""
    shape, dtype = like.shape, like.dtype
    if kind == "linf":
        return keys.drawn(jax.random.uniform, key, shape, dtype, minval=-1.0)
    direction_key, radius_key = jax.random.split(key)
    match kind:
        case "l2":
            normal = keys.drawn(jax.random.normal, direction_key, shape, dtype)
            direction = steepest_direction(normal, "l2")
        case "l1":
            # Laplace draws over their l1 norm are uniform on the ball's surface.
            laplace = keys.drawn(jax.random.laplace, direction_key, shape, dtype)
            direction = laplace / norm(laplace, "l1")
        case _:
            raise ValueError(f"no uniform draw for norm {kind!r}.")
    # The share of the ball within radius r is r**n.
    share = jax.random.uniform(radius_key, dtype=dtype)
    return direction * share ** (1 / like.size)


def steepest_direction(
    gradient: Float[Array, "*shape"], kind: Norm
) -> Float[Array, "*shape"]:
    """Returns the unit step of norm `kind` along which the gradient rises fastest.

    A zero gradient gives a zero step: it is data, not an error.  The gradient is
    divided by its largest entry first, so that no square underflows.
    """
    match kind:
        case "linf":
            return jnp.sign(gradient)
        case "l2":
            largest = jnp.max(jnp.abs(gradient))
            scaled = gradient / jnp.where(largest > 0, largest, 1)
            length = jnp.sqrt(jnp.sum(scaled**2))
            return scaled / jnp.where(length > 0, length, 1)
        case "l1":
            flat = gradient.reshape(-1)
            top = jnp.argmax(jnp.abs(flat))
            step = jnp.zeros_like(flat).at[top].set(jnp.sign(flat[top]))
            return step.reshape(gradient.shape)
    raise ValueError(f"no steepest step for norm {kind!r}; allowed: linf, l2, l1.")


def sparse_direction(
    gradient: Float[Array, "*shape"], count: int | Int[Array, ""]
) -> Float[Array, "*shape"]:
    """Returns a step of l1 norm 1, spread evenly over the entries of largest gradient.

    Along it the gradient rises more slowly than along the steepest direction, which
    moves one entry, but many entries move at once (Tramer and Boneh 2019).  Entries
    that tie with the last one move too; those with a zero gradient never do.

    Args:
      gradient: of any shape.
      count: of the entries that move, 1 or more; may be traced.
    """
    size = jnp.abs(gradient)
    least = jnp.sort(size, axis=None)[gradient.size - count]
    direction = jnp.where(size >= least, jnp.sign(gradient), 0)
    moved = norm(direction, "l1")
    return direction / jnp.where(moved > 0, moved, 1)
