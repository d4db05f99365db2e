import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core import norms


@pytest.mark.parametrize(
    ("kind", "expected"), [("linf", 4.0), ("l2", 5.0), ("l1", 7.0), ("l0", 2.0)]
)
def test_norm_is_plain(kind, expected):
    assert norms.norm(jnp.array([[3.0, 0.0], [-4.0, 0.0]]), kind) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_with_64_bits_a_projection_keeps_its_type(kind, dtype):
    with jax.enable_x64(True):
        delta = jnp.array([3.0, 0.0, -4.0], dtype)
        projected = norms.project_ball(delta, jnp.ones((), dtype), kind)
        assert projected.dtype == dtype
        assert norms.norm(projected, kind) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_projection_is_the_nearest_point_of_the_ball(kind):
    rng = np.random.default_rng(0)
    delta = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    projected = norms.project_ball(delta, 0.7, kind)
    assert norms.norm(projected, kind) == pytest.approx(0.7, rel=1e-6)
    distance = jnp.linalg.norm(delta - projected)
    for _ in range(200):
        other = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
        other = projected + 0.05 * other
        other = other * (0.7 / jnp.maximum(norms.norm(other, kind), 0.7))
        assert jnp.linalg.norm(delta - other) >= distance - 1e-6


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_projection_leaves_the_inside_alone(kind):
    delta = jnp.array([0.1, -0.2, 0.05])
    np.testing.assert_array_equal(norms.project_ball(delta, 1.0, kind), delta)


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
@pytest.mark.parametrize("delta", [0.0, 2.0])
def test_a_ball_of_radius_zero_is_a_point(kind, delta):
    projected = norms.project_ball(jnp.full((3,), delta), 0.0, kind)
    np.testing.assert_array_equal(projected, np.zeros(3))


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_steepest_step_has_unit_norm_and_reaches_the_dual_norm(kind, scale):
    gradient = jnp.array([[1.0, -3.0], [2.0, 0.5]])
    step = norms.steepest_direction(scale * gradient, kind)
    dual = {"linf": 6.5, "l2": np.sqrt(14.25), "l1": 3.0}[kind]
    assert norms.norm(step, kind) == pytest.approx(1.0, rel=1e-6)
    assert jnp.sum(step * gradient) == pytest.approx(dual, rel=1e-6)


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_a_zero_gradient_gives_a_zero_step(kind):
    np.testing.assert_array_equal(
        norms.steepest_direction(jnp.zeros((2, 2)), kind), np.zeros((2, 2))
    )


def test_norms_are_per_example_under_vmap():
    batch = jnp.array([[3.0, 4.0], [30.0, 40.0]])
    projected = jax.vmap(lambda d: norms.project_ball(d, 10.0, "l2"))(batch)
    np.testing.assert_allclose(projected, [[3.0, 4.0], [6.0, 8.0]], rtol=1e-6)


@pytest.mark.parametrize("function", [norms.norm, norms.steepest_direction])
def test_an_unknown_norm_is_named(function):
    with pytest.raises(ValueError, match="'l7'"):
        function.__wrapped__(jnp.zeros(2), "l7")


def test_a_norm_without_projection_is_named():
    with pytest.raises(ValueError, match="no projection for norm 'l0'"):
        norms.project_ball(jnp.zeros(2), 1.0, "l0")
