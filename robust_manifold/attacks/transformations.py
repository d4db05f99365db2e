"""Views of one image as a camera might take it: turned, moved, lit, with noise."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.core import keys
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


transformations_registry: Registry["Transformations"] = Registry("transformations")
"""The one name that configs write transformations by."""


@transformations_registry.register("transformations")
@dataclasses.dataclass(frozen=True)
class Transformations:
    """Random views of an image (Athalye et al. 2018), each drawn uniformly in a range.

    The view is turned and scaled about its centre and moved, with bilinear sampling;
    beyond its border the image goes on with its outermost pixels.  Then gain and
    offset, then noise, then the clip to [0, 1].  With every field 0 a view is the
    image itself, exactly.

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

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
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
        return View(
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
        if self.rotation or self.scale or self.shift:
            image = affine(image, view.rotation, view.scale, view.shift)
        lit = view.gain * image + view.offset
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
    height, width, channels = image.shape
    rows, columns = jnp.meshgrid(
        jnp.arange(height, dtype=image.dtype),
        jnp.arange(width, dtype=image.dtype),
        indexing="ij",
    )
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    down = (rows - middle_row - shift[0]) / scale
    right = (columns - middle_column - shift[1]) / scale
    angle = jnp.deg2rad(rotation)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _bilinear(
        image,
        middle_row + sin * right + cos * down,
        middle_column + cos * right - sin * down,
    )


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
