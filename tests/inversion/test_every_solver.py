"""Properties of every registered solver; a new solver needs a row in the table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import inversion
from robust_manifold.core.prior import Normal
from robust_manifold.inversion import (
    LBFGS,
    Adam,
    GradientDescent,
    InversionProblem,
    LevenbergMarquardt,
    Restarts,
    Status,
)

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
    "lbfgs": [LBFGS(steps=30), LBFGS(steps=60, memory=1)],
    "levenberg_marquardt": [
        LevenbergMarquardt(steps=3),
        LevenbergMarquardt(steps=4, linear="conjugate_gradients", iterations=4),
        LevenbergMarquardt(steps=8, damping=10.0),
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
    scale = np.abs(linear.latents).max()
    np.testing.assert_allclose(result.latent, linear.latents, rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(result.error, linear.errors, rtol=1e-5)
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
    np.testing.assert_allclose(
        few.restart_errors[:, 0], more.restart_errors[:, 0], rtol=1e-6
    )
    assert (more.error <= few.error * (1 + 1e-6)).all() and (
        more.error < few.error
    ).any()


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


@pytest.mark.parametrize(
    "solver",
    [
        GradientDescent(),
        Adam(),
        LBFGS(memory=1),
        LevenbergMarquardt(),
        # A loop's body is counted once, however often it runs.
        LevenbergMarquardt(linear="conjugate_gradients", iterations=1),
    ],
    ids=str,
)
def test_a_step_costs_the_passes_that_the_solver_says(solver):
    """Counted in operations of a generator beside which all else is nothing."""
    hidden = np.full((4, 512), 0.01, np.float32)
    middle = np.full((512, 512), 0.01, np.float32)

    def generate(latent):
        return (jnp.tanh(latent @ hidden) @ middle)[:4].reshape(2, 2, 1)

    def flops(function, *arguments):
        cost = jax.jit(function).lower(*arguments).compile().cost_analysis()
        return cost["flops"]

    start = jnp.zeros(4)
    problem = InversionProblem(generate, jnp.ones((2, 2, 1)))
    step = flops(
        lambda z, state: solver.step(problem, z, state), start, solver.init(start)
    )
    passes = step / flops(generate, start)
    assert passes == pytest.approx(solver.passes(4), abs=0.3)


@pytest.mark.parametrize("solver", FIRST, ids=str)
@pytest.mark.parametrize("text", ["box(reach=0.5)", "shell(0.0, 0.6)"])
def test_the_optimum_on_a_bound_is_found(solver, text):
    """Of a box where the generator stretches the axes; of a ball where it does not."""
    stretch = np.array([1.0, 1.5, 2.0] if text.startswith("box") else [1.0] * 3)
    rng = np.random.default_rng(3)
    images = rng.uniform(size=(6, 3, 1, 1)).astype(np.float32)
    latents = (images.reshape(6, 3) - 0.5) * 4 / stretch
    params = {
        "A": jnp.asarray(np.diag(stretch) / 4, jnp.float32),
        "b": jnp.full(3, 0.5),
    }
    if text.startswith("box"):
        expected = np.clip(latents, -0.5, 0.5)
    else:
        norms = np.linalg.norm(latents, axis=1, keepdims=True)
        expected = latents * np.minimum(1, 0.6 * np.sqrt(3) / norms)
    assert 0 < (np.abs(expected - latents).max(axis=1) > 1e-3).sum()
    if text.startswith("shell") and isinstance(solver, Adam):
        pytest.skip("Adam's steps by coordinate do not settle on a curved bound")
    steps = max(solver.steps, 100)
    found = inversion.invert(
        lambda p, z: (z @ p["A"] + p["b"]).reshape(3, 1, 1),
        params,
        images,
        key=KEY,
        latent_shape=(3,),
        solver=dataclasses.replace(solver, steps=steps, constraint=text),
        restarts=2,
    )
    # Along a curved bound the error is flat: the latents agree to its square root.
    least = np.mean((expected * stretch / 4 + 0.5 - images.reshape(6, 3)) ** 2, axis=1)
    np.testing.assert_allclose(found.error, least, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.latent, expected, atol=2e-3)


@pytest.mark.parametrize("solver", FIRST, ids=str)
def test_the_penalty_pulls_to_the_centre_as_in_ridge_regression(linear, solver):
    prior = Normal(0.5, 2.0)
    weight = 0.3
    found = _invert(linear, dataclasses.replace(solver, penalty=weight), prior=prior)
    matrix = np.asarray(linear.params["A"], float)
    residuals = linear.images.reshape(5, -1) - np.asarray(linear.params["b"])
    pixels, size = residuals.shape[1], len(matrix)
    ridge = weight / size / prior.deviation**2
    hessian = matrix @ matrix.T / pixels + ridge * np.eye(size)
    slope = residuals @ matrix.T / pixels + ridge * prior.mean
    expected = np.linalg.solve(hessian, slope.T).T
    np.testing.assert_allclose(found.latent, expected, atol=2e-4)
    # The error is that of the image alone.  Steps whose objectives tie to rounding
    # differ in the error, which is not at its minimum there.
    again = np.mean((np.asarray(found.image) - linear.images) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(found.error, again, rtol=1e-4)


@pytest.mark.parametrize("solver", FIRST, ids=str)
@pytest.mark.parametrize("text", ["box(reach=0.5)", "shell", "shell(0.0, 0.3)"])
def test_no_latent_leaves_the_constraint(linear, solver, text):
    prior = Normal(-0.5, 0.7)
    solver = dataclasses.replace(solver, steps=5, constraint=text)
    found = _invert(linear, solver, prior=prior)
    offsets = (np.asarray(found.latent) + 0.5) / 0.7
    if text.startswith("box"):
        assert np.abs(offsets).max() <= 0.5 + 1e-5
        return
    radii = np.linalg.norm(offsets, axis=1) / np.sqrt(3)
    low, high = (1, 1) if text == "shell" else (0, 0.3)
    assert (low - 1e-5 <= radii).all() and (radii <= high + 1e-5).all()


@pytest.mark.parametrize("solver", FIRST, ids=str)
def test_a_box_that_holds_the_optimum_changes_nothing(linear, solver):
    loose = dataclasses.replace(solver, constraint="box(reach=50.0)")
    one, two = _invert(linear, solver), _invert(linear, loose)
    np.testing.assert_allclose(one.latent, two.latent, atol=1e-5)


@pytest.mark.parametrize("solver", FIRST, ids=str)
def test_the_curves_are_those_of_fewer_steps(linear, solver):
    """For solvers whose steps do not know how many there will be."""
    if "schedule" in str(solver) or "decay" in str(solver):
        solver = Adam(steps=5)
    solver = dataclasses.replace(solver, steps=5)
    settings = {"restarts": 3, "latent_shape": (3,), "key": KEY}
    curves = inversion.error_curves(
        linear.generate, linear.params, linear.images, solver=solver, **settings
    )
    assert curves.shape == (5, 3, 6)
    for steps in (1, 3, 5):
        found = _invert(linear, dataclasses.replace(solver, steps=steps))
        np.testing.assert_allclose(
            curves[..., steps], found.restart_errors, rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", FIRST, ids=str)
def test_with_64_bits_the_images_type_is_kept(linear, solver, dtype):
    short = dataclasses.replace(solver, steps=4)
    images = np.asarray(linear.images[:2]).astype(dtype)
    with jax.enable_x64(True):
        found = inversion.invert(
            linear.generate,
            jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), linear.params),
            images,
            key=KEY,
            latent_shape=(3,),
            solver=short,
            restarts=Restarts(4, scale="unit", halve_at=(2,)),
        )
    assert found.latent.dtype == found.image.dtype == found.error.dtype == dtype
