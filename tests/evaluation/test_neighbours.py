import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import nearest_neighbours, neighbours

RNG = np.random.default_rng(0)
IMAGES = RNG.random((50, 4, 5, 3)).astype(np.float32)
QUERIES = RNG.random((7, 4, 5, 3)).astype(np.float32)


def naive(queries, images):
    distances = [[np.linalg.norm((q - x).ravel()) for x in images] for q in queries]
    return np.argmin(distances, axis=1), np.min(distances, axis=1)


@pytest.mark.parametrize("block", [1, 100, 2**22])
def test_neighbours_are_those_of_a_loop_whatever_the_chunk(monkeypatch, block):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    found = nearest_neighbours(QUERIES, IMAGES)
    indices, distances = naive(QUERIES, IMAGES)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6)


def test_an_image_is_its_own_neighbour_at_no_distance():
    found = nearest_neighbours(IMAGES, IMAGES)
    np.testing.assert_array_equal(found.indices, np.arange(50))
    assert (found.distances == 0).all()


def test_the_first_of_equal_images_is_named(monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", 1)
    twice = np.concatenate([IMAGES[3:4], IMAGES, IMAGES])
    assert nearest_neighbours(IMAGES[3:5], twice).indices.tolist() == [0, 5]


def test_bytes_count_as_255ths():
    stored = RNG.integers(0, 256, (20, 4, 5, 3), np.uint8)
    found = nearest_neighbours(QUERIES, stored)
    indices, distances = naive(QUERIES, stored / 255)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6)
    black, white = np.zeros((1, 2, 2, 1), np.uint8), np.full((1, 2, 2, 1), 255, "uint8")
    assert nearest_neighbours(black, white).distances.tolist() == [2.0]


def test_no_queries_have_no_neighbours():
    found = nearest_neighbours(QUERIES[:0], IMAGES)
    assert len(found.indices) == len(found.distances) == 0


def test_what_has_no_neighbour_is_refused():
    with pytest.raises(UsageError, match="images hold 0 images"):
        nearest_neighbours(QUERIES, IMAGES[:0])
    with pytest.raises(UsageError, match="type int64"):
        nearest_neighbours(QUERIES, IMAGES.astype(np.int64))


@pytest.mark.parametrize("k", [1, 3, 49])
def test_radii_reach_to_the_kth_other_vector(k):
    features = RNG.normal(size=(50, 6))
    every = np.sum((features[:, None] - features[None]) ** 2, axis=-1)
    np.testing.assert_allclose(neighbours.radii(features, k), np.sort(every)[:, k])


@pytest.mark.parametrize("k", [0, 50, 70])
def test_impossible_neighbours_are_refused(k):
    with pytest.raises(UsageError, match=f"k is {k}; allowed: 1 to 49"):
        neighbours.radii(RNG.normal(size=(50, 6)), k)


def test_copies_have_no_distance_far_from_the_origin():
    far = 1e3 + RNG.normal(size=(30, 8)).astype(np.float32).astype(float)
    assert (np.diagonal(neighbours.squared_distances(far, far)) == 0).all()
    assert (neighbours.radii(np.repeat(far, 4, axis=0), 3) == 0).all()
