"""Norms, balls and steepest directions for ONE perturbation of any shape.

All norms are plain: over every entry, never a mean.
"""

from typing import Literal, TypeAlias, get_args

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from robust_manifold.core.types import Scalar

Norm: TypeAlias = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[str, ...] = get_args(Norm)


def norm(delta: Float[Array, "..."], kind: Norm) -> Scalar:
    """Returns the norm `kind` of the whole array; `l0` counts non-zero entries."""
    match kind:
        case "linf":
            return jnp.max(jnp.abs(delta))
        case "l2":
            return jnp.sqrt(jnp.sum(delta**2))
        case "l1":
            return jnp.sum(jnp.abs(delta))
        case "l0":
            return jnp.sum(delta != 0).astype(delta.dtype)
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
            projected = optax.projections.projection_l1_ball(delta, radius)
            return jnp.where(epsilon > 0, projected, 0)
    raise ValueError(f"no projection for norm {kind!r}; allowed: linf, l2, l1.")


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
