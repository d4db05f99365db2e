"""Loops over single steps for many examples; an example that is ready drops out.

The mathematics is written for one example: how to begin, one step, when to end.  Here
it becomes a compiled loop over a tile of examples that ends when all of the tile have.
Between stretches of such loops the examples that are not ready yet are gathered into
fewer tiles, so that one slow example does not keep a whole tile busy.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int

from robust_manifold.core import batching, keeping, keys, memory, programs
from robust_manifold.core.checks import checked_key
from robust_manifold.core.errors import UsageError
from robust_manifold.core.once import Once
from robust_manifold.core.types import Params, PRNGKey

_FIRST_STRETCH = 8
"""Steps before the first look at who is ready; each later stretch is half as long as
all before it together, so that looking costs little however long the loop is."""


class Loop(NamedTuple):
    """One example's computation, cut into steps.  All fields hash by value."""

    begin: Callable[[Params, PRNGKey, Any], Any]
    """(params, key, example) -> state, a tree of arrays without typed keys."""
    step: Callable[[Params, PRNGKey, Any, Any], Any]
    """(params, key, example, state) -> state; each step has a key of its own."""
    finish: Callable[[Params, PRNGKey, Any, Any, Int[Array, ""]], Any]
    """(params, key, example, state, steps taken) -> result."""
    steps: int
    """How many are taken at most."""
    ended: Callable[[Any], Bool[Array, ""]] | None = None
    """state -> whether no further step is needed; None: all steps always are."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of a search by its name, as a function that hashes by value."""

    search: Any
    name: str

    def __call__(self, *arguments: Any) -> Any:
        """Returns what the method does."""
        return getattr(self.search, self.name)(*arguments)


class _Running(NamedTuple):
    """Where an example stands."""

    id: Int[Array, ""]
    example: Any
    state: Any
    steps: Int[Array, ""]
    ended: Bool[Array, ""]


def run(loop: Loop, params: Params, key: PRNGKey, example: Any) -> Any:
    """Returns the result for ONE example, as `map_loop` gives it."""
    running = _begun(loop, params, key, jnp.int32(0), example)
    running = jax.lax.while_loop(
        lambda running: ~running.ended,
        lambda running: _stepped(loop, params, key, running),
        running,
    )
    return _finished(loop, params, key, running)


