"""Votes over the keys of a random purifier."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import defenses
from robust_manifold.core.errors import UsageError
from robust_manifold.defenses import (
    DefenseParams,
    Networks,
    Purified,
    Purifier,
    Voting,
    adversaries,
    defended_apply,
)

KEY = jax.random.key(0)
SHAPE = (2, 3, 1)
RNG = np.random.default_rng(0)
IMAGE = jnp.asarray(RNG.uniform(0.3, 0.7, SHAPE), jnp.float32)
READOUT = jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32)
PARAMS = DefenseParams({}, READOUT)


def classify(params, image):
    return 3 * jnp.sin(image.reshape(-1) @ params)


@dataclasses.dataclass(frozen=True)
class Scaled(Purifier):
    """Pixels times a number that the key draws."""

    def purify(self, key, networks, image):
        factor = jax.random.uniform(key, (), image.dtype, 0.5, 1.0)
        return Purified(image**2 * factor, {"factor": factor})


def view_of(text, defence):
    return adversaries.build(text).view(defence, Networks(), classify)


def probabilities(factors, image=IMAGE):
    """By hand: the mean of the softmax over draws."""
    logits = [classify(READOUT, image**2 * factor) for factor in factors]
    return jnp.mean(jax.nn.softmax(jnp.stack(logits)), axis=0)


def factors(draws, key=KEY):
    found = Voting(Scaled(), draws).purify(key, {}, IMAGE)
    return found.details.details["factor"]


@pytest.mark.parametrize("draws", [1, 5])
def test_the_output_is_the_mean_of_the_probabilities(draws):
    found = jax.jit(defended_apply(Voting(Scaled(), draws), Networks(), classify))(
        PARAMS, IMAGE, KEY
    )
    drawn = factors(draws)
    assert len(np.unique(drawn)) == draws
    np.testing.assert_allclose(jnp.exp(found), probabilities(drawn), rtol=1e-5)
    assert not np.array_equal(factors(draws), factors(draws, jax.random.key(1)))


def test_the_unrolled_slope_is_that_of_every_draw():
    defence, drawn = Voting(Scaled(), 4), factors(4)
    found, expected = (
        jax.jacobian(function)(IMAGE)
        for function in (
            lambda x: view_of("unrolled", defence)(PARAMS, x, KEY),
            lambda x: jnp.log(probabilities(drawn, x)),
        )
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_straight_through_each_draw_moves_as_the_image():
    defence, drawn = Voting(Scaled(), 4), factors(4)

    def moved(shift):
        logits = [classify(READOUT, IMAGE**2 * factor + shift) for factor in drawn]
        return jnp.log(jnp.mean(jax.nn.softmax(jnp.stack(logits)), axis=0))

    view = view_of("straight_through", defence)
    found = jax.jacobian(lambda x: view(PARAMS, x, KEY))(IMAGE)
    expected = jax.jacobian(moved)(jnp.zeros(SHAPE))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_it_is_known_by_its_text_and_asks_as_its_inner_defence_does():
    text = "voting(defence='diffusion(steps=2)', draws=3)"
    defence = defenses.registry.build(text)
    assert defenses.registry.to_string(defence) == "voting(diffusion(steps=2), 3)" or (
        defenses.registry.build(defenses.registry.to_string(defence)) == defence
    )
    assert defence.needs == ("denoiser",) and not defence.tiled
    # Two passes and the classifier's, three times, of which one is counted elsewhere.
    assert defence.passes(0) == 3 * 3 - 1
    inverting = Voting("defense_gan(steps=2, restarts=1)", 2)
    assert inverting.tiled and inverting.needs == ("generator",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("draws=0", r"Voting\.draws is 0"),
        ("defence='none'", "'none' purifies no image"),
        ("defence='rejecting'", r"Voting\.defence is .*; allowed: one that rejects"),
    ],
)
def test_what_cannot_vote_is_refused(text, told):
    with pytest.raises(UsageError, match=told):
        defenses.registry.build(f"voting({text})")
