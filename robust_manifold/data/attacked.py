"""Images that somebody else attacked, in a file: what a run classifies beside its own.

Published attacks come as images, not as code that can be trusted to be the one that
made them.  They need no attack of ours, only the images that they were made from.
"""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from robust_manifold.core.checks import checked_images, checked_labels
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check
from robust_manifold.data.dataset import to_float
from robust_manifold.data.image_arrays import check_brightness, with_channels
from robust_manifold.data.images import ImageError
from robust_manifold.runtime import array_files


class Attacked(NamedTuple):
    """Attacked images, what they were made from, and its classes."""

    images: Float32[np.ndarray, "n height width channels"]
    """Pixels in [0, 1]."""
    originals: Float32[np.ndarray, "n height width channels"]
    """Pixels in [0, 1]."""
    labels: Int32[np.ndarray, " n"]
    """The true classes."""

    @property
    def checksum(self) -> str:
        """SHA-256 of all arrays."""
        digest = hashlib.sha256()
        for array in self:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


attacked_registry: Registry[Any] = Registry("attacked images")
"""The readers of attacked images, by the names that configs use."""


@attacked_registry.register("attacked_images")
@dataclasses.dataclass(frozen=True)
class AttackedImages:
    """A NumPy archive of attacked images, their originals and labels.

    Images are [n, height, width] or [n, height, width, channels]: uint8, or floats in
    [0, 1], which are kept as they are.  Pickled objects are never read.

    Attributes:
      file: path of the .npz file.
      images: name of the array of attacked images.
      originals: name of the array of what they were made from, in the same order.
      labels: name of the array of the true classes, whole numbers from 0.
    """

    file: str
    images: str = "images"
    originals: str = "originals"
    labels: str = "labels"

    def __post_init__(self):
        check(bool(self.file), self, "file", "the path of an .npz file")

    @property
    def name(self) -> str:
        """The file's name without its folder and suffix."""
        return Path(self.file).stem

    def read(self, image_shape: Sequence[int], classes: int) -> Attacked:
        """Returns the arrays.

        Args:
          image_shape: (height, width, channels) that the images must have.
          classes: how many there are.

        Raises:
          UsageError: for a file that is missing, damaged or lacks an array, and for
            arrays that do not belong to such images.
        """
        arrays = self._load()
        with self._naming(self.images):
            images = _images(arrays[self.images], image_shape)
        with self._naming(self.originals):
            originals = _images(arrays[self.originals], image_shape)
            if images.shape != originals.shape:
                raise UsageError(
                    f"there are {len(originals)} images; allowed: {len(images)}, one "
                    f"for each of {self.images!r}."
                )
        with self._naming(self.labels):
            labels = checked_labels(arrays[self.labels], len(images), classes)
        return Attacked(images, originals, labels)

    @contextlib.contextmanager
    def _naming(self, array: str) -> Iterator[None]:
        """Puts file and array before the message of a mistake."""
        try:
            yield
        except UsageError as error:
            raise UsageError(f"{self.file}, array {array!r}: {error}") from None

    def _load(self) -> dict[str, np.ndarray]:
        """Returns the three arrays by their names."""
        path = Path(os.path.expanduser(self.file))
        if not os.path.exists(path):
            raise UsageError(f"The file of attacked images {self.file!r} is not there.")
        try:
            with array_files.opened(path) as archive:
                wanted = (self.images, self.originals, self.labels)
                return {name: archive.read(name) for name in wanted}
        except OSError as error:
            raise UsageError(f"{self.file} cannot be read: {error.strerror}.") from None
        except array_files.Unreadable as error:
            raise UsageError(
                f"{self.file} cannot be used: {error}; allowed: an .npz file written "
                "by numpy.savez."
            ) from None


def _images(
    images: np.ndarray, image_shape: Sequence[int]
) -> Float32[np.ndarray, "n height width channels"]:
    """Returns the images as floats, with an axis of channels."""
    try:
        images = with_channels(images)
        check_brightness(images)
    except ImageError as error:
        raise UsageError(f"it {error}.") from None
    if images.dtype == np.uint8:
        images = to_float(images)
    images = np.asarray(checked_images(images), np.float32)
    if images.shape[1:] != tuple(image_shape):
        shown = (" x ".join(map(str, s)) for s in (images.shape[1:], image_shape))
        raise UsageError("images are {}; allowed: {}, as the run's are.".format(*shown))
    return images
