import io

import numpy as np
import pytest
from PIL import Image as pil

from robust_manifold.core.errors import UsageError
from robust_manifold.data import images, pictures
from robust_manifold.data.images import Framing, ImageError


def encode(pixels, format="png", **options):
    file = io.BytesIO()
    pil.fromarray(pixels).save(file, format=format, **options)
    return file.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def test_decoding_gives_the_pixels_back():
    decoded = pictures.decode(encode(PIXELS), Framing())
    np.testing.assert_array_equal(decoded, PIXELS)
    grey = pictures.decode(encode(PIXELS[..., 0]), Framing())
    np.testing.assert_array_equal(grey, PIXELS[..., :1])
    as_rgb = pictures.decode_as(encode(PIXELS[..., 0]), "RGB")
    np.testing.assert_array_equal(as_rgb, np.repeat(PIXELS[..., :1], 3, axis=-1))


def test_the_crop_is_central():
    decoded = pictures.decode(encode(PIXELS), Framing(crop=4))
    np.testing.assert_array_equal(decoded, PIXELS[1:5, 2:6])


def test_a_size_alone_keeps_the_largest_central_square():
    decoded = pictures.decode(encode(PIXELS), Framing(image_size=6))
    np.testing.assert_array_equal(decoded, PIXELS[:, 1:7])


def test_resizing_averages():
    halves = np.zeros((8, 8), np.uint8)
    halves[:, 4:] = 200
    small = pictures.decode(encode(halves), Framing(image_size=2))
    assert small.shape == (2, 2, 1)
    assert small[0, 0, 0] < small[0, 1, 0]
    np.testing.assert_allclose(small.mean(), 100, atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_reframing_arrays_equals_reframing_files(channels):
    pixels = PIXELS[..., :channels]
    framing = Framing(crop=5, image_size=3)
    (array,) = images.reframe(pixels[None], framing)
    squeezed = pixels[..., 0] if channels == 1 else pixels
    np.testing.assert_array_equal(array, pictures.decode(encode(squeezed), framing))


def test_reframing_without_a_wish_is_free():
    assert images.reframe(PIXELS[None], Framing()) is not None
    stacked = PIXELS[None]
    assert images.reframe(stacked, Framing()) is stacked


def test_impossible_framings_are_refused():
    with pytest.raises(UsageError, match="Framing.crop is 0; allowed: None, or 1"):
        Framing(crop=0)
    with pytest.raises(UsageError, match="Framing.image_size is -1"):
        Framing(image_size=-1)
    with pytest.raises(ImageError, match="has 6x8 pixels; allowed: at least the crop"):
        pictures.decode(encode(PIXELS), Framing(crop=7))
    with pytest.raises(ImageError, match="have 2 channels"):
        images.reframe(np.zeros((1, 4, 4, 2), np.uint8), Framing(crop=2))


@pytest.mark.parametrize("side", [3, 64])
def test_stacking_keeps_the_order_and_reports_progress(side):
    def read(positions):
        return (np.full((side, side, 1), p % 251, np.uint8) for p in positions)

    seen = []
    stacked = images.stack(read, 600, str, lambda *done: seen.append(done))
    np.testing.assert_array_equal(stacked[:, 0, 0, 0], np.arange(600) % 251)
    assert seen == [(256, 600), (512, 600), (600, 600)]


@pytest.mark.parametrize("side", [3, 64])
def test_stacking_names_the_first_bad_image(side):
    def read(positions):
        for p in positions:
            if p in (300, 301, 550):
                raise ImageError("is damaged")
            yield np.zeros((side, side, 1), np.uint8)

    with pytest.raises(UsageError, match="^Image 300 is damaged.$"):
        images.stack(read, 600, lambda i: f"Image {i}")

    def uneven(positions):
        return (np.zeros((side, side + (p == 5), 1), np.uint8) for p in positions)

    says = rf"^Image 5 has {side}x{side + 1} pixels; allowed: .*, those of Image 0.$"
    with pytest.raises(UsageError, match=says):
        images.stack(uneven, 9, lambda i: f"Image {i}")
