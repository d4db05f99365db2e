import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.core.once import Once, of_jaxpr, shapes_of

X = jnp.arange(3.0)


@dataclasses.dataclass(frozen=True)
class Counted:
    power: int
    runs: list = dataclasses.field(compare=False)

    def __call__(self, x):
        self.runs.append(1)
        return jnp.sum(x**self.power)


def test_equal_functions_are_traced_once_for_a_shape():
    runs = []
    values = jax.jit(Once(Counted(2, runs)))(X)
    slopes = jax.jit(jax.grad(Once(Counted(2, runs))))(X)
    many = jax.jit(jax.vmap(jax.grad(Once(Counted(2, runs)))))(X[None] * 2)
    assert (float(values), len(runs)) == (5.0, 1)
    np.testing.assert_array_equal(slopes, 2 * X)
    np.testing.assert_array_equal(many[0], 4 * X)
    jax.jit(Once(Counted(2, runs)))(X[:2])
    jax.jit(Once(Counted(3, runs)))(X)
    assert len(runs) == 3


def test_a_program_is_what_it_is_without_it():
    def plain(x):
        return jnp.sin(x).sum()

    def text(function):
        # As XLA is given it: when calls are put in line differs by JAX's version.
        lowered = jax.jit(jax.grad(function)).lower(X).as_text()
        return lowered.partition("\n")[2]  # the first line has the function's name

    assert text(Once(plain)) == text(plain) != ""


def test_a_program_is_looked_at_once_for_a_shape():
    looks = []

    def look(closed):
        looks.append(1)
        return len(closed.jaxpr.eqns)

    assert of_jaxpr(look, jnp.negative, X) == 1
    assert of_jaxpr(look, jnp.negative, X + 1) == 1
    assert len(looks) == 1


def test_shapes_are_those_that_jax_has():
    one, many = shapes_of((1.0, np.zeros((4, 2), np.float64))), shapes_of([X], 1)
    assert [leaf.shape for leaf in (*one, *many)] == [(), (4, 2), ()]
    assert one[1].dtype == X.dtype
