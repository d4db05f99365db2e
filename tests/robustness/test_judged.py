"""Verdicts on images that come from elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.defenses import given_number
from robust_manifold.robustness.judged import wrong_under
from tests.robustness import pixels

PLANE = jnp.eye(3, 4)


def plane(params, latent):
    return (latent @ params).reshape(2, 2, 1)


def wrong(images, **more):
    ids = np.arange(len(images))
    return wrong_under(
        jax.random.key(0),
        20,
        images,
        pixels.LABELS[: len(images)],
        ids,
        classifier=pixels.CLASSIFIER,
        **more,
    ).tolist()


def test_without_randomness_an_image_is_lost_under_all_keys_or_none():
    images = pixels.IMAGES[:3].copy()
    images[1].reshape(-1)[pixels.LABELS[1]] = 0
    assert wrong(images) == [0, 20, 0]


def test_a_random_defence_is_asked_under_every_key():
    counts = np.array(wrong(pixels.IMAGES, defence=pixels.noisy))
    assert ((0 < counts) & (counts < 20)).any()


def test_what_a_defence_rejects_is_not_lost():
    # The label's pixel is not the brightest, and the image lies far from the range.
    images = pixels.IMAGES[:2].copy()
    images[0].reshape(-1)[pixels.LABELS[0]] = 0
    images[0, 1, 1] = 1
    networks = {
        "generator": (Spanner(plane, (3,)), SpannerParams(PLANE)),
        "threshold": (given_number, np.float32(0.1)),
    }
    solver = "levenberg_marquardt(steps=4)"
    rejecting = f"rejecting(defence=invert_and_classify(solver={solver}, restarts=2))"
    assert wrong(images) == [20, 0]
    assert wrong(images, defence=rejecting, networks=networks) == [0, 0]
