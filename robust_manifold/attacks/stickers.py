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
    allowed = "one or more grey levels in [0, 1], or tuples of a level a channel"
    try:
        levels = np.asarray(colours, float)
    except (TypeError, ValueError):
        levels = np.zeros(0)
    check(levels.size > 0 and levels.ndim in (1, 2), attack, "printable", allowed)
    check(bool(((0 <= levels) & (levels <= 1)).all()), attack, "printable", allowed)
    # Lists become tuples, which hash.
    values: list[Any] = levels.tolist()
    plain = values if levels.ndim == 1 else [tuple(value) for value in values]
    object.__setattr__(attack, "printable", tuple(plain))


def check_channels(attack: Any, channels: int) -> None:
    """Raises a `UsageError` unless the printable colours are those of such images."""
    levels = np.asarray(attack.printable)
    fits = levels.ndim == 1 or levels.shape[1] == channels
    check(fits, attack, "printable", f"grey levels, or tuples of {channels} levels")
