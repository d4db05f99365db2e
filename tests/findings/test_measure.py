"""The pictures of the stage `measure`: ways between latents, nearest images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.prior import Normal, Uniform
from robust_manifold.findings import measures
from robust_manifold.models import Model


def walks(size, **fields):
    """Returns the latents of the walks: of a generator that gives them as they are."""

    def apply(params, latents):
        return latents

    def train(params, latents, key):
        return latents, params

    model = Model(lambda key: {}, apply, train, (size,), (size,), **fields)
    return measures._walks(model, {}, jax.random.key(3))


@pytest.mark.parametrize("prior", [Normal(), Normal(-1.0, 1.0), Normal(5.0, 0.1)])
def test_walks_of_a_normal_prior_stay_in_its_shell(prior):
    found = walks(200, prior=prior)
    radii = np.linalg.norm(found - prior.mean, axis=-1)
    typical = prior.deviation * np.sqrt(200)
    np.testing.assert_allclose(radii, typical, rtol=0.25)
    # By equal angles: so that all steps of a walk are of one length, nearly.
    steps = np.linalg.norm(np.diff(found, axis=1), axis=-1)
    np.testing.assert_allclose(
        steps, steps.mean(axis=1, keepdims=True) + 0 * steps, rtol=0.2
    )


def test_walks_of_a_uniform_prior_are_straight():
    found = walks(3, prior=Uniform(2.0, 4.0))
    assert found.min() >= 2 and found.max() <= 4
    np.testing.assert_allclose(np.diff(found, n=2, axis=1), 0, atol=1e-5)


def test_walks_of_one_dimension_lead_from_end_to_end():
    found = walks(1)
    assert (found[:, 0] * found[:, -1] < 0).any()
    low, high = np.sort(found[:, [0, -1]], axis=1).transpose(1, 0, 2)
    assert (found >= low[:, None] - 1e-5).all() and (
        found <= high[:, None] + 1e-5
    ).all()


def test_a_walk_stays_in_its_class_and_moves_the_rest_as_ever():
    found = walks(24, latent_classes=4)
    told = np.eye(4)[np.arange(len(found)) % 4][:, None]
    np.testing.assert_array_equal(
        found[..., -4:], np.broadcast_to(told, found[..., -4:].shape)
    )
    ends = jnp.linalg.norm(found[:, [0, -1], :20], axis=-1)
    middles = np.linalg.norm(found[..., :20], axis=-1)
    assert (middles >= ends.min(axis=1, keepdims=True) * 0.9).all()


@pytest.mark.parametrize("flip", [False, True])
def test_a_mirrored_copy_is_found_where_training_saw_mirror_images(flip):
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 6, 3), np.uint8)
    copies = images[[2, 7]].astype(np.float32) / 255
    samples = np.stack([copies[0], copies[1][:, ::-1]])
    found, distances = measures._nearest(samples, images, flip)
    np.testing.assert_allclose(found[0], samples[0], atol=1e-6)
    np.testing.assert_allclose(
        distances, np.linalg.norm((found - samples).reshape(2, -1), axis=1), atol=1e-5
    )
    assert (distances[1] < 1e-5) == flip
