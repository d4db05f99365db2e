"""Outlines: their areas, by the formula of a regular polygon, and their edges."""

import math

import numpy as np
import pytest

from robust_manifold.core.outlines import FRAME, OUTLINES, coverage, edges

SIDES = {
    "disc": 48,
    "octagon": 8,
    "square": 4,
    "diamond": 4,
    "triangle": 3,
    "inverted_triangle": 3,
}


@pytest.mark.parametrize("name", OUTLINES)
def test_the_area_is_that_of_a_regular_polygon(name):
    side, count = 256, SIDES[name]
    expected = count / 2 * math.sin(2 * math.pi / count) * (FRAME * side / 2) ** 2
    assert coverage(name, side, side).sum() == pytest.approx(expected, rel=0.01)
    half = coverage(name, side, side, size=0.5).sum()
    assert half == pytest.approx(expected / 4, rel=0.01)


@pytest.mark.parametrize("name", OUTLINES)
def test_every_vertex_lies_on_two_edges_and_inside_all_others(name):
    normals, distances = edges(name)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    beyond = OUTLINES[name] @ normals.T - distances
    assert beyond.max() < 1e-12
    assert (np.sum(np.abs(beyond) < 1e-12, axis=1) == 2).all()


def test_what_points_up_points_up():
    up, down = (coverage(f"{name}triangle", 32, 32) for name in ("", "inverted_"))
    assert up[:16].sum() < up[16:].sum()
    np.testing.assert_array_equal(up, down[::-1])
