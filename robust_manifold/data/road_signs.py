"""Road signs drawn by code: their faces, and views of them as a camera has them.

A face is drawn once, from the front.  A view turns it in space, sets it before a
background of its own, lights it, blurs it and adds noise.  A sticker is printed onto a
face before it is seen, so that it is turned, lit and blurred with the sign.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image as pil
from PIL import ImageDraw, ImageFilter, ImageFont

from robust_manifold.core.errors import unknown_name
from robust_manifold.core.outlines import FRAME, OUTLINES, Vertices, coverage

RED, WHITE, BLACK = (190, 25, 35), (238, 238, 232), (22, 22, 24)
BLUE, YELLOW = (25, 80, 165), (240, 190, 30)

_SIDE = 96
"""Pixels of a face's side; views are seen at the same size and then made smaller."""
_FINE = 4
"""Drawn so many times as large, and made smaller, which smooths the edges."""


class _Sign(NamedTuple):
    outline: str
    rim: tuple[int, int, int]
    field: tuple[int, int, int]
    inner: float
    """Size of the field, as a share of the outline."""
    content: str
    """Text, or the name of a shape in angle brackets."""
    ink: tuple[int, int, int]


_SIGNS = {
    "stop": _Sign("octagon", WHITE, RED, 0.93, "STOP", WHITE),
    "yield": _Sign("inverted_triangle", RED, WHITE, 0.62, "", BLACK),
    "warning": _Sign("triangle", RED, WHITE, 0.68, "<mark>", BLACK),
    "no entry": _Sign("disc", WHITE, RED, 0.94, "<bar>", WHITE),
    "limit 30": _Sign("disc", RED, WHITE, 0.76, "30", BLACK),
    "limit 50": _Sign("disc", RED, WHITE, 0.76, "50", BLACK),
    "limit 80": _Sign("disc", RED, WHITE, 0.76, "80", BLACK),
    "priority": _Sign("diamond", WHITE, YELLOW, 0.74, "", BLACK),
    "parking": _Sign("square", WHITE, BLUE, 0.93, "P", WHITE),
    "ahead only": _Sign("disc", WHITE, BLUE, 0.94, "<arrow>", WHITE),
}
CLASSES = tuple(_SIGNS)
"""The signs, in the order of their labels."""

_SHAPES: dict[str, list[list[tuple[float, float]]]] = {
    "<bar>": [[(-0.66, -0.17), (0.66, -0.17), (0.66, 0.17), (-0.66, 0.17)]],
    "<mark>": [
        [(-0.09, -0.42), (0.09, -0.42), (0.05, 0.14), (-0.05, 0.14)],
        [(-0.08, 0.22), (0.08, 0.22), (0.08, 0.37), (-0.08, 0.37)],
    ],
    "<arrow>": [
        [(0.0, -0.66), (0.42, -0.16), (0.13, -0.2), (0.13, 0.62)]
        + [(-0.13, 0.62), (-0.13, -0.2), (-0.42, -0.16)],
    ],
}
"""Polygons of points (right, down), in radii of the sign."""
_TEXT_HEIGHT = {"STOP": 0.62, "P": 1.15}
"""Of capitals, in radii of the sign."""
_NUMBER_HEIGHT = 0.8


class Face(NamedTuple):
    """A sign from the front, in the middle of the image."""

    image: UInt8[np.ndarray, "side side 3"]
    """Grey outside the sign."""
    mask: Bool[np.ndarray, "side side"]
    """Where the sign is; the pixels that it covers by half or more."""


class Pose(NamedTuple):
    """How a view differs from a face; each field is drawn uniformly from its range."""

    yaw: float
    """Degrees about the vertical axis."""
    pitch: float
    """Degrees about the horizontal axis."""
    roll: float
    """Degrees in the image."""
    size: float
    """Of the sign, in sizes of its face: the farther, the smaller."""
    right: float
    """Shift of the centre, in sides of the image."""
    down: float
    gain: float
    """Of all light."""
    warmth: float
    """What red gains and blue loses of it."""
    blur: float
    """Standard deviation, in sides of the image."""
    noise: float
    """Standard deviation, on pixels in [0, 1]."""


