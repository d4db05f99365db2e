import dataclasses
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core import batching
from robust_manifold.core.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Noisy:
    """Adds noise to an example, and counts its own traces."""

    scale: float
    traces: ClassVar[list] = []

    def __call__(self, params, key, example):
        self.traces.append(self.scale)
        noise = jax.random.normal(key, example.shape)
        return {"sum": params * example + self.scale * noise, "half": example[0] / 2}


def _map(function, examples, **kwargs):
    return batching.map_examples(
        function, jnp.float32(2.0), examples, key=jax.random.key(0), **kwargs
    )


EXAMPLES = np.arange(20, dtype=np.float32).reshape(10, 2)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 100, None])
def test_the_batch_size_changes_nothing(batch_size):
    chex.assert_trees_all_equal(
        _map(Noisy(1.0), EXAMPLES, batch_size=batch_size),
        _map(Noisy(1.0), EXAMPLES, batch_size=10),
    )


def test_values_and_order():
    result = _map(Noisy(0.0), EXAMPLES, batch_size=4)
    np.testing.assert_array_equal(result["sum"], 2 * EXAMPLES)
    np.testing.assert_array_equal(result["half"], EXAMPLES[:, 0] / 2)


def test_the_key_follows_the_id():
    everything = _map(Noisy(1.0), EXAMPLES)
    rows = np.array([7, 2])
    some = _map(Noisy(1.0), EXAMPLES[rows], ids=rows)
    chex.assert_trees_all_equal(some, jax.tree.map(lambda a: a[rows], everything))
    other = _map(Noisy(1.0), EXAMPLES[rows], ids=rows + 1)
    assert not np.array_equal(other["sum"], some["sum"])


def test_equal_functions_compile_once():
    scale = 0.125
    for _ in range(3):
        _map(Noisy(scale), EXAMPLES, batch_size=3)
    assert Noisy.traces.count(scale) == 1
    _map(Noisy(scale / 2), EXAMPLES, batch_size=3)
    assert Noisy.traces.count(scale / 2) == 1


def test_progress_is_reported_after_each_chunk():
    calls = []
    _map(Noisy(0.0), EXAMPLES, batch_size=4, on_chunk=lambda *a: calls.append(a))
    assert calls == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize(
    ("examples", "kwargs", "words"),
    [
        ((EXAMPLES, EXAMPLES[:3]), {}, "leading axes"),
        (np.float32(1.0), {}, "leading axes"),
        (EXAMPLES[:0], {}, "0 examples"),
        (EXAMPLES, {"batch_size": 0}, "batch_size is 0"),
        (EXAMPLES, {"ids": np.arange(3)}, "ids have shape (3,)"),
        (EXAMPLES, {"ids": np.arange(11)}, "ids have shape (11,)"),
        (EXAMPLES, {"ids": np.arange(10) * 1.0}, "type float64"),
        (EXAMPLES, {"ids": np.arange(10) - 1}, "ids lie in [-1, 8]"),
        (EXAMPLES, {"ids": np.arange(10) + 2**40}, "allowed: 0 to 2**31 - 1"),
    ],
)
def test_bad_calls_give_one_sentence(examples, kwargs, words):
    with pytest.raises(UsageError) as error:
        _map(Noisy(0.0), examples, **kwargs)
    assert words in str(error.value)


def test_local_rows_become_arrays_over_all_devices():
    tree = {"a": EXAMPLES, "b": np.arange(10)}
    chex.assert_trees_all_equal(batching.shard_local(tree), tree)
    assert batching.shard_local(tree)["a"].sharding.mesh == batching.data_mesh()
