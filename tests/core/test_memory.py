import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.core import batching, memory


def _chain(x):
    """Three arrays of 4,000 bytes one after the other; two live at a time."""
    return jnp.sin(jnp.cos(jnp.exp(x)))


def test_what_is_dead_counts_no_more():
    x = jax.ShapeDtypeStruct((1000,), jnp.float32)
    assert memory.peak_bytes(_chain, x) == 8000


def test_bodies_of_loops_count():
    def loop(x):
        return jax.lax.scan(lambda c, _: (_chain(c), None), x, length=100)[0]

    x = jax.ShapeDtypeStruct((1000,), jnp.float32)
    assert 8000 <= memory.peak_bytes(loop, x) <= 16000


def test_arguments_do_not_count():
    x = jax.ShapeDtypeStruct((1000,), jnp.float32)
    assert memory.peak_bytes(jnp.sum, x) == 4


@dataclasses.dataclass(frozen=True)
class Wide:
    """Needs some times `floats` numbers an example."""

    floats: int
    tiled = True

    def __call__(self, params, key, example):
        return jnp.sum(jnp.sin(example + jnp.arange(self.floats, dtype=jnp.float32)))


def test_a_tile_follows_from_memory_not_from_the_examples(monkeypatch):
    monkeypatch.setattr(memory, "_CPU_BUDGET", 100_000)
    for n in (1, 50):
        examples = np.zeros(n, np.float32)
        assert batching.default_tile(Wide(10), (), examples) == batching.TILES["cpu"]
        # Two or three arrays of 8,000 bytes: 4 to 6 examples, down to a power of two.
        assert batching.default_tile(Wide(2000), (), examples) == 4
        assert batching.default_tile(Wide(10**6), (), examples) == 1


def test_chunks_are_of_one_size():
    size = batching.default_batch_size(Wide(10), (), np.zeros(300, np.float32))
    assert size == 150