RANGES: dict[str, tuple[float, float]] = {
    "yaw": (-40.0, 40.0),
    "pitch": (-20.0, 20.0),
    "roll": (-10.0, 10.0),
    "size": (0.6, 1.1),
    "right": (-0.06, 0.06),
    "down": (-0.06, 0.06),
    "gain": (0.45, 1.15),
    "warmth": (-0.08, 0.08),
    "blur": (0.0, 0.02),
    "noise": (0.0, 0.03),
}
"""From where to where each field of a `Pose` goes."""

_CAMERA = 4.0
"""Distance of the camera, in half sides of the image."""


def face(name: str, side: int) -> Face:
    """Returns the drawing of a sign from the front, [side, side].

    >>> face("stop", 32).image.shape
    (32, 32, 3)

    Raises:
      UsageError: for a name that is none of `CLASSES`.
    """
    sign = _of(name)
    canvas, _ = _drawn(name)
    image = pil.fromarray(canvas).resize((side, side), pil.Resampling.BOX)
    mask = coverage(sign.outline, side, side)
    grey = 128 * (1 - mask[..., None])
    pixels = np.rint(mask[..., None] * np.asarray(image, float) + grey)
    return Face(pixels.astype(np.uint8), mask >= 0.5)


def outline_of(name: str) -> str:
    """Returns the outline of a sign, one of `core.outlines.OUTLINES`.

    Raises:
      UsageError: for a name that is none of `CLASSES`.
    """
    return _of(name).outline


def view(
    name: str,
    side: int,
    random: np.random.RandomState,
    *,
    sticker: UInt8[np.ndarray, "height width 3"] | None = None,
    mask: Bool[np.ndarray, "height width"] | None = None,
) -> UInt8[np.ndarray, "side side 3"]:
    """Returns a random view of a sign.

    The same numbers are drawn with a sticker and without.

    Args:
      name: one of `CLASSES`.
      side: of the view, in pixels.
      random: what the view is drawn from.
      sticker: what is printed on the face, drawn as large as `face` of its side.
      mask: where it is printed; needed with a sticker.

    Raises:
      UsageError: for a name that is none of `CLASSES`.
    """
    colours, alpha = _drawn(name)
    if sticker is not None:
        assert mask is not None
        colours = _printed(colours, sticker, mask)
    pose = Pose(*(random.uniform(*RANGES[field]) for field in Pose._fields))
    background = _background(random)
    coefficients = _inverse_homography(pose)

    def seen(image: np.ndarray) -> np.ndarray:
        turned = pil.fromarray(image).transform(
            (_SIDE, _SIDE),
            pil.Transform.PERSPECTIVE,
            coefficients,
            pil.Resampling.BILINEAR,
        )
        return np.asarray(turned, float) / 255

    covered = seen(alpha)[..., None]
    scene = covered * seen(colours) + (1 - covered) * background
    light = pose.gain * (1 + pose.warmth * np.array([1.0, 0.0, -1.0]))
    lit = np.rint(255 * np.clip(scene * light, 0, 1)).astype(np.uint8)
    blurred = pil.fromarray(lit).filter(ImageFilter.GaussianBlur(pose.blur * _SIDE))
    small = np.asarray(blurred.resize((side, side), pil.Resampling.BOX), float)
    noisy = small + 255 * pose.noise * random.normal(size=small.shape)
    return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)


def _of(name: str) -> _Sign:
    if name not in _SIGNS:
        raise unknown_name("road sign", name, _SIGNS)
    return _SIGNS[name]


@functools.lru_cache
def _drawn(
    name: str,
) -> tuple[UInt8[np.ndarray, "s s 3"], UInt8[np.ndarray, "s s"]]:
    """Returns the colours of a face, its rim's outside it, and where the face is."""
    sign = _SIGNS[name]
    side = _FINE * _SIDE
    image = pil.new("RGB", (side, side), sign.rim)
    draw = ImageDraw.Draw(image)
    draw.polygon(_pixels(sign.inner * OUTLINES[sign.outline]), sign.field)
    if sign.content in _SHAPES:
        for shape in _SHAPES[sign.content]:
            draw.polygon(_pixels(np.array(shape)), sign.ink)
    elif sign.content:
        image.paste(sign.ink, mask=_text(sign.content))
    small = image.resize((_SIDE, _SIDE), pil.Resampling.BOX)
    alpha = np.rint(255 * coverage(sign.outline, _SIDE, _SIDE)).astype(np.uint8)
    return np.asarray(small), alpha


