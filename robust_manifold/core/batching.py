"""From one example to many: vmapped, compiled once, chunked, padded and sharded."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

from robust_manifold.core import keeping, keys, memory
from robust_manifold.core.checks import checked_key
from robust_manifold.core.errors import UsageError
from robust_manifold.core.once import shapes_of
from robust_manifold.core.programs import Program
from robust_manifold.core.spec import is_whole
from robust_manifold.core.types import Params, PRNGKey

T = TypeVar("T")

DATA_AXIS = "data"
DEFAULT_BATCH_SIZE = 256
"""Examples per device at a time, where memory does not ask for fewer."""
TILES = {"cpu": 32}
"""Examples of a tile on each platform, where memory allows; elsewhere 256.

Where a result is sought over many steps, rounding grows from step to step, and sums
are rounded otherwise for arrays of other shapes.  So such a function is always compiled
for the same number of examples, however many there are: then its results are the same
to the last bit.
"""


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
    tile: int | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> T:
    """Returns `function` of every example, stacked along the leading axis.

    The result for an example depends on its id, never on its batch mates: the
    last chunk is padded to the common shape, so one program serves all chunks.

    Args:
      function: of one example, as `function(params, key, example)`.  It must hash
        by value (a frozen dataclass), since it is a static argument of the
        compiled program: equal functions compile once.  With a true attribute
        `tiled` it is compiled for one tile, whatever `batch_size` is, so that results
        do not even differ by rounding.  If it is `brief`, too, it is one look rather
        than a search of many steps, and compiled sooner, see `programs`.
      params: passed through to `function`; an argument of the compiled program.
      examples: a tree of arrays with a common leading axis [n, ...].
      key: folded with the id of each example.
      ids: global ids [n] of the examples; 0..n-1 by default.
      batch_size: examples handed to the devices at a time, rounded up to a multiple
        of their number, or of their tiles; by default what memory allows, or one tile
        each.
      tile: of a tiled function, the examples that a device computes at once; by
        default what `default_tile` returns.
      on_chunk: called with (examples done, n) after each chunk.

    Raises:
      UsageError: if the leading axes differ, `batch_size` is below 1, `ids` are
        not n whole numbers from 0 to 2**31 - 1, or `key` is not one key.
    """
    examples, ids = checked_examples(examples, ids, batch_size, tile)
    checked_key(key)
    n, devices = len(ids), jax.device_count()
    tiled = getattr(function, "tiled", False)
    if tiled:
        together = (tile or default_tile(function, params, examples)) * devices
        size = -(-(batch_size or together) // together) * together
    else:
        size = batch_size or default_batch_size(function, params, examples)
        together = size = -(-size // devices) * devices
    # A tiled function has a copy of its parameters on each device of this process.
    compute = _compute_tiles if tiled else _map_chunk
    given, params = params, on_each_device(params) if tiled else replicate(params)

    def computed(ids: np.ndarray, examples: Any) -> Any:
        result = compute(function, params, key, *jax.tree.map(shard, (ids, examples)))
        return result if keeping.keeper() is None else jax.tree.map(gather, result)

    parts = []
    for start in range(0, n, size):
        stop = min(start + size, n)
        results = []
        for place in range(start, stop, together):
            # Padding repeats real examples, so that it brings in no NaN of its own.
            rows = np.minimum(np.arange(place, place + together), n - 1)
            part = jax.tree.map(lambda a, rows=rows: a[rows], (ids, examples))
            results.append(
                keeping.kept(
                    keeping.Call(function, given, key, part[0], part[1], together),
                    functools.partial(computed, *part),
                    lambda: results_like(function, given, examples, together),
                )
            )
        parts += [jax.tree.map(gather, result) for result in results]
        if on_chunk is not None:
            on_chunk(stop, n)
    # jnp.asarray would compile a program for each shape.
    return jax.tree.map(
        lambda *parts: jax.device_put(np.concatenate(parts)[:n]), *parts
    )


@dataclasses.dataclass(frozen=True)
class _Apply:
    """A function of parameters and one example, which needs no key."""

    apply: Callable[[Params, Any], Any]

    def __call__(self, params: Params, key: PRNGKey, example: Any) -> Any:
        del key
        return self.apply(params, example)


def apply_examples(
    apply: Callable[[Params, jax.Array], jax.Array],
    params: Params,
    inputs: Float[np.ndarray, "n ..."],
    *,
    batch_size: int | None = None,
) -> Float[np.ndarray, "n ..."]:
    """Returns `apply(params, input)` of every input, on all devices.

    Args:
      apply: of one example; it must be the same object in every call.
      params: of `apply`.
      inputs: images or latents.
      batch_size: see `map_examples`.
    """
    found = map_examples(
        _Apply(apply), params, inputs, key=jax.random.key(0), batch_size=batch_size
    )
    return np.asarray(found)


def checked_examples(
    examples: Any,
    ids: np.ndarray | jax.Array | None,
    batch_size: int | None,
    tile: int | None,
) -> tuple[Any, np.ndarray]:
    """Returns the examples as NumPy arrays, and their ids; see `map_examples`."""
    examples = jax.tree.map(np.asarray, examples)
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(examples)}
    if len(sizes) != 1 or sizes == {()}:
        raise UsageError(
            f"examples have the leading axes {sorted(sizes)}; allowed: one common axis."
        )
    ((n,),) = sizes
    if n == 0:
        raise UsageError("there are 0 examples; allowed: 1 or more.")
    for name, value in {"batch_size": batch_size, "tile": tile}.items():
        if value is not None and not is_whole(value, 1):
            raise UsageError(
                f"{name} is {value!r}; allowed: a whole number, 1 or more."
            )
    return examples, checked_ids(ids, n)


def checked_ids(ids: np.ndarray | jax.Array | None, n: int) -> np.ndarray:
    """Returns the global ids [n] of examples; 0..n-1 by default."""
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


def default_batch_size(
    function: Callable[[Params, PRNGKey, Any], Any],
    params: Params,
    examples: Any,
) -> int:
    """Returns how many examples `map_examples` computes at a time by itself.

    As many as memory allows, by `memory.budget` and the estimate `memory.peak_bytes`,
    and at most `DEFAULT_BATCH_SIZE` per device; where several chunks are needed, they
    are of about one size.  Arguments as for `map_examples`.
    """
    n, devices = jax.tree.leaves(examples)[0].shape[0], jax.device_count()
    fitting = min(_fitting(function, params, examples), DEFAULT_BATCH_SIZE)
    chunks = -(-n // (fitting * devices))
    return -(-n // chunks)


def default_tile(
    function: Callable[[Params, PRNGKey, Any], Any],
    params: Params,
    examples: Any,
) -> int:
    """Returns how many examples of a tiled function a device computes at once.

    The platform's `TILES`, or the largest power of two below for which memory suffices;
    it does not depend on how many examples there are.  Arguments as for `map_examples`.
    """
    tile = TILES.get(jax.default_backend(), DEFAULT_BATCH_SIZE)
    fitting = _fitting(function, params, examples)
    return min(tile, 1 << (fitting.bit_length() - 1))


def _fitting(function, params, examples) -> int:
    """Returns how many examples fit into a device's memory, at least 1."""
    bytes_each = memory.peak_bytes(function, *arguments_of_one(params, examples))
    return max(1, memory.budget() // max(bytes_each, 1))


def arguments_of_one(params: Params, examples: Any) -> tuple[Any, Any, Any]:
    """Returns the shapes of a function's arguments (params, key, example)."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return shapes_of(params), key, shapes_of(examples, 1)


def results_like(
    function: Callable[[Params, PRNGKey, Any], Any],
    params: Params,
    examples: Any,
    n: int,
) -> Any:
    """Returns shapes and types of a function's results for `n` examples, stacked."""
    leaves, tree = jax.tree.flatten(arguments_of_one(params, examples))
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    return stacked_like(_result_like(function, tree, shapes), n)


@functools.lru_cache(maxsize=256)
def _result_like(function, tree, shapes) -> Any:
    """Returns shapes and types of a function's result for one example."""
    leaves = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    # Not every callable can be referred to weakly, as JAX does.
    return jax.eval_shape(lambda *given: function(*given), *tree.unflatten(leaves))


def stacked_like(tree: Any, n: int) -> Any:
    """Returns shapes and types of `n` trees like one, stacked."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((n, *leaf.shape), leaf.dtype), tree
    )


def _compute_tiles(function, params, key, ids, examples):
    """Returns what each device makes of its tile, as one array of the job.

    Each device runs a program of its own: one for several devices at once would be
    compiled, and rounded, otherwise than one for a single device.

    Args:
      function: of one example.
      params: one tree a device of this process.
      key: of all examples.
      ids: of the examples, spread over the devices of the job.
      examples: likewise.
    """
    parts = on_each_device((ids, examples))
    compute = _map_brief_tile if getattr(function, "brief", False) else _map_tile
    results = [
        compute(function, own_params, own_key, *part)
        for own_params, own_key, part in zip(
            params, on_each_device(key), parts, strict=True
        )
    ]
    return jax.tree.map(lambda *tiles: joined(tiles), *results)


def _mapped(function, params, key, ids, examples):
    example_keys = keys.per_example(key, ids)
    return jax.vmap(function, in_axes=(None, 0, 0))(params, example_keys, examples)


_map_tile = jax.jit(_mapped, static_argnames="function")
_map_brief_tile = Program(_mapped, static_argnums=0)


@functools.partial(jax.jit, static_argnames="function")
def _map_chunk(function, params, key, ids, examples):
    """Returns the results of a chunk by one program, without talk between devices."""
    rows, whole = PartitionSpec(DATA_AXIS), PartitionSpec()
    return jax.shard_map(
        functools.partial(_mapped, function),
        mesh=data_mesh(),
        in_specs=(whole, whole, rows, rows),
        out_specs=rows,
        check_vma=False,
    )(params, key, ids, examples)


def on_each_device(tree: Any) -> list[Any]:
    """Returns, for each device of this process, what lies on it of every array.

    An array that this process holds whole, but not spread out, is copied to each.
    """
    return [
        jax.tree.map(functools.partial(_on, device), tree)
        for device in data_mesh().local_devices
    ]


def _on(device: Any, array: Any) -> jax.Array:
    """Returns an array's part on a device, or a copy of it there."""
    sharding = getattr(array, "sharding", None)
    if isinstance(sharding, NamedSharding):
        for part in array.addressable_shards:
            if part.device == device:
                return part.data
    return jax.device_put(array, device)


def joined(tiles: Sequence[jax.Array]) -> jax.Array:
    """Returns the tiles of this process's devices as rows of one array of the job."""
    rows = tiles[0].shape[0] * jax.device_count()
    return jax.make_array_from_single_device_arrays(
        (rows, *tiles[0].shape[1:]),
        NamedSharding(data_mesh(), PartitionSpec(DATA_AXIS)),
        list(tiles),
    )


def shard(array: np.ndarray) -> jax.Array:
    """Spreads the leading axis over all devices, on one host or on many."""
    sharding = NamedSharding(data_mesh(), PartitionSpec(DATA_AXIS))
    return jax.make_array_from_callback(
        array.shape, sharding, lambda index: array[index]
    )


def gather(array: jax.Array | np.ndarray) -> np.ndarray:
    """Returns an array of the job whole, on this process's host."""
    if isinstance(array, np.ndarray) or array.is_fully_addressable:
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
