"""The reader of pictures: every encoding is kept as it is, or refused in a sentence."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image as pil
from PIL import ImageOps

from robust_manifold import data
from robust_manifold.core.errors import UsageError
from robust_manifold.data import pictures
from robust_manifold.data.images import Framing, ImageError
from robust_manifold.data.user_images import UserImages, Wanted

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
GREY = COLOUR[..., :1]


def encode(image, form="png", **options):
    stream = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = pil.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    image.save(stream, format=form, **options)
    return stream.getvalue()


def smooth(form="jpeg", **options):
    """Returns a picture without symmetry that JPEG keeps to a few levels."""
    rows, columns = np.mgrid[0:16, 0:24]
    return encode((4 * rows + 7 * columns).astype(np.uint8)[..., None], form, **options)


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(width, height, depth, colour, rows):
    """Returns a PNG file, also of kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def blank(width, height):
    """Returns a whole white PNG of a bit a pixel, with little memory and time."""
    packer, row = zlib.compressobj(1), b"\0" + b"\xff" * ((width + 7) // 8)
    rows = b"".join([packer.compress(row) for _ in range(height)]) + packer.flush()
    return png(width, height, 1, 0, rows)


def exif(orientation):
    notes = pil.Exif()
    notes[0x0112] = orientation
    return notes


def mpo(form="MPO"):
    """Returns a photo with a preview, as cameras and phones write it."""
    photo, preview = (pil.fromarray(np.full((8, 12, 3), v, np.uint8)) for v in (90, 9))
    stream = io.BytesIO()
    photo.save(stream, form, save_all=True, append_images=[preview], exif=exif(6))
    return stream.getvalue()


def palette():
    image = pil.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8), "P")
    image.putpalette(COLOUR.tobytes()[:144] * 5 + bytes(48))
    return image


def with_alpha(pixels, alpha):
    return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), alpha)], -1).astype(
        np.uint8
    )


LA = with_alpha(GREY, 255)