def _pixels(points: Vertices) -> list[tuple[float, float]]:
    """Returns points in radii of the sign as pixels of the fine canvas."""
    half = _FINE * _SIDE / 2
    return [(half + x, half + y) for x, y in (half * FRAME * points).tolist()]


def _text(text: str) -> pil.Image:
    """Returns a mask of the fine canvas with a text in its middle, as high as wanted.

    The letters are drawn at one size and stretched: bold, and narrow where the text is
    long.
    """
    side = _FINE * _SIDE
    font = ImageFont.load_default(200)
    left, top, right, bottom = font.getbbox(text, stroke_width=8)
    letters = pil.new("L", (round(right - left), round(bottom - top)), 0)
    ImageDraw.Draw(letters).text(
        (-left, -top), text, fill=255, font=font, stroke_width=8
    )
    height = _TEXT_HEIGHT.get(text, _NUMBER_HEIGHT)
    height *= side / 2 * FRAME
    width = min(height * letters.width / letters.height, 1.45 * side / 2 * FRAME)
    letters = letters.resize((round(width), round(height)), pil.Resampling.BILINEAR)
    mask = pil.new("L", (side, side), 0)
    mask.paste(letters, ((side - letters.width) // 2, (side - letters.height) // 2))
    return mask


def _printed(
    colours: UInt8[np.ndarray, "s s 3"],
    sticker: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "s s 3"]:
    """Returns a face with a sticker on it, whose pixels are small squares."""
    large = pil.fromarray(sticker).resize((_SIDE, _SIDE), pil.Resampling.NEAREST)
    where = pil.fromarray(mask).convert("L")
    where = where.resize((_SIDE, _SIDE), pil.Resampling.NEAREST)
    return np.where(np.asarray(where)[..., None] > 0, np.asarray(large), colours)


def _background(random: np.random.RandomState) -> Float[np.ndarray, "s s 3"]:
    """Returns a background: a gradient between two colours, with soft patches."""
    first, second = random.uniform(0.15, 0.85, (2, 3))
    # Most of what stands behind a sign is grey, green or blue, hardly ever red.
    tint = np.array([0.9, 1.0, 1.0])
    greyness = random.uniform(0.3, 0.9, (2, 1))
    colours = np.stack([first, second]) * tint
    colours = greyness * colours.mean(1, keepdims=True) + (1 - greyness) * colours
    angle = random.uniform(0, 2 * math.pi)
    places = np.linspace(-1, 1, _SIDE)
    along = np.cos(angle) * places[None, :] + np.sin(angle) * places[:, None]
    share = np.clip(0.5 + 0.5 * along, 0, 1)[..., None]
    smooth = share * colours[0] + (1 - share) * colours[1]
    cells = np.rint(255 * random.uniform(size=(4, 4))).astype(np.uint8)
    patches = pil.fromarray(cells).resize((_SIDE, _SIDE), pil.Resampling.BICUBIC)
    strength = random.uniform(0, 0.35)
    return np.clip(
        smooth + strength * (np.asarray(patches, float)[..., None] / 255 - 0.5), 0, 1
    )


def _inverse_homography(pose: Pose) -> tuple[float, ...]:
    """Returns the eight numbers by which Pillow finds a view's pixels on the face."""
    yaw, pitch, roll = np.deg2rad([pose.yaw, pose.pitch, pose.roll])
    about_vertical = np.array(
        [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    )
    about_horizontal = np.array(
        [
            [1, 0, 0],
            [0, np.cos(pitch), -np.sin(pitch)],
            [0, np.sin(pitch), np.cos(pitch)],
        ]
    )
    in_image = np.array(
        [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    )
    turned = in_image @ about_horizontal @ about_vertical
    # A point (x, y) of the face's plane, in half sides, as the camera sees it.
    seen = np.array(
        [
            [pose.size, 0, 2 * pose.right],
            [0, pose.size, 2 * pose.down],
            [0, 0, 1],
        ]
    ) @ np.stack(
        [turned[0, :2].tolist() + [0], turned[1, :2].tolist() + [0]]
        + [[turned[2, 0] / _CAMERA, turned[2, 1] / _CAMERA, 1]]
    )
    half = _SIDE / 2
    to_pixels = np.array([[half, 0, half], [0, half, half], [0, 0, 1]])
    back = to_pixels @ np.linalg.inv(to_pixels @ seen)
    return tuple((back / back[2, 2]).ravel()[:8].tolist())
