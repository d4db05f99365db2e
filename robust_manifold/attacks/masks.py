"""Where a sticker lies on an image: shapes in shares of the image, as pixels."""

import abc
import dataclasses
import math

import numpy as np
from jaxtyping import Bool

from robust_manifold.attacks.windows import fitted
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check


class Mask(abc.ABC):
    """Base class of all masks: subclasses are frozen dataclasses."""

    @abc.abstractmethod
    def pixels(self, height: int, width: int) -> Bool[np.ndarray, "height width"]:
        """Returns which pixels of an image the sticker covers; one or more."""


masks_registry: Registry[Mask] = Registry("mask")
"""The masks by the names that configs use."""


@masks_registry.register("square")
@dataclasses.dataclass(frozen=True)
class SquareMask(Mask):
    """One square.

    >>> SquareMask(size=0.5).pixels(4, 4).sum()
    np.int64(4)
    """

    size: float
    """Its side, as a share of the side of a square of the image's area; where it is
    longer than one side of the image, it grows along the other to the same area."""
    row: float = 0.5
    """Of its centre, as a share of the image's height from the top."""
    column: float = 0.5
    """Of its centre, as a share of the image's width from the left."""

    def __post_init__(self):
        _check_shares(self, "size")

    def pixels(self, height: int, width: int) -> Bool[np.ndarray, "height width"]:
        """Returns the square, or what it grows to, moved to lie on the image."""
        side = self.size * math.sqrt(height * width)
        rows, columns = fitted(max(round(side), 1), side**2, height, width)
        tall = _stretch(self.row, float(rows), height)
        return np.outer(tall, _stretch(self.column, float(columns), width))


@masks_registry.register("stickers")
@dataclasses.dataclass(frozen=True)
class StickersMask(Mask):
    """Two horizontal bars, as on the stop signs of Eykholt et al. (2018)."""

    length: float = 0.6
    """As a share of the image's width."""
    thickness: float = 0.15
    """As a share of the image's height."""
    upper: float = 0.25
    """Middle of the upper bar, as a share of the image's height from the top."""
    lower: float = 0.75
    """Likewise of the lower bar."""

    def __post_init__(self):
        _check_shares(self, "length", "thickness")

    def pixels(self, height: int, width: int) -> Bool[np.ndarray, "height width"]:
        """Returns both bars, moved as little as it takes to lie on the image."""
        thickness = self.thickness * height
        rows = _stretch(self.upper, thickness, height)
        rows |= _stretch(self.lower, thickness, height)
        return np.outer(rows, _stretch(0.5, self.length * width, width))


def as_mask(mask: Mask | str) -> Mask:
    """Returns the mask that a config's text describes; a mask as it is."""
    return masks_registry.build(mask) if isinstance(mask, str) else mask


def pixels_of(mask: Mask, height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """Returns which pixels a mask covers, of the user's own too.

    Raises:
      UsageError: unless it says so of every pixel, and covers one or more.
    """
    pixels = np.asarray(mask.pixels(height, width))
    if pixels.shape != (height, width) or pixels.dtype != bool or not pixels.any():
        raise UsageError(
            f"mask.pixels gives an array {pixels.shape} of type {pixels.dtype} that "
            f"covers {np.count_nonzero(pixels)} pixels; allowed: bools of the shape "
            f"({height}, {width}), one or more of them true."
        )
    return pixels


def _check_shares(mask: Mask, *positive: str) -> None:
    for field in dataclasses.fields(mask):  # type: ignore[arg-type]
        share = getattr(mask, field.name)
        if field.name in positive:
            check(0 < share <= 1, mask, field.name, "above 0, at most 1")
        else:
            check(0 <= share <= 1, mask, field.name, "0 to 1")
        object.__setattr__(mask, field.name, float(share))


def _stretch(middle: float, length: float, side: int) -> Bool[np.ndarray, " side"]:
    """Returns which of `side` pixels a stretch covers: whole pixels, one or more."""
    pixels = max(1, round(length))
    start = min(max(0, round(middle * side - pixels / 2)), side - pixels)
    return np.isin(np.arange(side), np.arange(start, start + pixels))
