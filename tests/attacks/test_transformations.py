"""Views of an image: known turns and moves, and the identity to the last bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import (
    Transformations,
    transformations,
    transformations_registry,
)
from robust_manifold.attacks.transformations import affine
from robust_manifold.core.errors import UsageError
from robust_manifold.core.outlines import coverage
from robust_manifold.data import road_signs

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


SCENE = Transformations(tilt=40.0, blur=1.0, outline="octagon", scale=0.2, rotation=9.0)


def test_a_tilted_plane_is_seen_where_the_road_signs_are():
    # Pillow's eight numbers and ours are two ways to write one projection.
    pose = dict.fromkeys(road_signs.Pose._fields, 0.0)
    pose |= {"yaw": 31.0, "pitch": -17.0, "size": 1.0}
    a, b, c, d, e, f, g, h = road_signs._inverse_homography(road_signs.Pose(**pose))
    half = road_signs._SIDE / 2
    points = jnp.asarray([[-0.5, -0.4], [0.0, 0.0], [0.7, 0.2], [0.1, -0.9]])
    tilt = jnp.deg2rad(jnp.array([31.0, -17.0]))
    right, down = transformations._untilted(points[:, :1], points[:, 1:], tilt)
    x, y = (half + half * points).T
    scale = g * x + h * y + 1
    theirs = jnp.stack([(a * x + b * y + c) / scale, (d * x + e * y + f) / scale], 1)
    ours = half + half * jnp.concatenate([right, down], 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_without_a_tilt_a_plane_stays():
    grid = jnp.linspace(-1, 1, 12).reshape(3, 4)
    same = transformations._untilted(grid, grid + 1, jnp.zeros(2))
    np.testing.assert_allclose(jnp.stack(same), jnp.stack([grid, grid + 1]), atol=1e-6)


def test_blur_keeps_light_and_what_is_even_and_none_keeps_all():
    image = jnp.zeros((21, 21, 1)).at[10, 10].set(1)
    seen = jax.jit(transformations._blurred)(image, jnp.float32(1.0))
    assert float(seen.sum()) == pytest.approx(1, abs=1e-5)
    # The Gaussian at its middle, cut off at four deviations.
    assert float(seen[10, 10, 0]) == pytest.approx(1 / (2 * np.pi), rel=1e-3)
    np.testing.assert_allclose(seen, seen.transpose(1, 0, 2), atol=1e-7)
    np.testing.assert_array_equal(
        transformations._blurred(image, jnp.float32(0)), image
    )
    even = jnp.full((9, 7, 3), 0.3)
    np.testing.assert_allclose(
        transformations._blurred(even, jnp.float32(2.0)), even, atol=1e-6
    )


def test_beyond_the_outline_is_the_background_and_within_it_the_image():
    views = Transformations(outline="disc")
    image = jnp.ones((32, 32, 3))
    look = views.draw(KEY, image)
    seen = np.asarray(views.view(image, look))
    inside = coverage("disc", 32, 32)
    np.testing.assert_array_equal(seen[inside == 1], 1)
    background = np.asarray(look.background)
    np.testing.assert_allclose(seen[inside == 0], background[inside == 0], atol=1e-6)
    assert 0.15 <= background.min() < background.max() <= 0.85
    # Half a pixel here or there apart, both edges are the same.
    assert (
        np.abs((seen - background)[..., 0] / (1 - background[..., 0]) - inside).mean()
        < 0.02
    )


def test_a_new_kind_of_view_leaves_the_draws_of_the_others_as_they_are():
    image = _image(8, 8, 3)
    before, after = (
        t.draw(KEY, image) for t in (ALL, dataclasses.replace(ALL, tilt=9))
    )
    for field in ("rotation", "scale", "shift", "gain", "offset", "noise"):
        np.testing.assert_array_equal(getattr(before, field), getattr(after, field))
    assert before.tilt is None and np.abs(after.tilt).max() <= 9


def test_every_pixel_of_a_scene_can_be_climbed():
    image = road_signs.face("stop", 32)
    pixels = jnp.asarray(image.image / 255, jnp.float32)
    look = SCENE.draw(KEY, pixels)
    slope = jax.grad(lambda x: SCENE.view(x, look).sum())(pixels)
    assert np.isfinite(slope).all()
    assert (np.asarray(slope)[image.mask].mean(-1) > 0).mean() > 0.95


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"outline": "oktagon"}, "outline is 'oktagon'; allowed: empty, disc, octagon"),
        ({"tilt": 60.0}, "tilt is 60.0; allowed: 0 or more, below 60"),
        ({"tilt": -1.0}, "tilt is -1.0"),
        ({"blur": 2.5}, "blur is 2.5; allowed: 0 to 2"),
    ],
)
def test_an_impossible_scene_is_refused(fields, says):
    with pytest.raises(UsageError, match=says):
        Transformations(**fields)
