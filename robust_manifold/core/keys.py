"""Random keys by name and by example, so that no result depends on batching.

The root key of a run is folded with the name of a stream, then with the global
id of an example (or with a step).  Nothing is drawn from a key that is split by
position in a batch: batch size, device count and resumption leave it unchanged.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, Key

from robust_manifold.core.types import PRNGKey


def stream(key: PRNGKey, name: str) -> PRNGKey:
    """Returns the key of the stream `name`; other names give independent keys."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def per_example(
    key: PRNGKey, ids: Int[Array, " n"] | Int[np.ndarray, " n"]
) -> Key[Array, " n"]:
    """Returns one key for each global example id."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)


def drawn(
    draw: Callable[..., Array],
    key: PRNGKey,
    shape: Sequence[int],
    dtype: Any,
    **limits: float,
) -> Array:
    """Returns `draw(key, shape, dtype)`, such as `jax.random.normal`, of an image.

    The numbers are drawn along one axis, and are the same: the random bits of several
    axes take XLA three times as long to compile.
    """
    return draw(key, (math.prod(shape),), dtype, **limits).reshape(shape)
