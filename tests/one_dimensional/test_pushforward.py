"""The distribution of a generator on the line, against closed forms."""

import numpy as np

from robust_manifold.one_dimensional import pushforward

KNOTS = np.linspace(-1, 1, 4097)
EDGES = np.linspace(-3, 3, 121)


def test_a_line_carries_a_uniform_latent_to_a_uniform_number():
    masses = pushforward.masses(EDGES, 2 * KNOTS)
    inside = np.abs((EDGES[1:] + EDGES[:-1]) / 2) < 2
    np.testing.assert_allclose(masses[1:-1], np.where(inside, 1 / 80, 0), atol=1e-12)
    assert masses[0] == masses[-1] == 0


def test_folds_add_up():
    # |z| of a uniform z in [-1, 1] is uniform in [0, 1].
    masses = pushforward.masses(EDGES, np.abs(KNOTS))
    middle = (EDGES[1:] + EDGES[:-1]) / 2
    inside = (middle > 0) & (middle < 1)
    np.testing.assert_allclose(masses[1:-1], np.where(inside, 1 / 20, 0), atol=1e-12)


def test_a_constant_is_one_point_and_nothing_is_lost_outside():
    masses = pushforward.masses(EDGES, np.full(5, 0.51))
    assert masses.max() == masses.sum() == 1
    np.testing.assert_allclose(pushforward.masses(EDGES, 9 * KNOTS)[[0, -1]], 1 / 3)


def test_total_variation():
    first, second = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.5, 0.5])
    assert pushforward.total_variation(first, second) == 0.5
    assert pushforward.total_variation(first, first) == 0
    assert pushforward.total_variation(np.array([1, 0.0]), np.array([0.0, 1])) == 1


def test_the_smallest_set_with_a_share():
    density = np.array([0.1, 0.4, 0.3, 0.2])
    chosen = pushforward.highest_density(density, 0.69)
    np.testing.assert_array_equal(chosen, [False, True, True, False])
    assert pushforward.highest_density(density, 1.0).all()
