"""Loops of single steps: early ends, compaction, keys, and sameness to the last bit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core import loops
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(1)


class Walk(NamedTuple):
    place: jax.Array
    drawn: jax.Array


def begin(params, key, example):
    return Walk(params * 0.0 + example["from"], jax.random.uniform(key))


def step(params, key, example, state):
    """Goes one up until `to` is reached; past it, it would go on and be seen."""
    return Walk(state.place + params, state.drawn + jax.random.uniform(key))


def ended(limit, state):
    return state.place >= limit


def finish(params, key, example, state, steps):
    return {"place": state.place, "steps": steps, "drawn": state.drawn}


STEPS = 40
ALWAYS = loops.Loop(begin, step, finish, STEPS)


def _early(state):
    return ended(25.0, state)


EARLY = ALWAYS._replace(ended=_early)


def examples(n):
    return {"from": np.arange(n, dtype=np.float32) % 26}


def run(loop, n, **options):
    return loops.map_loop(loop, jnp.float32(1.0), examples(n), key=KEY, **options)


def test_all_steps_are_taken():
    result = run(ALWAYS, 5)
    np.testing.assert_array_equal(result["steps"], [STEPS] * 5)
    np.testing.assert_array_equal(result["place"], examples(5)["from"] + STEPS)


@pytest.mark.parametrize("form", ["scan", "python"])
def test_whoever_is_ready_stays_as_it_is(form):
    result = run(EARLY, 30, form=form, tile=4)
    expected = np.maximum(25 - examples(30)["from"], 0)
    np.testing.assert_array_equal(result["steps"], expected)
    np.testing.assert_array_equal(result["place"], [25.0] * 30)


@pytest.mark.parametrize("n", [1, 3, 30])
def test_batching_changes_nothing_to_the_last_bit(n):
    """Few or many at a time, compacted or not, in either form: one program's result."""
    whole = run(EARLY, 30, tile=4)
    for options in ({"batch_size": 4}, {"batch_size": 9}, {"form": "python"}):
        part = run(EARLY, n, tile=4, ids=np.arange(n), **options)
        for name, values in part.items():
            np.testing.assert_array_equal(values, whole[name][:n])


def test_one_example_alone_gives_the_same():
    whole = run(EARLY, 8, tile=4)
    one = loops.run(
        EARLY, jnp.float32(1.0), jax.random.fold_in(KEY, 5), {"from": jnp.float32(5)}
    )
    for name, value in one.items():
        assert value == pytest.approx(float(whole[name][5]), rel=1e-6)


def test_each_example_and_step_has_its_own_key():
    drawn = np.asarray(run(ALWAYS, 3)["drawn"])
    assert len(set(drawn.tolist())) == 3
    by_hand = sum(
        float(jax.random.uniform(jax.random.fold_in(jax.random.fold_in(KEY, 1), place)))
        for place in range(STEPS + 1)
    )
    assert drawn[1] == pytest.approx(by_hand, rel=1e-5)


def test_who_is_ready_is_told_and_never_fewer():
    told = []
    run(EARLY, 30, tile=4, on_chunk=lambda *counts: told.append(counts))
    assert told[-1] == (30, 30)
    assert told == sorted(told)
    assert told[0][0] < 30


def test_ready_tiles_are_not_computed_again():
    """Of 8 tiles of 4, all but the examples from 0 are ready after a few steps."""
    counted = []

    def counting(params, key, example, state):
        jax.debug.callback(lambda _: counted.append(1), example["from"])
        return step(params, key, example, state)

    start = np.full(32, 24, np.float32)
    start[::16] = 0
    loops.map_loop(
        EARLY._replace(step=counting),
        jnp.float32(1.0),
        {"from": start},
        key=KEY,
        tile=4,
    )
    jax.effects_barrier()
    # Two tiles of four take up to eight steps, six take one; then one tile goes on.
    assert len(counted) < (2 * 8 + 6 * 1 + 25) * 4


def test_no_steps_at_all():
    result = run(ALWAYS._replace(steps=0), 3)
    np.testing.assert_array_equal(result["place"], examples(3)["from"])


def test_equal_loops_compile_once():
    traces = []

    def traced(params, key, example, state):
        traces.append(1)
        return step(params, key, example, state)

    for scale in (1.0, 2.0):
        loop = ALWAYS._replace(step=traced)
        loops.map_loop(loop, jnp.float32(scale), examples(3), key=KEY)
    # It tells how much memory an example needs, and is what is compiled.
    assert len(traces) == 1


def test_no_form_is_the_compiled_one():
    one, other = (run(ALWAYS, 3, form=form) for form in (None, "scan"))
    np.testing.assert_array_equal(one["place"], other["place"])


def test_a_wrong_form_is_refused():
    with pytest.raises(UsageError, match="loop is 'fori'; allowed: scan, python"):
        run(ALWAYS, 3, form="fori")
