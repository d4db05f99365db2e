"""What a regression is to tell of an image: numbers of a file, or how it was changed.

Targets take the place of labels: float32 [n, outputs], one row an image, in any unit.
"""

import abc
import dataclasses
import math
import zlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image as pil

from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check, is_whole
from robust_manifold.data.dataset import Split
from robust_manifold.data.sources.base import Parts

registry: "Registry[Targets]" = Registry("target")
"""The kinds of targets, by the names that configs use."""


_STREAM = zlib.crc32(b"rotation")
"""Another stream than that of `splits.permutation`, of which zeros behind a seed make
no other: splits of the same seed would be cut by the angles."""


class Quantity(NamedTuple):
    """What the numbers are, for tables and figures."""

    name: str
    """In the singular, such as "angle"."""
    unit: str
    """Written behind a number, such as "°"; empty: none."""


class Targets(abc.ABC):
    """The base of all targets: subclasses are frozen dataclasses."""

    @property
    @abc.abstractmethod
    def quantity(self) -> Quantity:
        """What the numbers are."""

    @property
    def array(self) -> str | None:
        """The name of the array that a source has to read; None: its labels."""
        return None

    @abc.abstractmethod
    def of(self, parts: Parts) -> Parts:
        """Returns what a source holds with targets in place of labels.

        Args:
          parts: as the source read them: with the array of `array`, if it has one.

        Raises:
          UsageError: for images that cannot be changed so.
        """


@registry.register("array")
@dataclasses.dataclass(frozen=True)
class NamedArray(Targets):
    """The numbers of an array of the source, an .npz file.

    Attributes:
      name: of the array, [n] or [n, outputs], beside `images`; where the file has named
        splits, the part before `_train`, `_validation` and `_test`.
      unit: written behind a number in tables; empty: none.
    """

    name: str
    unit: str = ""

    def __post_init__(self):
        check(bool(self.name), self, "name", "the name of an array")

    @property
    def quantity(self) -> Quantity:
        """The array's name and unit."""
        return Quantity(self.name, self.unit)

    @property
    def array(self) -> str:
        """The array."""
        return self.name

    def of(self, parts: Parts) -> Parts:
        """Returns them as they are: the source has read the array."""
        return parts._replace(class_names=())


@registry.register("rotation")
@dataclasses.dataclass(frozen=True)
class Rotation(Targets):
    """The angle by which each image is turned, anticlockwise, in degrees.

    Angles are drawn evenly from [-degrees, degrees].  That of an image hangs on the
    seed, on the source's own part (train, validation, test) and on the image's id
    there: not on how splits are cut, nor on how many images are kept.  Images are
    turned about their centre, once, when they are read, and keep their size; corners
    that come in are black.

    Pixels are interpolated with cubic splines: bilinear interpolation blurs a turned
    image and leaves an upright one sharp, so that a network could read the size of the
    angle off the blur.

    The target is one number.  That is sound as long as the range leaves out the half
    turn, where the number jumps and the image does not: a continuous network cannot
    follow a jump.

    Attributes:
      degrees: the largest angle, below 180.
      seed: of the angles.
    """

    degrees: float = 45.0
    seed: int = 0

    def __post_init__(self):
        fits = math.isfinite(self.degrees) and 0 < self.degrees < 180
        check(fits, self, "degrees", "above 0 and below 180")
        whole = is_whole(self.seed, 0) and self.seed < 2**63
        check(whole, self, "seed", "0 to 2**63 - 1")

    @property
    def quantity(self) -> Quantity:
        """An angle in degrees."""
        return Quantity("angle", "°")

    def of(self, parts: Parts) -> Parts:
        """Returns the images turned, with their angles."""
        turned = [
            None if part is None else self._turned(place, part)
            for place, part in enumerate((parts.train, parts.validation, parts.test))
        ]
        train, validation, test = turned
        assert train is not None
        return Parts(train, validation, test, ())

    def angles(
        self, place: int, ids: Int64[np.ndarray, " n"]
    ) -> Float32[np.ndarray, " n"]:
        """Returns the angles of some images of a part.

        Args:
          place: of the part: 0 train, 1 validation, 2 test.
          ids: of the images, within the part.
        """
        stream = np.random.PCG64((_STREAM, self.seed, place))
        drawn = stream.random_raw(int(ids.max()) + 1)[ids]
        # The first 53 bits: what a double can hold.
        shares = (drawn >> np.uint64(11)) * 2.0**-53
        return np.float32(self.degrees) * (2 * shares - 1).astype(np.float32)

    def _turned(self, place: int, part: Split) -> Split:
        if not part.size:
            return part._replace(labels=np.zeros((0, 1), np.float32))
        angles = self.angles(place, part.ids)
        images = np.empty_like(part.images)
        for number, (image, angle) in enumerate(zip(part.images, angles, strict=True)):
            images[number] = turned(image, float(angle))
        return Split(images, angles[:, None], part.ids)


def turned(
    image: UInt8[np.ndarray, "height width channels"], degrees: float
) -> UInt8[np.ndarray, "height width channels"]:
    """Returns an image turned anticlockwise about its centre, of the same size.

    Raises:
      UsageError: for an image that is neither grey nor of three channels.
    """
    if image.shape[-1] not in (1, 3):
        raise UsageError(
            f"images have {image.shape[-1]} channels; allowed where they are turned: "
            "1 or 3."
        )
    flat = image[..., 0] if image.shape[-1] == 1 else image
    made = pil.fromarray(flat).rotate(degrees, resample=pil.Resampling.BICUBIC)
    return np.asarray(made).reshape(image.shape)
