import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import region


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [1e-3, 0.01, 0.1, 0.3, 2.0])
def test_rounding_never_leaves_the_ball_or_the_box(norm, epsilon):
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(28, 28, 1)).astype(np.float32)
    candidate = image + rng.normal(size=image.shape).astype(np.float32)
    result = np.asarray(
        region.projection(jnp.asarray(image), epsilon, norm)(jnp.asarray(candidate))
    )
    delta = result.astype(np.float64) - image
    distance = np.abs(delta).max() if norm == "linf" else np.linalg.norm(delta)
    assert distance <= epsilon * (1 + 1e-6)
    assert result.min() >= 0 and result.max() <= 1
    if norm == "linf" and epsilon < 1:
        assert distance >= epsilon - 1e-7


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_radius_zero_gives_the_image_back(norm):
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(5, 5, 3)), jnp.float32)
    project = region.projection(image, 0.0, norm)
    np.testing.assert_array_equal(project(image), image)
    np.testing.assert_array_equal(project(image + 0.3), image)


def test_inside_both_nothing_moves():
    image = jnp.full((2, 2, 1), 0.5)
    candidate = image + jnp.array([0.05, -0.05, 0.0, 0.01]).reshape(2, 2, 1)
    for norm in ("linf", "l2"):
        np.testing.assert_allclose(
            region.projection(image, 0.2, norm)(candidate), candidate, rtol=1e-7
        )
