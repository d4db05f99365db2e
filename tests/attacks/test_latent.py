"""The latent attack against projectors that are known in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from tests.attacks import linear_manifold as linear

KEY = jax.random.key(0)
SEARCH = attacks.LatentSearch(
    steps=150, restarts=2, learning_rate=0.1, inversion_restarts=1
)

SHORT = dataclasses.replace(SEARCH, steps=1, restarts=1)


def projected(params, image):
    """A perfect projector before the classifier."""
    matrix, offset = params.spanner.generator["A"].T, params.spanner.generator["b"]
    latent = jnp.linalg.pinv(matrix) @ (image.reshape(-1) - offset)
    inside = linear.SPANNER.generate(params.spanner.generator, latent)
    return linear.CLASSIFY(params.classifier, inside)


def noisy(params, image, key):
    return projected(params, image) + 1e-3 * jax.random.normal(key, (2,))


def inversions(params, images):
    matrix, offset, _, _ = linear.arrays(params)
    flat = np.float64(images).reshape(len(images), -1)
    return (flat - offset) @ np.linalg.pinv(matrix).T


def find(params, images, labels, epsilon, norm="l2", search=SEARCH, **options):
    options = {"apply": projected, "latents": inversions(params, images)} | options
    return attacks.find_on_manifold(
        search,
        norm,
        epsilon,
        linear.SPANNER,
        linear.CLASSIFY,
        params,
        images,
        labels,
        key=KEY,
        **options,
    )


def shortest_moves(params, images):
    """How far the projections are from the boundary, along the range."""
    matrix, offset, weights, bias = linear.arrays(params)
    latents = inversions(params, images)
    normal = weights[:, 1] - weights[:, 0]
    lead = (latents @ matrix.T + offset) @ normal + bias[1] - bias[0]
    return np.abs(lead) / np.linalg.norm(np.linalg.qr(matrix)[0].T @ normal)


@pytest.mark.parametrize("off", [0.0, 0.3])
def test_a_perfect_projector_falls_at_the_shortest_move_in_the_range(off):
    # Off the range, too: what the projector takes away is kept in the image.
    params = linear.make(2)
    images, labels = linear.images_off_range(params, 4, off)
    for place, least in enumerate(shortest_moves(params, images)):
        row = slice(place, place + 1)
        below = find(params, images[row], labels[row], float(0.99 * least))
        above = find(params, images[row], labels[row], float(1.01 * least))
        assert not below.success.any() and above.success.all()
        assert (above.distance <= 1.01 * least).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_images_are_in_their_ball_and_box_whatever_is_asked(norm):
    params = linear.make(2, 20.0)
    images, labels = linear.images_off_range(params, 4, 0.3)
    # At last, a ball that holds every image.
    for epsilon in (0.0, 0.05, 4.0 if norm == "l2" else 1.0):
        made = find(params, images, labels, epsilon, norm)
        delta = (np.float64(made.images) - images).reshape(4, -1)
        size = np.linalg.norm(delta, ord=2 if norm == "l2" else np.inf, axis=1)
        assert (size <= epsilon * (1 + 1e-6)).all()
        np.testing.assert_allclose(made.distance, size, rtol=1e-4, atol=1e-6)
        assert (made.images >= 0).all() and (made.images <= 1).all()
    assert made.success.all()


def test_success_is_that_of_the_defended_classifier():
    params = linear.make(2, 20.0)
    images, labels = linear.images_off_range(params, 4, 0.1)
    # The search inverts the images itself.
    made = find(params, images, labels, 0.3, latents=None)
    given = find(params, images, labels, 0.3)
    np.testing.assert_allclose(made.images, given.images, atol=1e-2)
    logits = jax.vmap(projected, (None, 0))(params, made.images)
    np.testing.assert_allclose(made.logits, logits, atol=1e-4)
    np.testing.assert_array_equal(made.success, logits.argmax(-1) != labels)


def test_without_one_the_projector_counts_as_perfect():
    params = linear.make(2)
    images, labels = linear.images_off_range(params, 4, 0.0)
    least = shortest_moves(params, images)
    made = find(params, images, labels, float(1.01 * least.max()), apply=None)
    assert made.success.all()
    np.testing.assert_allclose(
        made.logits, jax.vmap(projected, (None, 0))(params, made.images), atol=1e-4
    )


def test_a_random_defence_gets_the_keys_that_are_held():
    params = linear.make(2)
    images, labels = linear.images_off_range(params, 2, 0.1)
    held = jax.random.split(jax.random.key(5), 2)
    random = attacks.Expectation(noisy)
    made = find(params, images, labels, 0.1, apply=random, fixed_keys=held)
    expected = jax.vmap(noisy, (None, 0, 0))(params, made.images, held)
    np.testing.assert_allclose(made.logits, expected, atol=1e-5)
    fresh = find(params, images, labels, 0.1, apply=random)
    assert not np.array_equal(fresh.logits, made.logits)
    # Of another kind than the key of the search.
    held = jax.random.split(jax.random.key(5, impl="rbg"), 2)
    options = {"apply": random, "fixed_keys": held, "search": SHORT}
    assert np.isfinite(find(params, images, labels, 0.1, **options).logits).all()


def test_an_image_does_not_depend_on_its_batch():
    params = linear.make(2)
    images, labels = linear.images_off_range(params, 3, 0.1)
    whole = find(params, images, labels, 0.1)
    ids = np.array([2])
    alone = find(params, images[2:], labels[2:], 0.1, ids=ids, batch_size=1)
    jax.tree.map(
        lambda all, one: np.testing.assert_array_equal(all[2:], one), whole, alone
    )


def test_more_is_asked_of_the_classifier_with_more_restarts():
    params = linear.make(2)
    images, labels = linear.images_off_range(params, 1, 0.1)
    search = dataclasses.replace(SEARCH, steps=3, restarts=3)
    queries = find(params, images, labels, 0.1, search=search).queries
    # 3 x 3 gradients; then 3 last looks, 2 images of each, and the best once more.
    assert (queries.forwards[0], queries.backwards[0]) == (9 + 3 + 6 + 1, 9)


def test_what_is_not_allowed_is_named():
    params = linear.make(2)
    images, labels = linear.images_off_range(params, 1, 0.1)
    with pytest.raises(UsageError, match="norm is 'l1'; allowed: l2 or linf"):
        find(params, images, labels, 0.1, norm="l1")
    with pytest.raises(UsageError, match="epsilon is -1.0"):
        find(params, images, labels, -1.0)
    with pytest.raises(UsageError, match="fixed_keys are .*; allowed: 1 keys"):
        find(params, images, labels, 0.1, fixed_keys=np.zeros(1))
    for wrong in ({"steps": 0}, {"restarts": 0}, {"spread": -1.0}):
        (field,) = wrong
        with pytest.raises(UsageError, match=rf"LatentSearch\.{field} is"):
            attacks.LatentSearch(**wrong)


def sigmoid_pixels(params, latent):
    return jax.nn.sigmoid(latent).reshape(2, 2, 1)


def four_pixels(weights, image):
    return weights @ image.reshape(-1)


@pytest.mark.parametrize(
    "search, epsilon",
    [
        (attacks.LatentSearch(steps=20), 0.0),
        (attacks.LatentSearch(steps=10), 1e-3),
        (attacks.LatentSearch(steps=20, spread=2.0), 1e-2),
        (attacks.LatentSearch(steps=100), 0.5),
    ],
    ids=str,
)
def test_a_perfect_projector_falls_inside_the_budget_alone(search, epsilon):
    """The class of the largest of three pixels: the shortest way is to level two."""
    latents = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    images = np.asarray(jax.vmap(sigmoid_pixels, (None, 0))(None, latents))
    pixels = np.sort(np.float64(images).reshape(8, -1)[:, :3], axis=1)
    least = (pixels[:, 2] - pixels[:, 1]) / np.sqrt(2)
    labels = images.reshape(8, -1)[:, :3].argmax(axis=1)
    made = attacks.find_on_manifold(
        search,
        "l2",
        epsilon,
        Spanner(sigmoid_pixels, (4,)),
        four_pixels,
        attacks.ManifoldParams(SpannerParams(None), jnp.eye(3, 4)),
        images,
        labels,
        key=KEY,
        latents=latents,
    )
    assert least.min() > 1.2e-2
    np.testing.assert_array_equal(made.success, least < epsilon)
    # What is handed over does what is said of it.
    seen = jax.vmap(four_pixels, (None, 0))(jnp.eye(3, 4), made.images)
    np.testing.assert_allclose(seen, made.logits, atol=1e-5)
    assert (np.asarray(made.distance) <= epsilon + 1e-6).all()


def test_an_image_off_the_range_is_moved_as_its_projection_is():
    # The nearest image of the ball to G(z) would be projected to nearer than G(z).
    params = linear.make(2)
    images, labels = linear.images_off_range(params, 4, 0.3)
    least = shortest_moves(params, images)
    made = find(params, images, labels, float(1.01 * least.max()), apply=None)
    seen = jax.vmap(projected, (None, 0))(params, made.images)
    assert made.success.all()
    np.testing.assert_array_equal(np.argmax(seen, -1) != labels, made.success)
    np.testing.assert_allclose(seen, made.logits, atol=1e-4)
