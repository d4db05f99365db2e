"""Views of one image as a camera might take it: turned, moved, lit, with noise."""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.core import keys
from robust_manifold.core.outlines import FRAME, OUTLINES, edges
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import Image, PRNGKey, Scalar


class View(NamedTuple):
    """One draw of the transformations of an image."""

    rotation: Scalar
    """Degrees, counterclockwise."""
    scale: Scalar
    """What is shown appears this many times as large."""
    shift: Float[Array, "2"]
    """Pixels downwards and to the right."""
    gain: Scalar
    offset: Scalar
    """Added to every pixel, after the gain."""
    noise: Image
    """Added last."""
    tilt: Float[Array, "2"] | None = None
    """Degrees about the vertical and the horizontal axis; None where none is drawn."""
    blur: Scalar | None = None
    """Standard deviation of a Gaussian, in pixels; None where none is drawn."""
    background: Image | None = None
    """What shows beyond the outline; None without an outline."""


transformations_registry: Registry["Transformations"] = Registry("transformations")
"""The one name that configs write transformations by."""


@transformations_registry.register("transformations")
@dataclasses.dataclass(frozen=True)
class Transformations:
    """Random views of an image (Athalye et al. 2018), each drawn uniformly in a range.

    The view is turned and scaled about its centre and moved, with bilinear sampling;
    beyond its border the image goes on with its outermost pixels, or where there is an
    outline with a background of its own.  Then gain and offset, then blur, then noise,
    then the clip to [0, 1].  With every field at its default a view is the image
    itself, exactly.

    >>> import jax, jax.numpy as jnp
    >>> views = Transformations(rotation=15.0, noise=0.02)
    >>> views(jax.random.key(0), jnp.zeros((8, 8, 1))).shape
    (8, 8, 1)
    """

    rotation: float = 0.0
    """Degrees, to either side."""
    scale: float = 0.0
    """Sizes differ by a factor of 1 - scale to 1 + scale."""
    shift: float = 0.0
    """Share of the side, down or up and to either side."""
    contrast: float = 0.0
    """Pixels are multiplied by 1 - contrast to 1 + contrast."""
    brightness: float = 0.0
    """Added to all pixels, -brightness to brightness, on pixels in [0, 1]."""
    noise: float = 0.0
    """Standard deviation of normal noise, of its own for every pixel."""
    tilt: float = 0.0
    """Degrees out of the image's plane, about the vertical axis to either side, and
    half as many about the horizontal one; seen from twice the image's side away."""
    blur: float = 0.0
    """Standard deviation of a Gaussian, in pixels: 0 to this, at most 2."""
    outline: str = ""
    """What the image shows in its middle, such as octagon or disc: each view has a
    background of its own beyond it, between two colours; empty: the image is all."""

    def __post_init__(self):
        known = ("", *OUTLINES)
        check(self.outline in known, self, "outline", f"empty, {', '.join(OUTLINES)}")
        check(0 <= self.tilt < 60, self, "tilt", "0 or more, below 60")
        check(0 <= self.blur <= _BLUR, self, "blur", f"0 to {_BLUR}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                continue
            below = 1 if field.name in ("scale", "contrast") else math.inf
            allowed = (
                "0 or more, below 1" if below == 1 else "a finite number, 0 or more"
            )
            check(0 <= value < below, self, field.name, allowed)
            object.__setattr__(self, field.name, float(value))

    @property
    def vary(self) -> bool:
        """Whether views differ from the image at all."""
        return any(dataclasses.astuple(self))

    def draw(self, key: PRNGKey, image: Image) -> View:
        """Returns a random view's parameters; only `image`'s shape and type matter."""
        geometry_key, light_key, noise_key = jax.random.split(key, 3)
        height, width, _ = image.shape
        turn, size, *shift = jax.random.uniform(
            geometry_key, (4,), image.dtype, minval=-1
        )
        gain, offset = jax.random.uniform(light_key, (2,), image.dtype, minval=-1)
        noise = jnp.zeros_like(image)
        if self.noise:
            drawn = keys.drawn(jax.random.normal, noise_key, image.shape, image.dtype)
            noise = self.noise * drawn
        optional = {}
        if self.tilt:
            tilt_key = keys.stream(key, "tilt")
            drawn = jax.random.uniform(tilt_key, (2,), image.dtype, minval=-1)
            optional["tilt"] = self.tilt * drawn * jnp.array([1, 0.5], image.dtype)
        if self.blur:
            blur_key = keys.stream(key, "blur")
            optional["blur"] = self.blur * jax.random.uniform(blur_key, (), image.dtype)
        if self.outline:
            own = keys.stream(key, "background")
            optional["background"] = _background(own, image)
        return View(
            **optional,
            rotation=self.rotation * turn,
            scale=1 + self.scale * size,
            shift=self.shift * jnp.stack([height * shift[0], width * shift[1]]),
            gain=1 + self.contrast * gain,
            offset=self.brightness * offset,
            noise=noise,
        )

    def view(self, image: Image, view: View) -> Image:
        """Returns the image as `view` shows it, pixels in [0, 1]."""
        if not self.vary:
            return image
        if self.rotation or self.scale or self.shift or self.tilt:
            rows, columns = _sources(
                image, view.rotation, view.scale, view.shift, view.tilt
            )
            turned = _bilinear(image, rows, columns)
        else:
            rows, columns = _grid(image)
            turned = image
        if view.background is not None:
            inside = _inside(self.outline, image, rows, columns)
            inside = inside[..., None]
            turned = inside * turned + (1 - inside) * view.background
        lit = view.gain * turned + view.offset
        if view.blur is not None:
            lit = _blurred(lit, view.blur)
        return jnp.clip(lit + view.noise, 0, 1)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        """Returns a random view of the image, pixels in [0, 1]."""
        return self.view(image, self.draw(key, image))


def affine(
    image: Image, rotation: Scalar, scale: float | Scalar, shift: Float[Array, "2"]
) -> Image:
    """Returns the image turned and scaled about its centre, then moved; bilinear.

    Args:
      image: of any values; beyond its border it goes on with its outermost pixels.
      rotation: degrees, counterclockwise.
      scale: above 0; 2 shows everything twice as large.
      shift: pixels downwards and to the right.
    """
    return _bilinear(image, *_sources(image, rotation, scale, shift))


_CAMERA = 4.0
"""Distance from which a tilted image is seen, in half sides."""
_BLUR = 2.0
"""The largest blur; its Gaussian is cut off at twice this."""


def _grid(image: Image) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Returns row and column of every pixel."""
    height, width, _ = image.shape
    rows, columns = jnp.meshgrid(
        jnp.arange(height, dtype=image.dtype),
        jnp.arange(width, dtype=image.dtype),
        indexing="ij",
    )
    return rows, columns


def _middle(image: Image) -> tuple[float, float]:
    height, width, _ = image.shape
    return (height - 1) / 2, (width - 1) / 2


def _sources(
    image: Image,
    rotation: Scalar,
    scale: float | Scalar,
    shift: Float[Array, "2"],
    tilt: Float[Array, "2"] | None = None,
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Returns the row and the column of the image that each pixel of the view shows."""
    rows, columns = _grid(image)
    middle_row, middle_column = _middle(image)
    down = (rows - middle_row - shift[0]) / scale
    right = (columns - middle_column - shift[1]) / scale
    angle = jnp.deg2rad(rotation)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    down, right = sin * right + cos * down, cos * right - sin * down
    if tilt is not None:
        half = min(image.shape[:2]) / 2
        right, down = _untilted(right / half, down / half, jnp.deg2rad(tilt))
        right, down = half * right, half * down
    return middle_row + down, middle_column + right


def _untilted(
    right: Float[Array, "h w"], down: Float[Array, "h w"], tilt: Float[Array, "2"]
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Returns the points of a tilted plane that are seen at points, in half sides.

    The point (x, y) of the plane lies, once turned about the vertical axis and then
    about the horizontal one, at (X, Y, Z), all linear in x and y, and is seen at
    X / (1 + Z / camera) and Y / (1 + Z / camera): two linear equations.
    """
    cos_yaw, cos_pitch = jnp.cos(tilt)
    sin_yaw, sin_pitch = jnp.sin(tilt)
    near_x, near_y = -cos_pitch * sin_yaw / _CAMERA, sin_pitch / _CAMERA
    a, b = cos_yaw - right * near_x, -right * near_y
    c, d = sin_pitch * sin_yaw - down * near_x, cos_pitch - down * near_y
    determinant = a * d - b * c
    return (
        (d * right - b * down) / determinant,
        (a * down - c * right) / determinant,
    )


def _inside(
    outline: str, image: Image, rows: Float[Array, "h w"], columns: Float[Array, "h w"]
) -> Float[Array, "h w"]:
    """Returns how far pixels show the inside of an outline, from 0 to 1.

    Args:
      outline: one of `OUTLINES`.
      image: that it lies in the middle of.
      rows: of the image, that the pixels show.
      columns: likewise.
    """
    middle_row, middle_column = _middle(image)
    radius = FRAME * min(image.shape[:2]) / 2
    normals, distances = edges(outline)
    depths = [
        radius * distance
        - right * (columns - middle_column)
        - down * (rows - middle_row)
        for (right, down), distance in zip(
            normals.tolist(), distances.tolist(), strict=True
        )
    ]
    # The edge falls off over one pixel of the image.
    depth = functools.reduce(jnp.minimum, depths)
    return jnp.clip(depth + 0.5, 0, 1).astype(image.dtype)


def _background(key: PRNGKey, image: Image) -> Image:
    """Returns a gradient between two random colours, in a random direction."""
    colour_key, angle_key = jax.random.split(key)
    colours = jax.random.uniform(
        colour_key, (2, image.shape[-1]), image.dtype, minval=0.15, maxval=0.85
    )
    angle = jax.random.uniform(angle_key, (), image.dtype, maxval=2 * math.pi)
    rows, columns = _grid(image)
    middle_row, middle_column = _middle(image)
    along = jnp.cos(angle) * (columns - middle_column)
    along += jnp.sin(angle) * (rows - middle_row)
    share = jnp.clip(0.5 + along / max(image.shape[:2]), 0, 1)[..., None]
    first, second = colours[0, None, None], colours[1, None, None]
    return share * first + (1 - share) * second


def _blurred(image: Image, deviation: Scalar) -> Image:
    """Returns the image under a Gaussian; beyond its border it goes on as it ends."""
    reach = math.ceil(2 * _BLUR)
    offsets = jnp.arange(-reach, reach + 1, dtype=image.dtype)
    # Without blur all weight is the pixel's own.
    narrow = jnp.maximum(deviation, 0.05)
    weights = jnp.exp(-(offsets**2) / (2 * narrow**2))
    weights = weights / jnp.sum(weights)
    for axis in range(2):
        around = [(reach, reach) if each == axis else (0, 0) for each in range(3)]
        padded = jnp.pad(image, around, mode="edge")
        side = image.shape[axis]
        moved = [
            jax.lax.slice_in_dim(padded, place, place + side, axis=axis)
            for place in range(2 * reach + 1)
        ]
        image = jnp.tensordot(weights, jnp.stack(moved), 1)
    return image


def _bilinear(
    image: Image, rows: Float[Array, "h w"], columns: Float[Array, "h w"]
) -> Image:
    """Returns the image's values between its pixels, at the nearest point inside."""
    height, width, channels = image.shape
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    bottom, other = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
    # One index a pixel: a gather of rows of channels, cheap under vmap.
    flat = image.reshape(-1, channels)

    def at(row: Array, column: Array) -> Array:
        return flat[row * width + column]

    upper = (1 - right) * at(top, left) + right * at(top, other)
    lower = (1 - right) * at(bottom, left) + right * at(bottom, other)
    return (1 - down) * upper + down * lower
