"""Parameters as a plain table of named arrays, and back: what a file can hold."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params
from robust_manifold.models.model import Model, Shape


def to_table(params: Params) -> dict[str, np.ndarray]:
    """Returns the arrays of nested dicts by names such as "params/Conv_0/kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def from_table(model: Model, table: Mapping[str, np.ndarray]) -> Params:
    """Returns the parameters of `model` that `to_table` turned into `table`.

    Floats of other sizes are rounded to the model's, which is float32.

    Args:
      model: says which names and shapes there have to be.
      table: arrays by name.

    Raises:
      UsageError: if names are missing, unexpected, or of another shape, or numbers
        are no floats, or not finite; the one sentence lists all of them.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    check_table("model", table, {_name(path): leaf.shape for path, leaf in leaves})
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.array(table[_name(path)], leaf.dtype), shapes
    )


def check_table(
    what: str, table: Mapping[str, Any], expected: Mapping[str, Shape]
) -> None:
    """Raises a `UsageError` that lists all that differs, if anything does.

    Args:
      what: whose names and shapes are expected, to end "do not fit the ...".
      table: arrays by name.
      expected: their shapes by name.
    """
    prefix = _wrapper(table, expected)
    if prefix:
        raise UsageError(
            f"The weights do not fit the {what}; their names begin with {prefix!r}, as "
            "torch.nn.DataParallel ('module.'), torch.compile ('_orig_mod.') and other "
            "wrappers write them: save the state dict of the network inside, or take "
            "the prefix off the names."
        )
    missing = [
        f"{name} {shape}" for name, shape in expected.items() if name not in table
    ]
    unexpected = [
        f"{name} {array.shape}" for name, array in table.items() if name not in expected
    ]
    both = {name: table[name] for name in expected if name in table}
    reshaped = [
        f"{name} {array.shape} instead of {expected[name]}"
        for name, array in both.items()
        if tuple(array.shape) != tuple(expected[name])
    ]
    retyped = [
        f"{name} {array.dtype} instead of floats"
        for name, array in both.items()
        if not jnp.issubdtype(array.dtype, jnp.floating)
    ]
    infinite = [
        name
        for name, array in both.items()
        if jnp.issubdtype(array.dtype, jnp.floating) and not _finite(array)
    ]
    kinds = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": reshaped,
        "of another type": retyped,
        "not finite": infinite,
    }
    found = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    if found:
        raise UsageError(f"The weights do not fit the {what}; {'; '.join(found)}.")


def _wrapper(table: Mapping[str, Any], expected: Mapping[str, Shape]) -> str:
    """Returns what stands before all names that are expected; "" if nothing does."""
    first = next(iter(expected), "")
    prefixes = {
        name.removesuffix(first) for name in table if name.endswith(f".{first}")
    }
    for prefix in sorted(prefixes):
        if all(prefix + name in table for name in expected):
            return prefix
    return ""


def _finite(array: Any) -> bool:
    """Returns whether all numbers are finite, also once they are float32."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.asarray(array, np.float32)).all())


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
