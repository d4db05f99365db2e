"""Minimum-norm attacks on images of which every pixel is 0 or 1.

Every pixel can move one way only, and a change of variables is flat there.  On an
affine classifier the nearest image of the box is known in every norm.  A new attack or
norm is a row of `SPECS`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import (
    DDN,
    FAB,
    FMN,
    CarliniWagner,
    DeepFool,
    ElasticNet,
    HopSkipJump,
    SigmaZero,
    craft,
)
from tests.attacks import boxed

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=16)
IMAGES = RNG.integers(0, 2, size=(8, 4, 4, 1)).astype(np.float32)
# Half way between the two classes' extremes: an image's nearest edge is far or near.
SCORES = IMAGES.reshape(8, 16) @ WEIGHTS - 0.5 * WEIGHTS.sum()
LABELS = (SCORES > 0).astype(np.int32)

SPECS = {
    CarliniWagner("l2"): 1.01,
    CarliniWagner("l0"): 1.0,
    CarliniWagner("linf"): 1.01,
    CarliniWagner(normalise=False, steps=1000, learning_rate=0.01): 1.01,
    CarliniWagner("l0", normalise=False): 1.0,
    CarliniWagner("linf", normalise=False): 1.01,
    ElasticNet(): 1.2,
    ElasticNet(abort_early=False): 1.03,
    DeepFool("l2"): 1.05,
    DeepFool("linf"): 1.05,
    DDN(): 1.05,
    FMN("linf"): 1.05,
    FMN("l2"): 1.05,
    FMN("l1"): 1.05,
    FMN("l0"): 2.0,
    FAB("linf"): 1.05,
    FAB("l2"): 1.05,
    FAB("l1"): 1.05,
    HopSkipJump("l2", queries=4000): 1.1,
    HopSkipJump("linf", queries=4000): 1.1,
    SigmaZero(): 1.0,
}
"""How much farther than the nearest image the one found may be.

Elastic net stops a round where momentum overshoots, so its default falls short of what
the rounds hold, and FMN may need two values where one is enough.
"""


def affine(weights, image):
    score = image.reshape(-1) @ weights - 0.5 * weights.sum()
    return jnp.stack([jnp.zeros_like(score), score])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_nearest_image_is_found(spec):
    weights = jnp.asarray(WEIGHTS, jnp.float32)
    crafted = craft(spec, affine, weights, IMAGES, LABELS, key=jax.random.key(0))
    assert crafted.success.all()
    optimum = [
        boxed.distance(spec.norm, image, -np.sign(score) * WEIGHTS, abs(score))
        for image, score in zip(IMAGES, SCORES, strict=True)
    ]
    ratio = np.asarray(crafted.distance) / optimum
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= SPECS[spec], ratio
