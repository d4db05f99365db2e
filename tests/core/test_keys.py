import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.core import keys


def _data(key):
    return np.asarray(jax.random.key_data(key))


def test_streams_differ_by_name_and_repeat():
    root = jax.random.key(0)
    a, b = keys.stream(root, "attack"), keys.stream(root, "inversion")
    assert not np.array_equal(_data(a), _data(b))
    np.testing.assert_array_equal(_data(a), _data(keys.stream(root, "attack")))


def test_an_example_has_the_same_key_in_any_batch():
    root = jax.random.key(1)
    many = keys.per_example(root, jnp.array([4, 7, 9]))
    one = keys.per_example(root, jnp.array([7]))
    np.testing.assert_array_equal(_data(many[1]), _data(one[0]))
    assert len(np.unique(_data(many), axis=0)) == 3
