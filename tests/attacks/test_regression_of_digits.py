"""Attacks on a regression, end to end: real digits, turned, and their angles told."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robust_manifold import attacks, data
from robust_manifold.attacks.transformations import affine
from robust_manifold.core.criterion import Deviates

DEGREES = 10.0
CRITERION = Deviates(DEGREES, period=360.0)
KEY = jax.random.key(0)


def angle(params, image):
    sine, cosine = jax.nn.relu(image.reshape(-1) @ params[0]) @ params[1]
    return jnp.degrees(jnp.arctan2(sine, cosine))


def turned(key, images):
    angles = jax.random.uniform(key, (len(images),), minval=-180.0, maxval=180.0)
    turn = jax.vmap(lambda image, angle: affine(image, angle, 1.0, jnp.zeros(2)))
    return np.asarray(turn(images, angles)), np.asarray(angles)


def off_by(params, images, angles):
    """Returns by how many degrees each angle is off, the shorter way round."""
    away = np.asarray(jax.vmap(angle, (None, 0))(params, images)) - angles
    return np.abs((away + 180) % 360 - 180)


@pytest.fixture(scope="module")
def told():
    """A network, and digits that it has not seen and whose angles it tells."""
    digits = data.load("mnist_5k").train
    sevens = data.to_float(digits.images[digits.labels == 7])
    images, angles = turned(KEY, np.resize(sevens[:400], (2000, 28, 28, 1)))
    adam = optax.adam(0.01)

    def loss(params):
        away = jax.vmap(angle, (None, 0))(params, images) - angles
        return jnp.mean(1 - jnp.cos(jnp.radians(away)))

    @jax.jit
    def step(params, memory):
        updates, memory = adam.update(jax.grad(loss)(params), memory)
        return optax.apply_updates(params, updates), memory

    first, second = jax.random.split(KEY)
    params = (
        jax.random.normal(first, (784, 64)) / 28,
        jax.random.normal(second, (64, 2)) / 8,
    )
    memory = adam.init(params)
    for _ in range(150):
        params, memory = step(params, memory)
    images, angles = turned(jax.random.key(1), sevens[400:])
    right = off_by(params, images, angles) <= DEGREES / 2
    assert right.sum() >= 20
    return params, images[right], angles[right]


# One process trains the network.
pytestmark = pytest.mark.xdist_group("angles of digits")

ATTACKS = {
    "pgd": lambda epsilon: attacks.PGD(epsilon, steps=10),
    "square": lambda epsilon: attacks.Square(epsilon, queries=200),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("epsilon, least, most", [(0.05, 0.9, 1.0), (0.0005, 0, 0.1)])
def test_angles_are_pushed_off_by_a_budget_that_is_large_enough(
    told, name, epsilon, least, most
):
    params, images, angles = told
    found = attacks.craft(
        ATTACKS[name](epsilon),
        angle,
        params,
        images,
        angles,
        key=KEY,
        criterion=CRITERION,
    )
    off = off_by(params, found.images, angles)
    clear = np.abs(off - DEGREES) > 1e-3
    np.testing.assert_array_equal(found.success[clear], (off > DEGREES)[clear])
    assert least <= np.mean(found.success) <= most
    assert np.abs(found.images - images).max() <= epsilon
