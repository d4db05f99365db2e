"""Functions of NumPy arrays within JAX's programs."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from jaxtyping import Array


def called(
    function: Callable[..., np.ndarray], shape: jax.ShapeDtypeStruct, *arrays: Any
) -> Array:
    """Returns what a function of NumPy arrays gives; under vmap it is called once.

    It has no derivative, and JAX cannot look inside.

    Args:
      function: `function(*arrays) -> array`, each with the axes of vmap before its own.
        JAX calls it from within its programs: it may not use JAX itself.
      shape: of what it gives, without these axes.
      *arrays: that it is given, none of them empty.
    """

    def fill(context: Any, out: Any, *arrays: Any) -> None:
        del context
        np.asarray(out)[...] = function(*map(np.asarray, arrays))

    def on_cpu(*arrays: Any) -> Any:
        return buffer_callback(fill, shape, vmap_method="broadcast_all")(*arrays)

    def elsewhere(*arrays: Any) -> Any:
        return jax.pure_callback(function, shape, *arrays, vmap_method="broadcast_all")

    # On a CPU, pure_callback copies what it hands over in the very threads that wait
    # for the function: where there are no others it never ends.
    return jax.lax.platform_dependent(*arrays, cpu=on_cpu, default=elsewhere)
