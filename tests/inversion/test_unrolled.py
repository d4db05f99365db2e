"""The derivative through every step, and what it keeps in memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.manifold import Manifold
from robust_manifold.inversion import (
    LBFGS,
    Adam,
    GradientDescent,
    ImplicitDerivative,
    LevenbergMarquardt,
    Restarts,
    Search,
    Status,
    unrolled,
)
from robust_manifold.inversion.unrolled import repeated
from tests.inversion import curved

KEY = jax.random.key(0)


def _logits(search):
    return lambda image: curved.classify(
        unrolled(search, curved.manifold(), image, KEY).image
    )


@pytest.mark.parametrize(
    "search",
    [
        Search(GradientDescent(23, 3.0), Restarts(2)),
        Search(Adam(17, 0.05, "cosine"), Restarts(4, halve_at=(3, 9))),
        Search(LBFGS(30), Restarts(2, enough=0.03)),
    ],
    ids=str,
)
def test_it_is_the_derivative_of_what_is_computed(search):
    """Whether or not the steps have come to an end, of the search as it stands."""
    with jax.enable_x64(True):

        def plain(image):
            return curved.classify(search(curved.manifold(), image, KEY).image)

        expected = curved.differences(plain, curved.IMAGE, 1e-5)
        found = curved.jacobian(_logits(search), curved.IMAGE)
        assert curved.distance(found, expected) < 1e-4


@pytest.mark.parametrize(
    "search",
    [
        pytest.param(
            Search(
                LevenbergMarquardt(60, linear="conjugate_gradients"),
                Restarts(4, halve_at=(2, 4)),
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(Search(LBFGS(60), Restarts(2)), marks=pytest.mark.slow),
        Search(GradientDescent(1500, 5.0), Restarts(2)),
    ],
    ids=str,
)
def test_at_a_minimum_it_is_the_implicit_one(search):
    """And both are what central differences say."""
    implicit = ImplicitDerivative()
    with jax.enable_x64(True):

        def by_theorem(image):
            found = implicit(search, curved.manifold(), image, KEY)
            return curved.classify(found.image)

        expected = curved.differences(by_theorem, curved.IMAGE)
        unrolling = curved.jacobian(_logits(search), curved.IMAGE)
        theorem = curved.jacobian(by_theorem, curved.IMAGE)
        assert curved.distance(unrolling, expected) < 1e-4
        assert curved.distance(theorem, expected) < 1e-4
        assert curved.distance(unrolling, theorem) < 1e-4


def test_what_is_returned_is_what_was_found():
    search = Search(LBFGS(12), Restarts(4, halve_at=(5,)))
    image = jnp.asarray(curved.IMAGE, jnp.float32)
    plain = jax.jit(lambda x: search(curved.manifold(), x, KEY))(image)
    found = jax.jit(lambda x: unrolled(search, curved.manifold(), x, KEY))(image)
    np.testing.assert_array_equal(found.restart_errors, plain.restart_errors)
    np.testing.assert_allclose(found.latent, plain.latent, rtol=1e-3)
    np.testing.assert_allclose(found.error, plain.error, rtol=1e-5)


def test_one_that_had_enough_stops_where_the_search_did():
    """Though another restart than the one that ended the search may be returned."""
    search = Search(Adam(12, 0.3), Restarts(4, enough=0.035))
    image = jnp.asarray(curved.IMAGE, jnp.float32)

    @jax.jit
    @jax.vmap
    def both(key):
        plain = search(curved.manifold(), image, key)
        return plain, unrolled(search, curved.manifold(), image, key)

    plain, found = both(jax.random.split(jax.random.key(3), 80))
    assert (plain.status == Status.ENOUGH).mean() > 0.9
    np.testing.assert_allclose(found.image, plain.image, atol=1e-4)


def test_a_restart_that_breaks_does_not_touch_the_winner():
    """Its steps are not finite, nor is their derivative; the winner's are."""

    def generate(latent):
        # Beyond 0 the slope is infinite before long.
        return jnp.exp(jnp.exp(9 * latent)).reshape(1, 1, 1)

    def encode(image):
        # The first start is good; the second is drawn about it, far away.
        return jnp.concatenate([-1 + 0 * image.reshape(1), jnp.full(1, 9.0)])

    manifold = Manifold(generate, (1,), encode=encode)
    search = Search(GradientDescent(5, 1e-3), Restarts(6, encoded=6))
    image = jnp.full((1, 1, 1), 0.9)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def differentiated(image):
        found = unrolled(search, manifold, image, KEY)
        return found.error, found.restart_errors

    gradient, errors = differentiated(image)
    assert not jnp.isfinite(errors).all()
    assert jnp.isfinite(gradient).all() and (gradient != 0).all()


MATRIX = np.random.default_rng(1).normal(size=(3, 12)).astype(np.float32) / 3
WEIGHTS = np.linspace(-1, 1, 12).astype(np.float32)


def _slope_by_image(solver, image, scales=(1.0, 1.0, 1.0)):
    """The gradient of a sum over G(z*) of a linear G, its one start at 0."""

    def generate(latent):
        return (latent * jnp.array(scales) @ MATRIX + 0.5).reshape(3, 4, 1)

    manifold, search = Manifold(generate, (3,)), Search(solver, Restarts(1, scale=0.0))

    def total(image):
        return unrolled(search, manifold, image, KEY).image.reshape(-1) @ WEIGHTS

    return jax.jit(jax.grad(total))(jnp.asarray(image, jnp.float32)).reshape(-1)


@pytest.mark.parametrize("solver", [Adam(3), LBFGS(3)], ids=str)
def test_an_image_that_is_met_exactly_has_a_derivative(solver):
    """Its error has no slope at all: roots and norms of 0 must not make it NaN."""
    assert jnp.isfinite(_slope_by_image(solver, np.full((3, 4, 1), 0.5))).all()


def test_a_latent_without_effect_has_none_on_the_derivative():
    found = _slope_by_image(Adam(3), curved.IMAGE, (1.0, 1.0, 0.0))
    assert jnp.isfinite(found).all() and (found != 0).any()


def test_a_start_at_0_has_a_derivative():
    """That of the projection, by the pseudoinverse."""
    found = _slope_by_image(LBFGS(12), curved.IMAGE)
    expected = np.linalg.pinv(MATRIX) @ MATRIX @ WEIGHTS
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 12])
def test_what_is_computed_again_is_the_same(steps):
    def step(state):
        return jnp.sin(3 * state) + state

    def plain(state):
        for _ in range(steps):
            state = step(state)
        return state

    value, slope = jax.value_and_grad(lambda s: repeated(step, s, steps))(0.3)
    expected, expected_slope = jax.value_and_grad(plain)(0.3)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-4)


def _bytes(steps, rematerialise):
    """Scratch memory of a compiled gradient; nothing is run."""
    search = Search(GradientDescent(steps), Restarts(2))

    def generate(latent):
        return jnp.tanh(latent.reshape(16, 16, 1))

    def error(image):
        manifold = Manifold(generate, (256,))
        return unrolled(search, manifold, image, KEY, rematerialise=rematerialise).error

    image = jax.ShapeDtypeStruct((16, 16, 1), jnp.float32)
    compiled = jax.jit(jax.grad(error)).lower(image).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_grows_as_the_square_root_of_the_steps():
    """Four times the steps, twice the memory; four times without computing again."""
    base, few, many = (_bytes(steps, True) for steps in (4, 256, 1024))
    assert (many - base) / (few - base) < 2.4
    base, few, many = (_bytes(steps, False) for steps in (4, 256, 1024))
    assert (many - base) / (few - base) > 3.6
