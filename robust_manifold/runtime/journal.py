"""The journal of a run: what of a long computation is done, before it is stored.

Pieces of work are kept in memory, and now and then entered in files, which are removed
when the results that they are for have been stored.  So a process that is killed loses
less than a minute, however large the pieces of a stage are.
"""

import functools
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from robust_manifold.core import keeping
from robust_manifold.core.once import of_jaxpr, shapes_of
from robust_manifold.runtime import devices
from robust_manifold.runtime.artefacts import Artefacts
from robust_manifold.runtime.stopping import GracefulStop, Interrupted, Pause
from robust_manifold.version import __version__

_FOLDER = "unfinished"
_ADDRESS = re.compile(r"0x[0-9a-f]+")
"""Of an object: another one in every process."""


class _Entry(NamedTuple):
    """What is kept of one call."""

    arrays: list[np.ndarray]
    """Their bytes."""
    seconds: float
    """What it took."""


class Journal:
    """Keeps the work of a stage, see `keeping.Keeper`; it is polled for a stop, too.

    with Journal(folder, "attack", stop):
        ...
        folder.write_npz(...)
        keeping.forget()
    """

    def __init__(
        self,
        folder: Artefacts,
        name: str,
        stop: GracefulStop,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Reads what an earlier process has entered.

        Args:
          folder: that the files lie in.
          name: of the stage.
          stop: tells of signals.
          clock: returns seconds.

        Raises:
          DamagedArtefact: if a file is not what was written.
        """
        self._recalled_seconds = 0.0
        self._folder, self._name, self._clock = folder, name, clock
        self._pause = Pause(stop, clock=clock)
        self._since = clock()
        self._pending: list[tuple[keeping.Call, _Entry]] = []
        self._state: tuple[keeping.Call, _Entry] | None = None
        self._known: dict[str, list[_Entry]] = {}
        self._states: dict[str, list[_Entry]] = {}
        self._files = self._turn = 0
        self._params: tuple[Any, bytes] = None, b""
        self._read()

    @property
    def steps(self) -> int:
        """How many steps of a loop may be taken until it is told of them."""
        return self._pause.units

    @property
    def recalled_seconds(self) -> float:
        """What it took to compute all that was recalled."""
        return self._recalled_seconds

    def recall(self, call: keeping.Call, *, whole: bool) -> list[np.ndarray] | None:
        """Returns what was entered of a call; see `keeping.Keeper`."""
        if not whole:
            # Its steps take another time than those of the loop before it.
            self._pause.restart()
        known = self._known if whole else self._states
        found = _popped(known, self._digest(call)) if known else None
        # Where one process computes, the others must: they meet in the programs.
        if known and not devices.gathered([found is not None]).all():
            found = None
        if found is None:
            self._since = self._clock()
            return None
        self._recalled_seconds += found.seconds
        self._since = self._clock() - (0.0 if whole else found.seconds)
        return found.arrays

    def keep(
        self,
        call: keeping.Call,
        arrays: Callable[[], list[np.ndarray]],
        *,
        whole: bool,
        steps: int | None = None,
    ) -> None:
        """Keeps a call's result, or now and then how far it has come.

        Raises:
          Interrupted: if the run was asked to stop; all is entered.
        """
        seconds = self._clock() - self._since
        look = self._pause.look(steps)
        if whole:
            self._pending.append((call, _Entry(arrays(), seconds)))
            self._state = None
        elif any(look):
            self._state = call, _Entry(arrays(), seconds)
        if any(look):
            self._enter()
            self._pause.stored()
        if look.stop:
            raise Interrupted(f"{self._name} stopped in the middle of its work")

    def forget(self) -> None:
        """Removes all that is kept."""
        self._pending, self._state = [], None
        self._known, self._states = {}, {}
        # A process that was killed may have left files that are entered no more.
        if self._files or (self._folder.path / self._where).exists():
            self._folder.remove_folder(self._where)
            self._files = self._turn = 0

    def __enter__(self) -> "Journal":
        self._keeping = keeping.keeping(self)
        self._keeping.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._keeping.__exit__(kind, error, traceback)
        if error is None:
            self.forget()

    @property
    def _where(self) -> str:
        return f"{_FOLDER}/{self._name}"

    def _enter(self) -> None:
        """Writes what was kept since the last time."""
        self._write(f"{self._files:05d}", self._pending)
        self._files += 1
        self._pending = []
        if self._state is not None:
            # The one before stays until this one is whole.
            self._write(f"state-{self._turn % 2}", [self._state], turn=self._turn)
            self._turn += 1

    def _write(
        self, name: str, kept: list[tuple[keeping.Call, _Entry]], **numbers: int
    ) -> None:
        arrays: dict[str, Any] = dict(numbers)
        if self._folder.primary:
            for place, (_, entry) in enumerate(kept):
                for leaf, array in enumerate(entry.arrays):
                    arrays[f"{place}.{leaf}"] = array
            arrays["calls"] = np.array([self._digest(call) for call, _ in kept], "U64")
            arrays["seconds"] = np.array([entry.seconds for _, entry in kept])
        self._folder.write_npz(f"{self._where}/{name}.npz", arrays)

    def _read(self) -> None:
        """Reads what an earlier process has written."""
        while (stored := self._stored(f"{self._files:05d}")) is not None:
            # A call that is made twice is kept twice.
            for call, entry in _entries(stored):
                self._known.setdefault(call, []).append(entry)
            self._files += 1
        states = [stored for n in (0, 1) if (stored := self._stored(f"state-{n}"))]
        for stored in sorted(states, key=lambda each: int(each["turn"])):
            self._states |= {call: [entry] for call, entry in _entries(stored)}
            self._turn = int(stored["turn"]) + 1

    def _digest(self, call: keeping.Call) -> str:
        """Returns a checksum of all that the result of a call depends on."""
        # Most calls of a stage have the same parameters, which may be large.
        params, known = self._params
        if call.params is not params:
            known = _checksum(*jax.tree.flatten(call.params))
            fixed = all(isinstance(x, jax.Array) for x in jax.tree.leaves(call.params))
            self._params = (call.params, known) if fixed else (None, b"")
        leaves, tree = jax.tree.flatten(call.examples)
        arguments = (shapes_of(call.params), _key_like(), shapes_of(call.examples, 1))
        digest = hashlib.sha256(known)
        digest.update(
            f"{__version__} {jax.__version__} {jax.default_backend()} "
            f"{jax.device_count()} {call.together} ".encode()
        )
        digest.update(of_jaxpr(_program, call.function, *arguments))
        digest.update(_ADDRESS.sub("", f"{call.function!r}").encode())
        varying = [jax.random.key_data(call.key), call.ids, *leaves]
        digest.update(_checksum(varying, tree))
        return digest.hexdigest()

    def _stored(self, name: str) -> dict[str, np.ndarray] | None:
        file = f"{self._where}/{name}.npz"
        return self._folder.read_npz(file) if self._folder.has(file) else None


def _popped(known: dict[str, list[_Entry]], call: str) -> _Entry | None:
    """Returns an entry of a call, and takes it out; None where there is none."""
    entries = known.pop(call, [])
    if entries[1:]:
        known[call] = entries[1:]
    return next(iter(entries), None)


def _entries(stored: dict[str, np.ndarray]) -> list[tuple[str, _Entry]]:
    """Returns what a file holds, with the digests of the calls."""
    found = []
    for place, (call, seconds) in enumerate(
        zip(stored["calls"], stored["seconds"], strict=True)
    ):
        arrays = []
        while f"{place}.{len(arrays)}" in stored:
            arrays.append(stored[f"{place}.{len(arrays)}"])
        found.append((str(call), _Entry(arrays, float(seconds))))
    return found


def _checksum(leaves: Sequence[Any], tree: Any) -> bytes:
    """Returns a checksum of a tree's arrays and of its form."""
    digest = hashlib.sha256(_ADDRESS.sub("", str(tree)).encode())
    for leaf in leaves:
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.digest()


@functools.cache
def _key_like() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def _program(closed: Any) -> bytes:
    """Returns a checksum of a program, the same in every process."""
    arrays = [leaf for leaf in _held(closed, set()) if hasattr(leaf, "dtype")]
    keys = [jax.random.key_data(x) if _is_key(x) else x for x in arrays]
    return _checksum(keys, str(closed.jaxpr))


def _held(program: Any, seen: set[int]) -> Iterator[Any]:
    """Yields the arrays of a program, and of those that it calls, each one once.

    Its text shows nothing of them.
    """
    if id(program) in seen:
        return
    seen.add(id(program))
    if isinstance(program, core.ClosedJaxpr):
        yield from program.consts
        program = program.jaxpr
    for equation in program.eqns:
        for given in jax.tree.leaves(equation.params, is_leaf=_is_program):
            if _is_program(given):
                yield from _held(given, seen)


def _is_program(value: Any) -> bool:
    return isinstance(value, core.ClosedJaxpr | core.Jaxpr)


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
