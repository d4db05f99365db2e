"""Purification by a denoiser whose ways back have closed forms.

Of Gaussian data N(m, S^2) the clean image's mean given x under noise of level t is
D = m + S^2 / (S^2 + t^2) (x - m).  A step is then linear in x - m, by hand below.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import defenses, models
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import with_level
from robust_manifold.defenses import DefenseParams, Diffusion, Networks

KEY = jax.random.key(0)
SHAPE, MEAN, SPREAD, LEVEL = (2, 3, 1), 0.5, 0.05, 0.08
RNG = np.random.default_rng(0)
IMAGE = jnp.asarray(RNG.uniform(0.45, 0.55, SHAPE), jnp.float32)
MIXING = jnp.asarray(RNG.normal(0, 0.4, (6, 6)), jnp.float32)


def gaussian(params, inputs):
    noisy, level = inputs[..., :-1], inputs[..., -1:]
    return MEAN + SPREAD**2 / (SPREAD**2 + level**2) * (noisy - MEAN)


def bent(params, inputs):
    """A denoiser that is not linear, and whose pixels hang together."""
    noisy, level = inputs[..., :-1], inputs[0, 0, -1]
    rows = jnp.tanh(params @ (noisy.reshape(-1) - 0.5) / (1 + level))
    return 0.5 + 0.3 * rows.reshape(SHAPE)


def purified(defence, key=KEY, image=IMAGE, denoiser=gaussian):
    bound = {"denoiser": lambda inputs: denoiser(MIXING, inputs)}
    return defence.purify(key, bound, image).image


def way_back(defence):
    """The factor of x - m, and the variance that comes in, step by step."""
    factor, variance = 1.0, defence.level**2
    levels = defence.level * (1 - np.arange(defence.steps + 1) / defence.steps)
    for t, s in zip(levels[:-1], levels[1:], strict=True):
        kept = SPREAD**2 / (SPREAD**2 + t**2)
        fresh = defence.eta**2 * s**2 * (1 - s**2 / t**2)
        each = kept + np.sqrt(s**2 - fresh) / t * (1 - kept)
        factor, variance = factor * each, variance * each**2 + fresh
    return factor, variance


WAYS = {
    "deterministic": Diffusion(LEVEL, 12, 0.0),
    "half": Diffusion(LEVEL, 5, 0.5),
    "ancestral": Diffusion(LEVEL, 12, 1.0),
    "one step": Diffusion(LEVEL, 1),
}


@pytest.mark.parametrize("name", WAYS)
def test_mean_and_variance_are_those_of_the_linear_steps(name):
    defence = WAYS[name]
    factor, variance = way_back(defence)
    keys = jax.random.split(KEY, 20_000)
    found = np.asarray(jax.jit(jax.vmap(lambda k: purified(defence, k)))(keys))
    expected = MEAN + factor * (np.asarray(IMAGE) - MEAN)
    error = np.sqrt(variance / len(keys))
    np.testing.assert_allclose(found.mean(axis=0), expected, atol=4.5 * error)
    spread = found.std(axis=0)
    np.testing.assert_allclose(spread, np.sqrt(variance), rtol=0.03)


@pytest.mark.parametrize("name", WAYS)
def test_with_one_key_it_is_a_function_whose_slope_is_the_factor(name):
    defence = WAYS[name]
    factor, _ = way_back(defence)
    other = IMAGE.at[0, 0, 0].add(0.01)
    np.testing.assert_array_equal(purified(defence), purified(defence))
    moved = purified(defence, image=other) - purified(defence)
    expected = np.zeros(SHAPE)
    expected[0, 0, 0] = 0.01 * factor
    # Pixels near 1/2 are rounded to 6e-8 in each of twelve steps.
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    fresh = purified(defence, jax.random.key(1)) - purified(defence)
    assert np.abs(fresh).max() > 1e-3


def test_many_steps_follow_the_flow_and_sample_the_posterior():
    """In the limit: the flow's factor, and mean and variance given the noisy image."""
    flow = SPREAD / np.hypot(SPREAD, LEVEL)
    errors = [way_back(Diffusion(LEVEL, n, 0.0))[0] - flow for n in (100, 200)]
    assert abs(errors[1]) < 0.01 * flow
    assert 1.8 < errors[0] / errors[1] < 2.2
    kept = SPREAD**2 / (SPREAD**2 + LEVEL**2)
    factor, variance = way_back(Diffusion(LEVEL, 400, 1.0))
    np.testing.assert_allclose(factor, kept, rtol=0.02)
    expected = (kept * LEVEL) ** 2 + kept * LEVEL**2
    np.testing.assert_allclose(variance, expected, rtol=0.02)


