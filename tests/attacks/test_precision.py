"""Attacks and searches with and without 64 bits, of images in float32 and float64.

Warnings are errors here: JAX warns where it must cast.
"""

import dataclasses

import jax
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.core.criterion import Misclassified, Targeted
from tests.attacks import linear_manifold as linear
from tests.attacks.test_every_attack import ALL, KEY, TILE
from tests.attacks.toys import make_toy


def short(spec):
    """Returns the attack with so many steps as reach each of its parts once."""
    for field, value in {"steps": 6, "queries": 60}.items():
        if hasattr(spec, field):
            return dataclasses.replace(spec, **{field: value})
    return spec


def cast(params, dtype):
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), params)


every_attack = pytest.mark.parametrize("spec", ALL, ids=str)


def _types():
    """Yields the types of images and weights; all but one are slow to trace."""
    for dtype in (np.float32, np.float64):
        for weights in (np.float32, np.float64):
            slow = (dtype, weights) != (np.float32, np.float32)
            yield pytest.param(dtype, weights, marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize(
    "targeted", [False, pytest.param(True, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("dtype", "weights"), [*_types()])
@every_attack
def test_with_64_bits_an_attack_keeps_the_images_type(spec, targeted, dtype, weights):
    """Traced, not compiled: types that do not fit show up then."""
    toy, criterion = make_toy(4), Targeted() if targeted else Misclassified()
    params = cast(toy.params, weights)

    def attempt(image, label):
        def classify(image):
            return toy.apply(params, image)

        return short(spec).run(KEY, classify, image, label, criterion=criterion)

    with jax.enable_x64(True):
        made = jax.eval_shape(attempt, toy.images[0].astype(dtype), np.int32(0))
    assert made.image.dtype == dtype
    assert made.forwards.dtype == made.backwards.dtype == np.int32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::robust_manifold.attacks.AttackWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_attack
def test_with_64_bits_attacks_run(spec, dtype):
    toy = make_toy(4)
    with jax.enable_x64(True):
        made = attacks.craft(
            short(spec),
            toy.apply,
            cast(toy.params, dtype),
            toy.images.astype(dtype),
            toy.labels,
            key=KEY,
            tile=TILE,
        )
        assert made.images.dtype == made.distance.dtype == made.logits.dtype == dtype
        assert np.isfinite(made.images).all()


def test_without_64_bits_float64_becomes_float32():
    toy, spec = make_toy(4), attacks.FGSM(0.1)
    images = toy.images.astype(np.float64)
    made = attacks.craft(spec, toy.apply, toy.params, images, toy.labels, key=KEY)
    assert made.images.dtype == np.float32


@pytest.mark.parametrize("norm", ["l2", pytest.param("linf", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("dtype", "weights"),
    [
        (np.float32, np.float32),
        (np.float32, np.float64),
        pytest.param(np.float64, np.float32, marks=pytest.mark.slow),
        pytest.param(np.float64, np.float64, marks=pytest.mark.slow),
    ],
)
def test_searches_are_as_precise_as_the_generator(dtype, weights, norm):
    params = linear.make(3, 20.0)
    images, labels = linear.images_off_range(params, 2, 0.1)
    images, params = images.astype(dtype), cast(params, weights)
    networks = (linear.SPANNER, linear.CLASSIFY, params)
    pair = attacks.Overpowered(0.3, steps=4, restarts=2, norm=norm)
    latent = attacks.LatentSearch(steps=4, restarts=2, solver="lbfgs(steps=4)")
    with jax.enable_x64(True):
        pairs = attacks.find_pairs(pair, *networks, 2, key=KEY)
        near = attacks.find_neighbours(pair, *networks, images, labels, key=KEY)
        found = attacks.find_on_manifold(
            latent, norm, 0.3, *networks, images, labels, key=KEY
        )
    assert pairs.images.dtype == weights
    assert near.images.dtype == found.images.dtype == np.promote_types(dtype, weights)