def map_loop(
    loop: Loop,
    params: Params,
    examples: Any,
    *,
    key: PRNGKey,
    ids: np.ndarray | jax.Array | None = None,
    batch_size: int | None = None,
    tile: int | None = None,
    form: str | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Any:
    """Returns the result of every example, stacked along the leading axis.

    The result for an example depends on its id, never on its batch mates, and not even
    by rounding: all programs are compiled for tiles of one size.

    Args:
      loop: of one example; equal loops compile once.
      params: passed through; an argument of the compiled programs.
      examples: a tree of arrays with a common leading axis [n, ...].
      key: folded with the id of each example, then with the number of the step.
      ids: global ids [n] of the examples; 0..n-1 by default.
      batch_size: examples worked on together; by default a tile each a device, or 16
        where examples may end early.
      tile: examples that a device computes at once; see `batching.default_tile`.
      form: "scan" compiles stretches of steps as one program, "python" calls a compiled
        step again and again, which is faster on a CPU for functions that hold XLA's own
        convolutions; None is "scan".
      on_chunk: called with (examples ready, n) whenever some are.

    Raises:
      UsageError: as `batching.map_examples`.
    """
    form = "scan" if form is None else form
    if form not in ("scan", "python"):
        raise UsageError(f"loop is {form!r}; allowed: scan, python or None.")
    examples, ids = batching.checked_examples(examples, ids, batch_size, tile)
    checked_key(key)
    n, devices = len(ids), jax.device_count()
    loop = loop._replace(
        begin=Once(loop.begin), step=Once(loop.step), finish=Once(loop.finish)
    )
    tile = tile or batching.default_tile(_Body(loop), params, examples)
    together = tile * devices
    wanted = batch_size or together * (
        1 if loop.ended is None else _tiles_at_once(tile, loop, params, examples)
    )
    size = -(-wanted // together) * together
    call = _Caller(loop, form, together, batching.on_each_device((params, key)))

    first = np.minimum(np.arange(together), n - 1)
    call.prepare(*_taken((ids, examples), first))
    parts = []
    for start in range(0, n, size):
        stop = min(start + size, n)
        rows = slice(start, stop)
        tell = None
        if on_chunk is not None:
            tell = lambda ready, start=start: on_chunk(start + ready, n)  # noqa: E731
        part = _taken(examples, rows)
        known = keeping.Call(_Body(loop), params, key, ids[rows], part, together)
        parts.append(
            keeping.kept(
                known,
                functools.partial(_map_batch, call, known, tell),
                lambda known=known: batching.results_like(
                    known.function, params, known.examples, len(known.ids)
                ),
            )
        )
    return jax.tree.map(lambda *parts: jax.device_put(np.concatenate(parts)), *parts)


def _tiles_at_once(tile: int, loop: Loop, params: Params, examples: Any) -> int:
    """Returns how many tiles of a device are worked on together: 16 or what fits."""
    arguments = batching.arguments_of_one(params, examples)
    state = jax.eval_shape(loop.begin, *arguments)
    held = jax.tree.leaves((arguments[-1], state))
    bytes_each = sum(leaf.size * leaf.dtype.itemsize for leaf in held)
    return int(max(1, min(16, memory.budget() // (tile * bytes_each))))


class _Stand(NamedTuple):
    """How far a batch has come, as it is kept."""

    taken: Any
    """Steps that all of its tiles have taken."""
    at: Any
    """The tile that is at work."""
    steps: Any
    """Steps that this one has taken beyond those."""
    rows: Any
    """The examples of each tile; below 0 where there are fewer tiles than at first."""
    states: Any
    """Of all examples."""


def _map_batch(
    call: "_Caller", known: keeping.Call, tell: Callable[[int], None] | None
) -> Any:
    """Returns the results of one batch, on the host."""
    ids, examples = known.ids, known.examples
    n, total = len(ids), call.loop.steps
    ready: Any = None
    taken, first, steps = 0, 0, 0
    if (stand := _recalled(call, known)) is None:
        rows = _tiles(np.arange(n), call.together)
        tiles = [call.begin(*_taken((ids, examples), own)) for own in rows]
    else:
        taken, first, steps = int(stand.taken), int(stand.at), int(stand.steps)
        rows, ready = list(stand.rows[stand.rows[:, 0] >= 0]), stand.states
        tiles = [call.place(_taken(ready, own)) for own in rows]
    while taken < total:
        stretch = total - taken
        if call.loop.ended is not None:
            stretch = min(stretch, max(_FIRST_STRETCH, taken // 2))
        for at in range(first, len(tiles)):
            while steps < stretch:
                tiles[at], piece = call.advance_piece(tiles[at], stretch - steps)
                steps += piece
                _hold(call, known, piece, (taken, at, steps), rows, ready, tiles)
                # What is kept piece by piece may end within a stretch.
                if call.loop.ended is not None and steps < stretch:
                    if batching.gather(tiles[at].ended).all():
                        break
            steps = 0
        first = 0
        taken += stretch
        if call.loop.ended is None or taken >= total:
            break
        ended = np.concatenate([batching.gather(tile.ended) for tile in tiles])
        places = np.concatenate(rows)
        going = np.unique(places[~ended])
        if tell is not None and len(going) < n:
            tell(n - len(going))
        if not len(going):
            break
        if -(-len(going) // call.together) < len(tiles):
            # Fewer tiles hold those who are not ready: store all, go on with these.
            ready = _stored(ready, n, places, tiles)
            rows = _tiles(going, call.together)
            tiles = [call.place(_taken(ready, own)) for own in rows]
    if ready is not None:
        ready = _stored(ready, n, np.concatenate(rows), tiles)
        rows = _tiles(np.arange(n), call.together)
        tiles = [call.place(_taken(ready, own)) for own in rows]
    results = [jax.tree.map(batching.gather, call.finish(tile)) for tile in tiles]
    if tell is not None:
        tell(n)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *results)


def _hold(
    call: "_Caller",
    known: keeping.Call,
    piece: int,
    stand: tuple[int, int, int],
    rows: list[np.ndarray],
    ready: Any,
    tiles: list[_Running],
) -> None:
    """Tells a keeper, if there is one, how far a batch has come."""
    if (keeper := keeping.keeper()) is None:
        return

    def state() -> _Stand:
        n = len(known.ids)
        padded = np.full((-(-n // call.together), call.together), -1)
        padded[: len(rows)] = rows
        states = _stored(ready, n, np.concatenate(rows), tiles)
        taken, at, steps = map(np.asarray, stand)
        return _Stand(taken, at, steps, padded, states)

    keeping.hold(keeper, known, piece, state)


def _recalled(call: "_Caller", known: keeping.Call) -> _Stand | None:
    """Returns how far a batch had come; None if it is not known."""
    if (keeper := keeping.keeper()) is None:
        return None

    def like() -> _Stand:
        n = len(known.ids)
        example = batching.arguments_of_one(known.params, known.examples)
        begun = jax.eval_shape(
            functools.partial(_begun, call.loop), *example[:2], np.int32(0), example[2]
        )
        whole = jax.ShapeDtypeStruct((), int)
        rows = jax.ShapeDtypeStruct((-(-n // call.together), call.together), int)
        return _Stand(whole, whole, whole, rows, batching.stacked_like(begun, n))

    return keeping.recalled(keeper, known, like, whole=False)


def _taken(tree: Any, rows: Any) -> Any:
    """Returns some rows of each array."""
    return jax.tree.map(lambda array: array[rows], tree)


def _tiles(places: np.ndarray, together: int) -> list[np.ndarray]:
    """Returns the places tile by tile; the last tile repeats its last place."""
    count = -(-len(places) // together)
    padded = np.pad(places, (0, count * together - len(places)), mode="edge")
    return list(padded.reshape(count, together))


def _stored(ready: Any, n: int, places: np.ndarray, tiles: list[_Running]) -> _Running:
    """Returns all examples' states on the host, those of `places` renewed."""
    new = jax.tree.map(
        lambda *parts: np.concatenate([batching.gather(p) for p in parts]), *tiles
    )
    if ready is None:
        ready = jax.tree.map(lambda a: np.empty((n, *a.shape[1:]), a.dtype), new)

    def renewed(old: np.ndarray, rows: np.ndarray) -> np.ndarray:
        old[places] = rows
        return old

    return jax.tree.map(renewed, ready, new)


class _Caller(NamedTuple):
    """Calls the compiled programs on each device's tile."""

    loop: Loop
    form: str
    together: int
    shared: list[tuple[Params, PRNGKey]]
    """The parameters and the key, one copy on each device of this process."""

    def prepare(self, ids: np.ndarray, examples: Any) -> None:
        """Compiles all programs for tiles like this one, unless it has been done."""
        own = batching.on_each_device(self.place((ids, examples)))
        leaves, tree = jax.tree.flatten((self.shared, own))
        kinds = tuple((leaf.shape, leaf.dtype, leaf.sharding) for leaf in leaves)
        _prepare(self.loop, self.form, tree, kinds)

    def begin(self, ids: np.ndarray, examples: Any) -> _Running:
        """Returns the states of a tile of examples."""
        return self._each(_begin, self.place((ids, examples)))

    def advance(self, running: _Running, steps: int) -> _Running:
        """Returns the states after so many steps, or once all have ended."""
        if self.form == "scan":
            return self._each(_advance, running, np.int32(steps))
        for place in range(steps):
            # Asking whether all have ended waits for the device.
            if self.loop.ended is not None and place % 8 == 7:
                if batching.gather(running.ended).all():
                    break
            running = self._each(_advance_once, running)
        return running

    def advance_piece(self, running: _Running, most: int) -> tuple[_Running, int]:
        """Returns the states after at most so many steps, and how many these were."""
        if (keeper := keeping.keeper()) is None:
            return self.advance(running, most), most
        piece = min(most, keeper.steps)
        return jax.block_until_ready(self.advance(running, piece)), piece

    def finish(self, running: _Running) -> Any:
        """Returns the results of a tile."""
        return self._each(_finish, running)

    def place(self, tree: Any) -> Any:
        """Returns a tile's arrays spread over the devices."""
        return jax.tree.map(batching.shard, tree)

    def _each(self, compute: Callable, tree: Any, *arguments: Any) -> Any:
        parts = batching.on_each_device(tree)
        results = [
            compute(self.loop, *shared, part, *arguments)
            for shared, part in zip(self.shared, parts, strict=True)
        ]
        return jax.tree.map(lambda *tiles: batching.joined(tiles), *results)


class _Body(NamedTuple):
    """A loop as one function of one example, of which the memory is estimated."""

    loop: Loop

    def __call__(self, params: Params, key: PRNGKey, example: Any) -> Any:
        return run(self.loop, params, key, example)


def _begun(loop, params, key, id, example) -> _Running:
    state = loop.begin(params, jax.random.fold_in(key, 0), example)
    ended = jnp.bool_(False) if loop.ended is None else loop.ended(state)
    ended |= loop.steps == 0
    return _Running(id, example, state, jnp.int32(0), ended)


def _stepped(loop, params, key, running: _Running) -> _Running:
    """Returns the example one step on; `key` is its own."""
    step_key = jax.random.fold_in(key, running.steps + 1)
    state = loop.step(params, step_key, running.example, running.state)
    steps = running.steps + 1
    ended = steps >= loop.steps
    if loop.ended is not None:
        ended |= loop.ended(state)
    return running._replace(state=state, steps=steps, ended=ended)


def _finished(loop, params, key, running: _Running) -> Any:
    final_key = jax.random.fold_in(key, loop.steps + 1)
    return loop.finish(params, final_key, running.example, running.state, running.steps)


@functools.partial(programs.Program, static_argnums=0)
def _begin(loop, params, key, part):
    ids, examples = part
    begin = jax.vmap(_begun, in_axes=(None, None, 0, 0, 0))
    return begin(loop, params, keys.per_example(key, ids), ids, examples)


def _tile_stepped(loop, params, key, running: _Running) -> _Running:
    """Returns a tile one step on; whoever has ended stays as it is."""

    def one(own_key, before: _Running) -> _Running:
        after = _stepped(loop, params, own_key, before)
        if loop.ended is None:
            return after
        return optax.tree.where(before.ended, before, after)

    return jax.vmap(one)(keys.per_example(key, running.id), running)


@functools.partial(programs.Program, static_argnums=0)
def _advance(loop, params, key, running, steps):
    def going(carry):
        place, running = carry
        return (place < steps) & ~running.ended.all()

    def step(carry):
        place, running = carry
        return place + 1, _tile_stepped(loop, params, key, running)

    return jax.lax.while_loop(going, step, (jnp.int32(0), running))[1]


@functools.partial(programs.Program, static_argnums=0)
def _advance_once(loop, params, key, running):
    return _tile_stepped(loop, params, key, running)


@functools.partial(programs.Program, static_argnums=0)
def _finish(loop, params, key, running):
    finish = jax.vmap(lambda k, r: _finished(loop, params, k, r))
    return finish(keys.per_example(key, running.id), running)


@functools.lru_cache(maxsize=256)
def _prepare(loop: Loop, form: str, tree: Any, kinds: tuple[Any, ...]) -> None:
    """Compiles the programs of a loop together, for what lies on each device.

    Args:
      loop: as for `map_loop`, like the next.
      form: of the loop over the steps.
      tree: of the parameters and keys, and of ids and examples, a tile a device.
      kinds: shape, type and place of each array in it.
    """
    leaves = [jax.ShapeDtypeStruct(s, d, sharding=place) for s, d, place in kinds]
    lowered = []
    for shared, part in zip(*jax.tree.unflatten(tree, leaves), strict=True):
        begin = _begin.jitted.trace(loop, *shared, part)
        running = jax.tree.map(
            functools.partial(_on_device, part[0].sharding), begin.out_info
        )
        if form == "scan":
            steps = np.int32(loop.steps)
            advance = _advance.jitted.trace(loop, *shared, running, steps)
        else:
            advance = _advance_once.jitted.trace(loop, *shared, running)
        finish = _finish.jitted.trace(loop, *shared, running)
        lowered += [one.lower() for one in (begin, advance, finish)]
    programs.compile_together(lowered)


def _on_device(place: Any, leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=place, weak_type=leaf.weak_type
    )
