"""Views of an image: known turns and moves, and the identity to the last bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import Transformations, transformations_registry
from robust_manifold.attacks.transformations import affine
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(1)
_affine = jax.jit(affine)
ALL = Transformations(15.0, 0.1, 0.1, 0.2, 0.1, 0.05)


def _image(height=7, width=7, channels=2):
    drawn = np.random.default_rng(0).uniform(size=(height, width, channels))
    return jnp.asarray(drawn, jnp.float32)


def _moved(image, rotation=0.0, scale=1.0, shift=(0.0, 0.0)):
    return _affine(image, jnp.float32(rotation), jnp.float32(scale), jnp.array(shift))


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("side", [6, 7])
def test_quarter_turns_are_exact_turns(quarters, side):
    image = _image(side, side)
    turned = _moved(image, rotation=90.0 * quarters)
    np.testing.assert_allclose(turned, np.rot90(image, quarters), atol=1e-5)


@pytest.mark.parametrize("shift", [(2, 0), (0, -3), (1, 2)])
def test_whole_pixels_move_and_the_border_goes_on(shift):
    image = _image(6, 8)
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="edge")
    down, right = shift
    expected = padded[3 - down : 9 - down, 3 - right : 11 - right]
    moved = _moved(image, shift=tuple(map(float, shift)))
    np.testing.assert_array_equal(moved, expected)


def test_half_a_pixel_is_the_mean_of_two():
    image = _image()
    moved = _moved(image, shift=(0.0, 0.5))
    expected = (image[:, 1:] + image[:, :-1]) / 2
    np.testing.assert_allclose(moved[:, 1:], expected, atol=1e-6)


def test_twice_the_size_keeps_the_middle_and_reaches_half_as_far():
    image = _image(9, 9)
    larger = _moved(image, scale=2.0)
    np.testing.assert_allclose(larger[::2, ::2], image[2:7, 2:7], atol=1e-6)


def test_a_small_turn_keeps_the_light_of_what_stays_inside():
    # A smooth blob far from the border; the sum of its pixels is its light.
    row, column = np.mgrid[:21, :21] - 10
    blob = jnp.asarray(
        np.exp(-(row**2 + (column - 2) ** 2) / 8)[..., None], jnp.float32
    )
    turned = _moved(blob, rotation=20.0, shift=(1.3, 0.4))
    assert float(turned.sum()) == pytest.approx(float(blob.sum()), rel=1e-3)


def test_views_of_a_plain_image_are_plain():
    views = Transformations(rotation=30.0, scale=0.2, shift=0.2)
    plain = jnp.full((6, 5, 1), 0.25)
    np.testing.assert_allclose(jax.jit(views)(KEY, plain), plain, atol=1e-6)


def test_without_ranges_a_view_is_the_image_to_the_last_bit():
    image = _image()
    assert not Transformations().vary
    np.testing.assert_array_equal(Transformations()(KEY, image), image)


@pytest.mark.parametrize(
    "views", [Transformations(contrast=0.3), Transformations(brightness=0.2)]
)
def test_light_is_a_gain_and_an_offset(views):
    image = 0.3 + 0.4 * _image()
    drawn = views.draw(KEY, image)
    assert abs(float(drawn.gain) - 1) <= views.contrast
    assert abs(float(drawn.offset)) <= views.brightness
    expected = np.clip(drawn.gain * image + drawn.offset, 0, 1)
    np.testing.assert_allclose(views.view(image, drawn), expected, atol=1e-6)
    assert not np.array_equal(views.view(image, drawn), image)


def test_draws_fill_their_ranges_and_no_more():
    keys = jax.random.split(KEY, 500)
    drawn = jax.jit(jax.vmap(ALL.draw, in_axes=(0, None)))(keys, jnp.zeros((10, 20, 1)))
    spans = {
        "rotation": (-15, 15),
        "scale": (0.9, 1.1),
        "gain": (0.8, 1.2),
        "offset": (-0.1, 0.1),
    }
    for field, (low, high) in spans.items():
        values = np.asarray(getattr(drawn, field))
        room = 0.02 * (high - low)
        assert low <= values.min() < low + room
        assert high - room < values.max() <= high
    most = np.abs(drawn.shift).max(0)
    np.testing.assert_allclose(most, [1.0, 2.0], rtol=0.02)
    assert np.std(drawn.noise) == pytest.approx(0.05, rel=0.02)


def test_views_stay_in_the_box_and_can_be_differentiated():
    image = jnp.round(_image())  # pixels at both ends of the box
    keys = jax.random.split(KEY, 20)

    def mean_square(image):
        seen = jax.vmap(ALL, in_axes=(0, None))(keys, image)
        return jnp.mean(seen**2), seen

    gradient, seen = jax.jit(jax.grad(mean_square, has_aux=True))(image)
    assert seen.min() >= 0 and seen.max() <= 1
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_the_gradient_of_a_turn_is_that_of_its_differences():
    with jax.enable_x64(True):
        image = jnp.asarray(_image(5, 5, 1), jnp.float64)
        weights = jnp.asarray(np.random.default_rng(1).normal(size=image.shape))

        def weighted(image):
            turned = affine(image, jnp.float64(11.0), jnp.float64(0.9), jnp.ones(2))
            return jnp.sum(weights * turned)

        gradient = jax.jit(jax.grad(weighted))(image)
        # It is linear in the image, so one difference is exact but for rounding.
        by_pixel = jnp.eye(image.size).reshape(-1, *image.shape)
        expected = jax.jit(jax.vmap(weighted))(by_pixel).reshape(image.shape)
    np.testing.assert_allclose(gradient, expected, atol=1e-12)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Transformations)])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_ranges_are_checked(field, value):
    with pytest.raises(UsageError, match=f"Transformations.{field} is .*; allowed: "):
        Transformations(**{field: value})


def test_configs_write_transformations_as_a_call():
    text = transformations_registry.to_string(ALL)
    assert transformations_registry.build(text) == ALL