# What a file holds, and the pixels that come out.
KEPT = {
    "grey": (encode(GREY), GREY),
    "colour": (encode(COLOUR), COLOUR),
    "one bit": (encode(pil.fromarray(GREY[..., 0] > 99)), 255 * (GREY > 99)),
    "two bits": (
        png(2, 2, 2, 0, zlib.compress(bytes([0, 0b00010000, 0, 0b10110000]))),
        np.array([[0, 85], [170, 255]])[..., None],
    ),
    "four bits": (
        png(2, 1, 4, 0, zlib.compress(bytes([0, 0x1F]))),
        np.array([[17, 255]])[..., None],
    ),
    "a palette": (encode(palette()), np.asarray(palette().convert("RGB"))),
    "an opaque palette": (
        encode(palette(), transparency=bytes([255] * 256)),
        np.asarray(palette().convert("RGB")),
    ),
    "opaque colour": (encode(with_alpha(COLOUR, 255)), COLOUR),
    "opaque grey": (encode(pil.fromarray(LA, "LA")), GREY),
    "a transparent colour that is not there": (
        encode(COLOUR | 1, transparency=(0, 0, 0)),
        COLOUR | 1,
    ),
    "one frame": (encode(GREY, save_all=True), GREY),
    "interlaced": (encode(COLOUR, "jpeg", quality=95, progressive=True), None),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept(name):
    encoded, pixels = KEPT[name]
    found = pictures.decode(encoded)
    assert found.dtype == np.uint8 and found.ndim == 3
    if pixels is not None:
        np.testing.assert_array_equal(found, pixels)


ANIMATION = [pil.fromarray(np.full((4, 4), v, np.uint8)) for v in (0, 99, 200)]

REFUSED = {
    "16-bit grey": (encode(pil.fromarray(GREY[..., 0].astype(np.uint16))), "16 bits"),
    "16-bit colour": (
        png(2, 2, 16, 2, zlib.compress((b"\0" + bytes(range(12))) * 2)),
        "has 16 bits a channel; allowed: 8",
    ),
    "transparent colour": (encode(with_alpha(COLOUR, 254)), "alpha channel .mode RGBA"),
    "transparent grey": (encode(pil.new("LA", (2, 2))), "alpha channel .mode LA"),
    "a transparent colour": (
        encode(np.zeros((2, 2, 3), np.uint8), transparency=(0, 0, 0)),
        "alpha channel .mode RGB.; allowed: images without transparency",
    ),
    "a transparent palette": (encode(palette(), transparency=0), "alpha channel"),
    "an animation": (
        encode(ANIMATION[0], save_all=True, append_images=ANIMATION[1:]),
        "holds 3 frames .animated.; allowed: a single one",
    ),
    "four inks": (encode(pil.new("CMYK", (2, 2)), "jpeg"), "has the mode CMYK"),
    "half a PNG": (encode(COLOUR)[:90], "is damaged"),
    "half a JPEG": (smooth()[:-40], "is damaged"),
    "a header alone": (smooth()[:4], "is damaged"),
    "nothing": (b"", "is damaged or of another format; allowed: whole PNG or JPEG"),
    "a GIF": (encode(GREY, "gif"), "another format"),
    "a BMP": (encode(GREY, "bmp"), "another format"),
    "a WebP": (b"RIFF\x1a\0\0\0WEBPVP8 " + bytes(20), "another format"),
    "a size that no file so short has": (
        png(13_000, 13_000, 8, 2, zlib.compress(b"\0" * 99)),
        "is damaged",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    encoded, reason = REFUSED[name]
    with pytest.raises(ImageError, match=reason):
        pictures.decode(encoded)


@pytest.mark.parametrize("form", ["jpeg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(form, orientation):
    encoded = smooth(form, exif=exif(orientation))
    with pil.open(io.BytesIO(encoded)) as image:
        turned = np.asarray(ImageOps.exif_transpose(image))
        stored = np.asarray(image)
    found = pictures.decode(encoded)[..., 0]
    np.testing.assert_array_equal(found, turned)
    assert (orientation == 1) == np.array_equal(found, stored)
    # The data sets of others are as they read them.
    np.testing.assert_array_equal(pictures.decode_as(encoded, "L")[..., 0], stored)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("notes", [b"Exif\0\0", b"Exif\0\0MM\0*" + b"\xff" * 40])
def test_notes_that_cannot_be_read_say_nothing(notes):
    encoded = smooth(exif=notes)
    assert pictures.decode(encoded).shape == (16, 24, 1)


def test_the_first_picture_of_several_is_the_photo():
    encoded = mpo()
    with pil.open(io.BytesIO(encoded)) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    found = pictures.decode(encoded)
    # Held upright: stored 8 high and 12 wide, to be turned.
    np.testing.assert_allclose(found, np.full((12, 8, 3), 90), atol=2)


def test_whole_pictures_that_are_too_large_are_told_so():
    encoded = blank(14_000, 14_000)
    assert len(encoded) < 200_000
    with pytest.raises(ImageError) as error:
        pictures.decode(encoded)
    assert str(error.value) == (
        "has 14000x14000 pixels; allowed: at most 178,956,970 in all"
    )


@pytest.mark.slow
def test_large_pictures_are_read_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pictures.decode(blank(10_000, 10_000), Framing(9_990, 4))
    np.testing.assert_array_equal(found, np.full((4, 4, 1), 255))


def test_a_framing_cuts_what_stands_upright():
    encoded = smooth("png", exif=exif(6))
    whole = pictures.decode(encoded)
    np.testing.assert_array_equal(
        pictures.decode(encoded, Framing(crop=10)), whole[7:17, 3:13]
    )


# ------------------------------------------------- the same for all who read


def as_data(root, encoded):
    (root / "class").mkdir(parents=True)
    (root / "class" / "a.png").write_bytes(encoded)
    return data.load(f"folder:{root}").train.images[0]


def as_user_image(root, encoded, shape):
    (root / "class").mkdir(parents=True)
    (root / "class" / "a.png").write_bytes(encoded)
    (image,) = UserImages(root).read(Wanted(shape))
    return image


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_is_kept_by_all(name, tmp_path):
    encoded, _ = KEPT[name]
    found = pictures.decode(encoded)
    np.testing.assert_array_equal(as_data(tmp_path / "data", encoded), found)
    image = as_user_image(tmp_path / "project", encoded, found.shape)
    assert image.pixels is not None, image.reason
    np.testing.assert_array_equal(image.pixels, found)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_by_all(name, tmp_path):
    encoded, reason = REFUSED[name]
    with pytest.raises(UsageError, match=reason) as error:
        as_data(tmp_path / "data", encoded)
    image = as_user_image(tmp_path / "project", encoded, (6, 8, 3))
    assert image.pixels is None
    assert str(error.value) == (f"Image {tmp_path}/data/class/a.png {image.reason}.")


def test_photos_enter_upright_in_both(tmp_path):
    encoded = mpo()
    assert as_data(tmp_path / "data", encoded).shape == (12, 8, 3)
    image = as_user_image(tmp_path / "project", encoded, (12, 8, 3))
    assert image.pixels is not None, image.reason


@pytest.mark.parametrize("first", [GREY, COLOUR])
def test_grey_pictures_among_colour_repeat_their_channel(first, tmp_path):
    both = [GREY, COLOUR] if first is GREY else [COLOUR, GREY]
    (tmp_path / "class").mkdir()
    for name, pixels in zip("ab", both, strict=True):
        (tmp_path / "class" / f"{name}.png").write_bytes(encode(pixels))
    found = data.load(f"folder:{tmp_path}").train.images
    np.testing.assert_array_equal(
        found, [np.broadcast_to(pixels, (6, 8, 3)) for pixels in both]
    )


def test_pipes_are_no_pictures(tmp_path):
    (tmp_path / "class").mkdir()
    os.mkfifo(tmp_path / "class" / "a.png")
    with pytest.raises(UsageError, match=r"a\.png cannot be read .it is a pipe or a"):
        data.load(f"folder:{tmp_path}")
    (image,) = UserImages(tmp_path).read(Wanted((6, 8, 3)))
    assert "it is a pipe or a device, no file" in image.reason
