"""Functions that Python runs once, however many programs hold them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Once:
    """A function that is traced once for arguments of the same shapes.

    What it does is then known to JAX: a gradient, `vmap`, another program or another
    place in a program ask Python no more.  Compiled programs are what they are without
    it.  Equal functions are the same.

    >>> import jax.numpy as jnp
    >>> def double(x):
    ...     print("traced")
    ...     return 2 * x
    >>> @jax.jit
    ... def both(x):
    ...     return Once(double)(x) + jax.grad(Once(double))(x)
    >>> float(both(1.0))
    traced
    4.0
    """

    function: Callable[..., Any]
    """It hashes by value, or is the same object every time."""

    def __call__(self, *arguments: Any) -> Any:
        """Returns what the function does."""
        return _traced(self.function, *arguments)


@jax.jit(static_argnums=0, inline=True)
def _traced(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def of_jaxpr(
    look: Callable[[Any], Any], function: Callable[..., Any], *arguments: Any
) -> Any:
    """Returns `look` of a function's program, once for arguments of the same shapes.

    Args:
      look: of a closed jaxpr; the same object every time.
      function: hashable.
      *arguments: trees of arrays or `jax.ShapeDtypeStruct`.
    """
    leaves, tree = jax.tree.flatten(arguments)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    return _of_jaxpr(look, function, tree, shapes)


@functools.lru_cache(maxsize=256)
def _of_jaxpr(look, function, tree, shapes) -> Any:
    leaves = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    closed = jax.make_jaxpr(function)(*jax.tree.unflatten(tree, leaves))
    return look(closed)


def shapes_of(tree: Any, axes: int = 0) -> Any:
    """Returns shape and type of each array of a tree, but for some leading axes."""

    def shape_of(array: Any) -> jax.ShapeDtypeStruct:
        kind = jax.typeof(array)
        return jax.ShapeDtypeStruct(kind.shape[axes:], kind.dtype)

    return jax.tree.map(shape_of, tree)
