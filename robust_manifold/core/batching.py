"""From one example to many: vmapped, compiled once, chunked, padded and sharded."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params, PRNGKey

T = TypeVar("T")

DATA_AXIS = "data"
DEFAULT_BATCH_SIZE = 256


@functools.cache
def data_mesh() -> Mesh:
    """Returns the mesh of all devices of the job along one axis, `data`."""
    return jax.make_mesh(
        (jax.device_count(),), (DATA_AXIS,), axis_types=(AxisType.Auto,)
    )


def map_examples(
    function: Callable[[Params, PRNGKey, Any], T],
    params: Params,
    examples: Any,
    *,
    key: PRNGKey,
    ids: np.ndarray | jax.Array | None = None,
    batch_size: int | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> T:
    """Returns `function` of every example, stacked along the leading axis.

    The result for an example depends on its id, never on its batch mates: the
    last chunk is padded to the common shape, so one program serves all chunks.

    Args:
      function: of one example, as `function(params, key, example)`.  It must hash
        by value (a frozen dataclass), since it is a static argument of the
        compiled program: equal functions compile once.
      params: passed through to `function`; an argument of the compiled program.
      examples: a tree of arrays with a common leading axis [n, ...].
      key: folded with the id of each example.
      ids: global ids [n] of the examples; 0..n-1 by default.
      batch_size: examples computed at a time, rounded up to a multiple of the
        device count; by default `DEFAULT_BATCH_SIZE` per device, at most n.
      on_chunk: called with (examples done, n) after each chunk.

    Raises:
      UsageError: if the leading axes differ, `batch_size` is below 1 or `ids` are
        not n whole numbers from 0 to 2**31 - 1.
    """
    examples = jax.tree.map(np.asarray, examples)
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(examples)}
    if len(sizes) != 1 or sizes == {()}:
        raise UsageError(
            f"examples have the leading axes {sorted(sizes)}; allowed: one common axis."
        )
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; allowed: 1 or more.")
    ((n,),) = sizes
    devices = jax.device_count()
    if batch_size is None:
        batch_size = int(min(max(n, 1), DEFAULT_BATCH_SIZE * devices))
    batch_size = -(-batch_size // devices) * devices
    ids = _checked_ids(ids, n)
    params = replicate(params)

    chunks = []
    for start in _starts(n, batch_size):
        stop = min(start + batch_size, n)
        # Padding repeats real examples, so that it can't bring in a NaN of its own.
        rows = np.minimum(np.arange(start, start + batch_size), max(n - 1, 0))
        chunk_ids, chunk = jax.tree.map(lambda a: _shard(a[rows]), (ids, examples))  # noqa: B023
        result = _map_chunk(function, params, key, chunk_ids, chunk)
        chunks.append(jax.tree.map(lambda a: _gather(a)[: stop - start], result))  # noqa: B023
        if on_chunk is not None:
            on_chunk(stop, n)
    return jax.tree.map(lambda *parts: jnp.asarray(np.concatenate(parts)), *chunks)


def _checked_ids(ids: np.ndarray | jax.Array | None, n: int) -> np.ndarray:
    if ids is None:
        return np.arange(n, dtype=np.int32)
    ids = np.asarray(ids)
    if ids.shape != (n,) or not np.issubdtype(ids.dtype, np.integer):
        raise UsageError(
            f"ids have shape {ids.shape} and type {ids.dtype}; allowed: {n} whole "
            "numbers, one an example."
        )
    if n and not (0 <= ids.min() and ids.max() < 2**31):
        raise UsageError(
            f"ids lie in [{ids.min()}, {ids.max()}]; allowed: 0 to 2**31 - 1."
        )
    return ids.astype(np.int32)


def _starts(n: int, batch_size: int) -> Iterator[int]:
    if n == 0:
        raise UsageError("there are 0 examples; allowed: 1 or more.")
    yield from range(0, n, batch_size)


@functools.partial(jax.jit, static_argnames="function")
def _map_chunk(function, params, key, ids, examples):
    example_keys = keys.per_example(key, ids)
    return jax.vmap(function, in_axes=(None, 0, 0))(params, example_keys, examples)


def _shard(array: np.ndarray) -> jax.Array:
    """Spreads the leading axis over all devices, on one host or on many."""
    sharding = NamedSharding(data_mesh(), PartitionSpec(DATA_AXIS))
    return jax.make_array_from_callback(
        array.shape, sharding, lambda index: array[index]
    )


def _gather(array: jax.Array) -> np.ndarray:
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def replicate(tree: Any) -> Any:
    """Returns the arrays placed whole on every device of the job.

    What a checkpoint restored, or an init made, lies on one device: a step that
    returns arrays on all of them would otherwise be compiled once for each.
    """
    return jax.device_put(tree, NamedSharding(data_mesh(), PartitionSpec()))


def shard_local(tree: Any) -> Any:
    """Returns arrays over all devices from the rows that this process holds.

    Args:
      tree: arrays [batch / processes, ...]; each process gives its own rows.

    Raises:
      UsageError: if several processes share a batch that their devices can't divide.
    """
    sharding = NamedSharding(data_mesh(), PartitionSpec(DATA_AXIS))

    def spread(array: np.ndarray) -> jax.Array:
        rows = array.shape[0] * jax.process_count()
        if rows % jax.device_count():
            if jax.process_count() > 1:
                raise UsageError(
                    f"a batch of {rows} is shared by {jax.device_count()} devices; "
                    "allowed: a multiple of their number."
                )
            # Alone, a process may let each of its devices compute the whole batch.
            return jnp.asarray(array)
        return jax.make_array_from_process_local_data(sharding, array)

    return jax.tree.map(spread, tree)
