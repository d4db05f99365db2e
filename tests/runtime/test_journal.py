"""The journal: work that was interrupted, or killed, goes on with what is done."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core import batching, keeping, loops
from robust_manifold.runtime import Artefacts, GracefulStop, Interrupted, Journal
from robust_manifold.runtime.stopping import Look, Pause

KEY = jax.random.key(1)
N = 7


class Walk(NamedTuple):
    place: jax.Array
    drawn: jax.Array


def begin(params, key, example):
    # A type that NumPy does not store.
    return Walk(params * example, jax.random.uniform(key, dtype=jnp.bfloat16))


def step(params, key, example, state):
    drawn = state.drawn + jax.random.uniform(key, dtype=jnp.bfloat16)
    return Walk(state.place + params, drawn)


def finish(params, key, example, state, steps):
    return {"walk": state, "steps": steps, "drawn": jax.random.uniform(key)}


def ended(state):
    return state.place >= 5


ALWAYS = loops.Loop(begin, step, finish, 12)
EARLY = ALWAYS._replace(ended=ended)
EXAMPLES = np.arange(N, dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class Noisy:
    scale: float
    tiled: bool = False

    def __call__(self, params, key, example):
        noise = jax.random.normal(key, dtype=jnp.bfloat16)
        return {"sum": params * self.scale + example, "noise": noise}


def _work(params=2.0):
    """Calls of each kind, among them two that differ in one thing alone."""
    params, given = jnp.float32(params), {"key": KEY, "batch_size": 2}
    return [
        batching.map_examples(Noisy(1.0), params, EXAMPLES, **given),
        batching.map_examples(Noisy(2.0), params, EXAMPLES, **given),
        batching.map_examples(
            Noisy(1.0, tiled=True), params, EXAMPLES, tile=2, key=KEY
        ),
        batching.map_examples(Noisy(1.0), -params, EXAMPLES, **given),
        loops.map_loop(ALWAYS, params, EXAMPLES, tile=2, **given),
        loops.map_loop(EARLY, params, EXAMPLES, key=KEY, tile=2),
        loops.map_loop(EARLY, params, EXAMPLES, key=KEY, tile=2, form="python"),
    ]


def _same(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def looks(monkeypatch):
    """Says what each look gives; of a loop every step is looked at."""
    given = iter(())
    monkeypatch.setattr(Pause, "restart", lambda self: None)

    def look(self, units=1):
        return next(given, Look(False, False))

    monkeypatch.setattr(Pause, "look", look)

    def giving(values):
        nonlocal given
        given = iter(values)

    return giving


def test_what_is_interrupted_again_and_again_ends_as_if_it_had_not(tmp_path, looks):
    """A process has time for five pieces, so without a journal none would end."""
    expected = _work()
    processes, found = 0, None
    while found is None and processes < 100:
        processes += 1
        looks([Look(False, False)] * 4 + [Look(True, False)])
        try:
            with Journal(Artefacts(tmp_path), "attack", GracefulStop()):
                found = _work()
        except Interrupted as error:
            assert "attack stopped" in str(error)
    _same(found, expected)
    assert 10 < processes < 40
    assert not (tmp_path / "unfinished" / "attack").exists()
    assert not Artefacts(tmp_path)._sums["files"]


class _Killed(BaseException):
    pass


def test_what_is_killed_loses_what_it_did_since_it_last_stored(tmp_path, looks):
    """Like the above, but without a word, and at the worst moments."""
    expected = _work()
    for moment in range(2, 60, 7):
        looks([Look(False, place % 3 == 0) for place in range(1, 1000)])
        folder, writes = Artefacts(tmp_path), 0

        def write(*arguments, folder=folder, moment=moment):
            nonlocal writes
            writes += 1
            if writes == moment:
                raise _Killed
            return Artefacts.write_npz(folder, *arguments)

        folder.write_npz = write  # type: ignore[method-assign]
        try:
            with Journal(folder, "attack", GracefulStop()):
                found = _work()
                break
        except _Killed:
            pass
    else:
        looks([])
        with Journal(Artefacts(tmp_path), "attack", GracefulStop()):
            found = _work()
    _same(found, expected)


def test_only_the_very_same_call_is_recalled(tmp_path, looks):
    looks([Look(False, False)] * 10 + [Look(True, False)])
    with pytest.raises(Interrupted):
        with Journal(Artefacts(tmp_path), "attack", GracefulStop()):
            _work()
    looks([])
    with Journal(Artefacts(tmp_path), "attack", GracefulStop()) as journal:
        known = len(journal._known)
        assert known
        _same(_work(3.0), _work(3.0))
        assert len(journal._known) == known
        _work()
        assert not journal._known


def test_what_is_stored_is_forgotten(tmp_path, looks):
    looks([Look(False, True)] * 3)
    with Journal(Artefacts(tmp_path), "attack", GracefulStop()):
        batching.map_examples(Noisy(1.0), jnp.float32(1), EXAMPLES, key=KEY)
        assert list((tmp_path / "unfinished" / "attack").iterdir())
        keeping.forget()
        assert not (tmp_path / "unfinished" / "attack").exists()


def test_the_time_of_what_was_recalled_counts(tmp_path, looks):
    class Clock:
        now = 0.0

        def __call__(self):
            Clock.now += 1.0
            return Clock.now

    looks([Look(False, False)] * 3 + [Look(True, False)])
    with pytest.raises(Interrupted):
        with Journal(Artefacts(tmp_path), "a", GracefulStop(), clock=Clock()):
            _work()
    looks([])
    with Journal(Artefacts(tmp_path), "a", GracefulStop(), clock=Clock()):
        assert keeping.recalled_seconds() == 0
        _work()
        assert keeping.recalled_seconds() >= 4
    assert keeping.recalled_seconds() == 0 and keeping.keeper() is None


def _adding(held, compiled):
    held = jnp.asarray(held, jnp.float32)
    add = compiled(lambda array: array + held)
    return lambda params, key, example: add(params * example)


@pytest.mark.parametrize("compiled", [lambda add: add, jax.jit])
def test_what_a_function_holds_is_part_of_a_call(tmp_path, looks, compiled):
    """Two functions of one text, which differ in an array that they hold."""

    def work(held):
        function, params = _adding(held, compiled), jnp.float32(2.0)
        return batching.map_examples(function, params, EXAMPLES, key=KEY, batch_size=2)

    expected = work([3.0, 4.0])
    looks([Look(False, False), Look(True, False)])
    with pytest.raises(Interrupted):
        with Journal(Artefacts(tmp_path), "attack", GracefulStop()):
            work([1.0, 2.0])
    looks([])
    with Journal(Artefacts(tmp_path), "attack", GracefulStop()):
        _same(work([3.0, 4.0]), expected)
