"""The derivative by the implicit function theorem: where it holds, and where not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Manifold
from robust_manifold.core.prior import ClassesInTurn, Normal
from robust_manifold.inversion import (
    LBFGS,
    ImplicitDerivative,
    ImplicitOutcome,
    InversionProblem,
    LevenbergMarquardt,
    Restarts,
    Search,
)
from tests.inversion import curved

KEY = jax.random.key(0)
DENSE = ImplicitDerivative(linear="dense")
MATRIX_FREE = ImplicitDerivative(linear="conjugate_gradients")


def _logits(derivative, solver):
    search = Search(solver, Restarts(2))
    return lambda image: curved.classify(
        derivative(search, curved.manifold(), image, KEY).image
    )


@pytest.mark.parametrize(
    "solver",
    [
        LevenbergMarquardt(60),
        LevenbergMarquardt(60, penalty=0.05, constraint="box(reach=0.4)"),
        LBFGS(200, constraint="shell(inner=0.3, outer=0.3)"),
    ],
    ids=str,
)
def test_it_is_the_derivative_of_the_minimum(solver):
    with jax.enable_x64(True):
        expected = curved.differences(_logits(DENSE, solver), curved.IMAGE)
        for derivative in (DENSE, MATRIX_FREE):
            found = curved.jacobian(_logits(derivative, solver), curved.IMAGE)
            assert curved.distance(found, expected) < 1e-4


def test_gauss_newton_leaves_curvature_out():
    """Off the range it is another derivative: a test that takes it for exact fails."""
    solver = LevenbergMarquardt(60)
    with jax.enable_x64(True):
        exact = curved.jacobian(_logits(DENSE, solver), curved.IMAGE)
        for linear in ("dense", "conjugate_gradients"):
            short = ImplicitDerivative("gauss_newton", linear)
            found = curved.jacobian(_logits(short, solver), curved.IMAGE)
            assert 1e-2 < curved.distance(found, exact) < 1


@pytest.mark.parametrize("derivative", [DENSE, MATRIX_FREE], ids=["dense", "cg"])
@pytest.mark.parametrize("hessian", ["exact", "gauss_newton"])
def test_of_a_linear_generator_it_is_the_pseudoinverse(linear, derivative, hessian):
    derivative = dataclasses.replace(derivative, hessian=hessian)
    manifold = Manifold(lambda z: linear.generate(linear.params, z), (3,))
    search = Search(LevenbergMarquardt(6), Restarts(1))

    def latent(image):
        return derivative(search, manifold, image, KEY).latent

    for mode in (jax.jacrev, jax.jacfwd):
        found = jax.jit(mode(latent))(jnp.asarray(linear.images[0])).reshape(3, 20)
        expected = np.linalg.pinv(np.asarray(linear.params["A"], float).T)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_is_returned_is_what_was_found():
    search = Search(LBFGS(20), Restarts(3))
    image = jnp.asarray(curved.IMAGE, jnp.float32)
    plain = jax.jit(lambda x: search(curved.manifold(), x, KEY))(image)
    found = jax.jit(lambda x: DENSE(search, curved.manifold(), x, KEY))(image)
    np.testing.assert_array_equal(found.latent, plain.latent)
    np.testing.assert_array_equal(found.restart_errors, plain.restart_errors)
    np.testing.assert_allclose(found.image, plain.image, rtol=1e-6)
    np.testing.assert_allclose(found.error, plain.error, rtol=1e-5)


def _problem(generate, value):
    return InversionProblem(generate, jnp.full((1, 1, 1), value))


def _square(latent):
    return (latent**2).sum().reshape(1, 1, 1)


def _root(latent):
    return jnp.sqrt(latent).sum().reshape(1, 1, 1)


@pytest.mark.parametrize("derivative", [DENSE, MATRIX_FREE], ids=["dense", "cg"])
@pytest.mark.parametrize(
    "generate, latent, outcome",
    [
        (_square, [1.0], ImplicitOutcome.SOLVED),
        (_square, [0.1], ImplicitOutcome.NOT_A_MINIMUM),
        (_root, [0.0], ImplicitOutcome.NON_FINITE),
    ],
)
def test_it_tells_whether_the_theorem_holds(derivative, generate, latent, outcome):
    """The distance of z^2 from 1 falls from a saddle at 0 to minima at 1 and -1."""
    report = jax.jit(lambda z: derivative.report(_problem(generate, 1.0), z))(
        jnp.array(latent)
    )
    assert report.outcome == outcome, ImplicitOutcome(int(report.outcome)).message


def test_it_tells_how_far_off_the_minimum_is():
    """Newton's step on (z^2 - 1)^2: slope 4 z (z^2 - 1), curvature 12 z^2 - 4."""
    for derivative in (DENSE, MATRIX_FREE):
        report = derivative.report(_problem(_square, 1.0), jnp.array([1.1]))
        np.testing.assert_allclose(report.slope, 0.924, rtol=1e-5)
        np.testing.assert_allclose(report.least, 10.52, rtol=1e-5)
        np.testing.assert_allclose(report.move, 0.924 / 10.52, rtol=1e-5)


def test_too_few_iterations_are_told():
    scales = jnp.array([1.0, 3.0, 10.0])
    problem = InversionProblem(
        lambda z: (scales * z).reshape(3, 1, 1), jnp.ones((3, 1, 1))
    )
    for iterations, outcome in [
        (1, ImplicitOutcome.NOT_SOLVED),
        (3, ImplicitOutcome.SOLVED),
    ]:
        derivative = dataclasses.replace(MATRIX_FREE, iterations=iterations)
        assert derivative.report(problem, jnp.zeros(3)).outcome == outcome


@pytest.mark.parametrize("derivative", [DENSE, MATRIX_FREE], ids=["dense", "cg"])
def test_a_slope_that_is_not_finite_leaves_the_latent_alone(derivative):
    latent = jnp.zeros(1)

    def attached(image):
        return derivative.attach(InversionProblem(_root, image), latent)

    np.testing.assert_array_equal(attached(jnp.ones((1, 1, 1))), latent)


@pytest.mark.parametrize("derivative", [DENSE, MATRIX_FREE], ids=["dense", "cg"])
def test_directions_that_change_nothing_stay(derivative):
    """A flat direction, and the entries that choose a class: neither is divided by."""
    prior = ClassesInTurn(Normal(), 2)

    def attached(image):
        problem = InversionProblem(lambda z: (2 * z[0]).reshape(1, 1, 1), image, prior)
        return derivative.attach(problem, jnp.array([0.3, 0.7, 1.0, 0.0]))

    found = jax.jit(jax.jacrev(attached))(jnp.ones((1, 1, 1))).reshape(4)
    np.testing.assert_allclose(found, [0.5, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    "field, value",
    [("damping", 0.0), ("damping", 1.0), ("iterations", 0)],
)
def test_fields_are_checked(field, value):
    with pytest.raises(UsageError, match=f"{field} is {value!r}; allowed"):
        ImplicitDerivative(**{field: value})
