import io

import numpy as np
import pytest
from PIL import Image as pil

from robust_manifold.core.errors import UsageError
from robust_manifold.data.images import Framing
from robust_manifold.data.user_images import (
    UserImages,
    Wanted,
    as_float,
    content_id,
)

GREY = np.random.default_rng(0).integers(0, 256, (6, 8, 1), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)


def encode(image, form="png", **options):
    stream = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = pil.fromarray(image.squeeze())
    image.save(stream, format=form, **options)
    return stream.getvalue()


@pytest.fixture
def read(tmp_path):
    """Returns a function from one image and what is wanted to what is read."""

    def read_one(pixels, wanted):
        (tmp_path / "image.png").write_bytes(encode(pixels))
        [image] = UserImages(tmp_path).read(wanted)
        return image

    return read_one


def test_channels_change_only_without_a_loss(read):
    found = read(GREY, Wanted((6, 8, 3)))
    np.testing.assert_array_equal(found.pixels, np.repeat(GREY, 3, axis=-1))
    found = read(np.repeat(GREY, 3, axis=-1), Wanted((6, 8, 1)))
    np.testing.assert_array_equal(found.pixels, GREY)
    found = read(COLOUR, Wanted((6, 8, 1)))
    assert found.pixels is None and "is in colour" in found.reason


def test_sizes_change_only_where_that_is_asked_for(read):
    assert "has 6x8 pixels; allowed: 4x4" in read(GREY, Wanted((4, 4, 1))).reason
    found = read(GREY, Wanted((4, 4, 1), Framing(4, 4)))
    np.testing.assert_array_equal(found.pixels, GREY[1:5, 2:6])
    # A result of the cut is too small for it, and stays; other small images are bad.
    found = read(GREY[:4, :4], Wanted((4, 4, 1), Framing(5, 4)))
    np.testing.assert_array_equal(found.pixels, GREY[:4, :4])
    assert "the crop" in read(GREY[:4], Wanted((4, 4, 1), Framing(5, 4))).reason


def test_files_are_sorted_and_hidden_ones_passed_over(tmp_path):
    for name in ("b.png", "a/z.png", ".c.png", ".hidden/d.png", "a/b/y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encode(GREY))
    assert UserImages(tmp_path).names == ["a/b/y.png", "a/z.png", "b.png"]


def test_an_id_is_of_the_pixels_alone():
    ids = {content_id(pixels) for pixels in (GREY, COLOUR, GREY.transpose(1, 0, 2))}
    assert len(ids) == 3 and all(0 <= i < 2**31 for i in ids)
    assert content_id(GREY) == content_id(as_float(GREY))


def test_floats_keep_their_precision(tmp_path):
    images = np.random.default_rng(0).random((2, 6, 8))
    np.savez(tmp_path / "images.npz", images=images)
    found = list(UserImages(tmp_path / "images.npz").read(Wanted((6, 8, 1))))
    np.testing.assert_array_equal(
        [i.pixels[..., 0] for i in found], images.astype(np.float32)
    )
    assert [i.name for i in found] == ["images[0]", "images[1]"]


def test_an_archive_of_another_size_is_one_mistake(tmp_path):
    np.savez(tmp_path / "images.npz", images=np.stack([GREY] * 5))
    images = UserImages(tmp_path / "images.npz")
    with pytest.raises(UsageError, match=r"\(5, 6, 8, 1\): an image has 6x8 pixels"):
        list(images.read(Wanted((4, 4, 1))))
