"""Properties of every registered solver; a new solver needs a row in the table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import inversion
from robust_manifold.inversion import Adam, GradientDescent, Status

# The mean over 20 pixels of a matrix with singular values up to 2 has curvature 0.4.
SOLVERS = {
    "gradient_descent": [
        GradientDescent(steps=400, learning_rate=2.0),
        GradientDescent(steps=400, learning_rate=2.0, momentum=0.0, decay=1.0),
    ],
    "adam": [
        Adam(steps=800, learning_rate=0.05, schedule="cosine"),
        Adam(steps=3000, learning_rate=0.01),
    ],
}
ALL = [solver for solvers in SOLVERS.values() for solver in solvers]
FIRST = [solvers[0] for solvers in SOLVERS.values()]
KEY = jax.random.key(0)


def _invert(linear, solver, rows=slice(None), **kwargs):
    settings = {"restarts": 3, "latent_shape": (3,)} | kwargs
    return inversion.invert(
        linear.generate,
        linear.params,
        linear.images[rows],
        key=KEY,
        solver=solver,
        **settings,
    )


def test_no_solver_is_left_out():
    assert sorted(SOLVERS) == inversion.registry.names


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_specs_are_values(solver):
    text = inversion.registry.to_string(solver)
    assert inversion.registry.build(text) == solver
    assert hash(inversion.registry.build(text)) == hash(solver)
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.steps = 1


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_a_linear_generator_is_inverted_exactly(linear, solver):
    result = _invert(linear, solver)
    np.testing.assert_allclose(result.latent, linear.latents, atol=1e-4)
    np.testing.assert_allclose(result.error, linear.errors, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(result.status, [Status.FINISHED] * 5)
    assert result.restart_errors.shape == (5, 3)
    np.testing.assert_array_equal(result.error, result.restart_errors.min(axis=1))


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_the_error_is_that_of_the_latent_and_of_the_image(linear, solver):
    solver = dataclasses.replace(solver, steps=3)
    result = _invert(linear, solver)
    again = jax.vmap(lambda z: linear.generate(linear.params, z))(result.latent)
    np.testing.assert_allclose(result.image, again, atol=1e-6)
    error = np.mean((np.asarray(again) - linear.images) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(result.error, error, rtol=1e-5)


@pytest.mark.parametrize("solver", FIRST, ids=str)
def test_more_steps_and_restarts_are_never_worse(linear, solver):
    few = _invert(linear, dataclasses.replace(solver, steps=2), restarts=1)
    more = _invert(linear, dataclasses.replace(solver, steps=2), restarts=4)
    np.testing.assert_array_equal(few.restart_errors[:, 0], more.restart_errors[:, 0])
    assert (more.error <= few.error).all() and (more.error < few.error).any()


@pytest.mark.parametrize("solver", FIRST, ids=str)
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_the_batch_size_changes_nothing(linear, solver, batch_size):
    solver = dataclasses.replace(solver, steps=20)
    expected = _invert(linear, solver, batch_size=5)
    result = _invert(linear, solver, batch_size=batch_size)
    for one, two in zip(result, expected, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("solver", FIRST, ids=str)
def test_an_image_does_not_know_its_batch_mates(linear, solver):
    solver = dataclasses.replace(solver, steps=20)
    together = _invert(linear, solver)
    alone = _invert(linear, solver, slice(3, 4), ids=np.array([3]))
    np.testing.assert_allclose(alone.latent[0], together.latent[3], atol=1e-6)
    np.testing.assert_allclose(
        alone.restart_errors[0], together.restart_errors[3], atol=1e-6
    )


def _cliff(params, latent):
    """Finite below 0 only; the way to the image leads over the edge."""
    pixel = jnp.where(latent[0] < 0, latent[0], jnp.nan)
    return params * pixel.reshape(1, 1, 1)


def _nowhere(params, latent):
    return params * jnp.nan * latent.reshape(1, 1, 1)


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_a_non_finite_iterate_never_becomes_the_best(solver):
    image, start = jnp.ones((1, 1, 1)), jnp.full((1,), -0.5)
    solution = solver(lambda z: _cliff(1.0, z), image, start)
    assert solution.status == Status.NON_FINITE
    assert -0.5 < float(solution.latent[0]) < 0 or float(solution.error) == 2.25
    assert float(solution.error) <= 1.5**2
    assert float(solution.error) == pytest.approx(
        (float(solution.latent[0]) - 1) ** 2, rel=1e-5
    )


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_a_generator_that_is_never_finite_leaves_the_start(solver):
    result = inversion.invert(
        _nowhere,
        jnp.float32(1.0),
        np.ones((2, 1, 1, 1), np.float32),
        key=KEY,
        solver=solver,
        restarts=2,
        latent_shape=(1,),
    )
    np.testing.assert_array_equal(result.status, [Status.NON_FINITE] * 2)
    assert np.isinf(result.error).all() and np.isinf(result.restart_errors).all()
    assert np.isfinite(result.latent).all()


@pytest.mark.parametrize("solver", FIRST, ids=str)
def test_one_evaluation_a_step_and_one_at_the_end(solver):
    calls = []

    def generate(latent):
        jax.debug.callback(lambda _: calls.append(1), latent.sum())
        return latent.reshape(1, 1, 1)

    solver = dataclasses.replace(solver, steps=6)
    jax.jit(lambda z: solver(generate, jnp.ones((1, 1, 1)), z))(jnp.zeros(1))
    jax.effects_barrier()
    assert len(calls) == 7