def test_one_step_is_the_denoised_image_whatever_is_drawn():
    once = [purified(Diffusion(LEVEL, 1, eta)) for eta in (0.0, 0.5, 1.0)]
    np.testing.assert_array_equal(once[0], once[1])
    np.testing.assert_array_equal(once[0], once[2])


def test_pixels_are_cut_to_the_unit_interval():
    found = purified(Diffusion(3.0, 1), denoiser=lambda _, inputs: inputs[..., :-1])
    assert found.min() == 0 and found.max() == 1


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_unrolled_gradient_is_exact(eta):
    """It equals finite differences, and that of the steps written out."""
    defence = Diffusion(0.3, 7, eta)

    def loss(image, defence=defence):
        return jnp.sum(jnp.sin(3 * purified(defence, image=image, denoiser=bent)))

    found = np.asarray(jax.jit(jax.grad(loss))(IMAGE))
    step = 1e-2
    for place in np.ndindex(*SHAPE):
        ends = [loss(IMAGE.at[place].add(sign * step)) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(found[place], slope, rtol=0.02, atol=2e-4)

    def plain(step, state, steps):
        for _ in range(steps):
            state = step(state)
        return state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robust_manifold.defenses.diffusion.repeated", plain)
        stored = np.asarray(jax.grad(loss)(IMAGE))
    np.testing.assert_allclose(found, stored, rtol=1e-4, atol=1e-6)


def test_memory_does_not_grow_with_the_steps():
    """Backwards it holds about two square roots of the steps in images."""

    def residuals(steps):
        defence = Diffusion(0.3, steps)
        _, pullback = jax.eval_shape(
            lambda image: jax.vjp(
                lambda x: purified(defence, image=x, denoiser=bent), image
            ),
            IMAGE,
        )
        return sum(leaf.size for leaf in jax.tree.leaves(pullback))

    few, many = residuals(16), residuals(256)
    assert many < 6 * few


@pytest.mark.parametrize(
    "text", ["level=0.0", "level=1e999", "steps=0", "eta=-0.1", "eta=1.1"]
)
def test_fields_are_checked(text):
    field = text.split("=")[0]
    with pytest.raises(UsageError, match=rf"Diffusion\.{field} is"):
        defenses.registry.build(f"diffusion({text})")


@dataclasses.dataclass(frozen=True)
class _Other:
    made: tuple

    def __call__(self, params, inputs):
        return jnp.zeros(self.made)


SMALL = models.build("denoiser(width=2, bottleneck=2)", image_shape=(4, 4, 1))
WRONG = {
    "another size": (SMALL.apply, "cannot take an array of the shape"),
    "another shape": (_Other((2, 3)), r"makes arrays of the shape \(2, 3\)"),
    "logits": (_Other((10,)), r"makes arrays of the shape \(10,\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_network_that_denoises_no_such_images_is_refused(name):
    network, told = WRONG[name]
    params = DefenseParams({"denoiser": SMALL.init(KEY)}, None)
    with pytest.raises(UsageError, match=f"the network 'denoiser' {told}"):
        defenses.defend(
            Diffusion(),
            Networks(denoiser=network),
            lambda params, image: image.reshape(-1),
            params,
            np.asarray(IMAGE)[None],
            key=KEY,
        )


def test_the_level_is_one_more_channel():
    found = with_level(IMAGE, 0.25)
    assert found.shape == (2, 3, 2)
    np.testing.assert_array_equal(found[..., :1], IMAGE)
    np.testing.assert_array_equal(found[..., 1], np.full((2, 3), 0.25))
