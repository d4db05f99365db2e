import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import region


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("epsilon", [1e-3, 0.01, 0.1, 0.3, 2.0])
def test_rounding_never_leaves_the_ball_or_the_box(norm, epsilon):
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(28, 28, 1)).astype(np.float32)
    candidate = image + rng.normal(size=image.shape).astype(np.float32)
    result = np.asarray(
        region.projection(jnp.asarray(image), epsilon, norm)(jnp.asarray(candidate))
    )
    delta = result.astype(np.float64) - image
    orders = {"linf": np.inf, "l2": 2, "l1": 1}
    distance = np.linalg.norm(delta.ravel(), orders[norm])
    assert distance <= epsilon * (1 + 1e-6)
    assert result.min() >= 0 and result.max() <= 1
    if norm == "linf" and epsilon < 1:
        assert distance >= epsilon - 1e-7
    if norm == "l1":
        # A pixel near 1 is known to 6e-8.
        assert distance >= epsilon * (1 - 1e-5) - 1e-7


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_radius_zero_gives_the_image_back(norm):
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(5, 5, 3)), jnp.float32)
    project = region.projection(image, 0.0, norm)
    np.testing.assert_array_equal(project(image), image)
    np.testing.assert_array_equal(project(image + 0.3), image)


def test_inside_both_nothing_moves():
    image = jnp.full((2, 2, 1), 0.5)
    candidate = image + jnp.array([0.05, -0.05, 0.0, 0.01]).reshape(2, 2, 1)
    for norm in ("linf", "l2", "l1"):
        np.testing.assert_allclose(
            region.projection(image, 0.2, norm)(candidate), candidate, rtol=1e-7
        )


def _nearest_l1(image, candidate, epsilon):
    """Returns the nearest point of the ball and the box, tried piece by piece.

    The changes' sum is linear in the multiplier between the values at which an entry
    begins to move, or leaves the box.
    """
    delta = (candidate - image).ravel()
    wanted = np.abs(delta)
    room = np.where(delta > 0, 1 - image.ravel(), image.ravel())

    def changes(multiplier):
        return np.clip(wanted - multiplier, 0, room)

    if changes(0).sum() > epsilon:
        kinks = np.sort(np.concatenate([[0], wanted, np.maximum(wanted - room, 0)]))
        sums = np.array([changes(kink).sum() for kink in kinks])
        multiplier = np.interp(-epsilon, -sums, kinks)
    else:
        multiplier = 0.0
    moved = image.ravel() + np.sign(delta) * changes(multiplier)
    return moved.reshape(image.shape)


def _l1_cases():
    rng = np.random.default_rng(3)
    for epsilon in (0.01, 0.5, 3.0, 20.0):
        image = rng.uniform(size=(5, 5, 1))
        image[0], image[1] = 0.0, 1.0
        candidate = image + rng.normal(size=image.shape) * rng.choice([0.1, 1.0, 9.0])
        yield epsilon, image, candidate


def test_l1_gives_the_nearest_point():
    with jax.enable_x64(True):
        for epsilon, image, candidate in _l1_cases():
            project = region.projection(jnp.asarray(image), epsilon, "l1")
            expected = _nearest_l1(image, candidate, epsilon)
            np.testing.assert_allclose(project(candidate), expected, atol=1e-13)


def test_no_point_of_the_l1_ball_and_the_box_is_nearer():
    """The projection makes an angle of 90 degrees or more with all of the region."""
    rng = np.random.default_rng(4)
    with jax.enable_x64(True):
        for epsilon, image, candidate in _l1_cases():
            project = region.projection(jnp.asarray(image), epsilon, "l1")
            nearest = np.asarray(project(candidate))
            others = rng.dirichlet(np.ones(25) / 9, 500).reshape(-1, 5, 5, 1) * epsilon
            others = image + others * rng.choice([-1, 1], others.shape)
            # The box holds some back, which leaves them in the ball.
            others = np.clip(others, 0, 1)
            angles = np.sum((candidate - nearest) * (others - nearest), axis=(1, 2, 3))
            assert angles.max() <= 1e-9


def test_l1_moves_the_entries_with_the_most_to_gain_until_the_box_ends_them():
    image = jnp.array([0.9, 0.5, 0.5, 0.5]).reshape(2, 2, 1)
    delta = jnp.array([5.0, 0.6, -0.4, 0.1]).reshape(2, 2, 1)
    moved = region.projection(image, 0.4, "l1")(image + delta)
    # 0.1 is all the room of the first; 0.35 off the others leaves 0.25 and 0.05.
    np.testing.assert_allclose(moved.ravel(), [1.0, 0.75, 0.45, 0.5], atol=2e-6)


@pytest.mark.parametrize("size", [30.0, 1e4, 1e8])
def test_large_steps_stay_in_the_l1_ball(size):
    image = jax.random.uniform(jax.random.key(0), (32, 32, 3))
    moved = image + size * jax.random.normal(jax.random.key(1), image.shape)
    projected = region.projection(image, 0.5, "l1")(moved)
    change = np.asarray(projected, np.float64) - np.asarray(image, np.float64)
    assert np.abs(change).sum() <= 0.5 * (1 + 1e-6)


@pytest.mark.parametrize("norm", ["l0", "pixels"])
def test_of_too_many_changes_the_largest_are_kept(norm):
    image = np.full((2, 2, 2), 0.5, np.float32)
    change = np.array([0.1, 0.1, 0.2, 0.0, 0.15, 0.15, -0.4, 0.0], np.float32)
    candidate = image + change.reshape(image.shape)
    kept = {
        # Values: 0.4, 0.2 and the first 0.15.  Pixels: 0.4 and 0.15 + 0.15.
        ("l0", 3): [0, 0, 0.2, 0, 0.15, 0, -0.4, 0],
        ("pixels", 3): [0.1, 0.1, 0, 0, 0.15, 0.15, -0.4, 0],
        ("pixels", 2): [0, 0, 0, 0, 0.15, 0.15, -0.4, 0],
    }
    for (kind, most), expected in kept.items():
        if kind == norm:
            made = region.projection(jnp.asarray(image), most + 0.5, norm)(
                jnp.asarray(candidate)
            )
            found = np.asarray(made).ravel() - 0.5
            np.testing.assert_allclose(found, expected, atol=1e-6)
    outside = region.projection(jnp.asarray(image), 8.0, norm)(jnp.asarray(image + 2))
    np.testing.assert_array_equal(outside, np.ones_like(image))
