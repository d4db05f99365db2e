"""What makes a sticker hard to print: colours that ink lacks, and grain."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_manifold.core.spec import check
from robust_manifold.core.types import Image, Scalar


def non_printability(
    sticker: Image, mask: Float[Array, "height width 1"], printable: tuple[Any, ...]
) -> Scalar:
    """Returns the distance to the nearest printable colour, summed over the pixels.

    The nearest colour alone counts, as in Thys et al. (2019), not the product of the
    distances to all colours (Sharif et al. 2016), whose gradient vanishes where many
    colours are printable.

    Args:
      sticker: pixels in [0, 1].
      mask: 1 where the sticker lies.
      printable: grey levels, or tuples with a level a channel.
    """
    channels = sticker.shape[-1]
    rows = [np.broadcast_to(np.asarray(colour), (channels,)) for colour in printable]
    colours = jnp.asarray(np.stack(rows), sticker.dtype)
    squares = jnp.sum((sticker[:, :, None] - colours[None, None]) ** 2, axis=-1)
    nearest = jnp.min(squares, axis=-1, keepdims=True)
    # The root has no slope at 0, where a colour is printable already.
    away = nearest > 0
    distance = jnp.where(away, jnp.sqrt(jnp.where(away, nearest, 1)), 0)
    return jnp.sum(mask * distance)


def total_variation(sticker: Image, mask: Float[Array, "height width 1"]) -> Scalar:
    """Returns the differences of neighbours that are both under the mask, summed."""
    down = mask[1:] * mask[:-1] * jnp.abs(sticker[1:] - sticker[:-1])
    right = mask[:, 1:] * mask[:, :-1] * jnp.abs(sticker[:, 1:] - sticker[:, :-1])
    return jnp.sum(down) + jnp.sum(right)


def check_printable(attack: Any) -> None:
    """Raises a `UsageError` unless the attack's `printable` are colours."""
    colours = attack.printable
    greys = [np.ndim(colour) == 0 for colour in colours]
    alike = all(greys) or len({np.shape(colour) for colour in colours}) == 1
    allowed = "one or more grey levels in [0, 1], or tuples of a level a channel"
    check(bool(colours) and alike, attack, "printable", allowed)
    levels = np.asarray(colours, float)
    check(bool(((0 <= levels) & (levels <= 1)).all()), attack, "printable", allowed)
