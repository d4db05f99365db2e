"""The one reader of pictures: PNG and JPEG files, as grey or colour of 8 bits.

A picture is kept as it is, or refused: nothing of it is lost without a word.

| in the file | what becomes of it |
| --- | --- |
| grey or colour of 8 bits | kept |
| grey of 1, 2 or 4 bits | grey of 8 bits, black 0 and white 255 |
| a palette | colour |
| an orientation, 1 to 8 (EXIF, XMP) | turned upright |
| transparency | dropped where all pixels are opaque, else refused |
| several pictures in a JPEG (MPO) | the first: the others are previews, other views |
| an animation of several frames (APNG) | refused |
| 16 bits a channel; four inks (CMYK) | refused |
| more than `MOST_PIXELS` pixels | refused |
| a colour profile, a gamma | not looked at, as in other data sets |

A data set of tensorflow-datasets says itself what its pictures are; see `decode_as`.
"""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, JpegImagePlugin, PngImagePlugin
from PIL import Image as pil

from robust_manifold.data.images import Framing, ImageError

SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")
"""How the names of pictures end."""

MOST_PIXELS = 178_956_970
"""Pillow's own limit, 512 MiB of colour: above it, a picture is taken for an attack."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24
"""Where a PNG file says how many bits a sample has."""

# Not Pillow's `open`, which takes an MPO file for an animation, and warns of pictures
# that are large. With each format's class the most pixels that a byte of a file can
# stand for: of PNG by the format of deflate, of JPEG at a bit for a square of 8x8.
_FORMATS = {
    _PNG: (PngImagePlugin.PngImageFile, 8 * 1032),
    b"\xff\xd8\xff": (JpegImagePlugin.JpegImageFile, 8 * 64),
}
_DAMAGED = "is damaged or of another format; allowed: whole PNG or JPEG files"

_UPRIGHT = {
    2: pil.Transpose.FLIP_LEFT_RIGHT,
    3: pil.Transpose.ROTATE_180,
    4: pil.Transpose.FLIP_TOP_BOTTOM,
    5: pil.Transpose.TRANSPOSE,
    6: pil.Transpose.ROTATE_270,
    7: pil.Transpose.TRANSVERSE,
    8: pil.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its orientation."""

_LOSSLESS = {"1": "L", "P": "RGB"}
"""What a mode can be turned into without a loss, where there is no transparency."""

_MODES = ("L", "RGB")


def decode(
    encoded: bytes, framing: Framing | None = None
) -> UInt8[np.ndarray, "height width channels"]:
    """Returns the pixels of a picture that a user hands in; 1 or 3 channels.

    Args:
      encoded: the content of the file.
      framing: cut and size of the result; by default those of the picture.

    Raises:
      ImageError: if the file is damaged, or holds what grey or colour of 8 bits
        cannot; see the table above.
    """
    image = _opened(encoded)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"holds {frames} frames (animated); allowed: a single one")
    # Pillow rounds 16-bit colour to 8 bits without a word.
    if encoded.startswith(_PNG) and encoded[_PNG_DEPTH] == 16:
        raise ImageError("has 16 bits a channel; allowed: 8")
    image = _opaque(_upright(image))
    if image.mode in _LOSSLESS:
        image = image.convert(_LOSSLESS[image.mode])
    if image.mode not in _MODES:
        raise ImageError(
            f"has the mode {image.mode}; allowed: L (8-bit grey) or RGB (8-bit colour)"
        )
    return _pixels(image, framing)


def decode_as(
    encoded: bytes, mode: str, framing: Framing | None = None
) -> UInt8[np.ndarray, "height width channels"]:
    """Returns the pixels of a picture of a data set, as the data set itself reads it.

    Its channels are those that the data set declares, whatever is lost with them, and
    it is not turned.

    Args:
      encoded: the content of the file.
      mode: "L" (grey) or "RGB".
      framing: cut and size of the result; by default those of the picture.

    Raises:
      ImageError: if the file is damaged or of another format.
    """
    image = _opened(encoded)
    return _pixels(image if image.mode == mode else image.convert(mode), framing)


def _opened(encoded: bytes) -> pil.Image:
    """Returns a PNG or JPEG file as Pillow reads it, its first picture decoded."""
    signature = next((s for s in _FORMATS if encoded.startswith(s)), None)
    if signature is None:
        raise ImageError(_DAMAGED)
    read, pixels_per_byte = _FORMATS[signature]
    try:
        image = read(io.BytesIO(encoded))
    # Whatever Pillow's parsers raise, here and below: OSError, SyntaxError, EOFError,
    # ValueError, struct.error ...
    except Exception as error:
        raise ImageError(_DAMAGED) from error
    width, height = image.size
    # Before memory is taken for what the header says.
    if width * height > pixels_per_byte * len(encoded):
        raise ImageError(_DAMAGED)
    if width * height > MOST_PIXELS:
        raise ImageError(
            f"has {height}x{width} pixels; allowed: at most {MOST_PIXELS:,} in all"
        )
    try:
        image.load()
    except Exception as error:
        raise ImageError(_DAMAGED) from error
    return image


def _upright(image: pil.Image) -> pil.Image:
    """Returns the picture as it is to be looked at."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    # Notes that cannot be read say nothing of how the camera was held.
    except Exception:
        turn = None
    return image if turn is None else image.transpose(turn)


def _opaque(image: pil.Image) -> pil.Image:
    """Returns the picture without its alpha channel, where that says nothing."""
    if image.mode not in ("LA", "PA", "RGBA") and "transparency" not in image.info:
        return image
    opaque, alpha = ("L", "LA") if image.mode in ("1", "L", "LA") else ("RGB", "RGBA")
    whole = image.convert(alpha)
    if whole.getchannel("A").getextrema() != (255, 255):
        raise ImageError(
            f"has an alpha channel (mode {image.mode}); allowed: images without "
            "transparency"
        )
    return whole.convert(opaque)


def _pixels(image: pil.Image, framing: Framing | None) -> np.ndarray:
    pixels = np.asarray(image if framing is None else framing(image))
    return pixels[..., None] if pixels.ndim == 2 else pixels
