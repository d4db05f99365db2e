"""Images that somebody else attacked, in a file: what a run classifies beside its own.

Published attacks come as images, not as code that can be trusted to be the one that
made them.  They need no attack of ours, only the images that they were made from.
"""

import dataclasses
import hashlib
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from robust_manifold.core.checks import checked_images, checked_labels
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check
from robust_manifold.data.dataset import to_float

_DAMAGED = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)


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
"""What reads them, by the names that configs use: `AttackedImages`."""


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
        try:
            images, originals = (
                _images(arrays[name], image_shape)
                for name in (self.images, self.originals)
            )
            if images.shape != originals.shape:
                raise UsageError(
                    f"{self.originals} holds {len(originals)} images; allowed: "
                    f"{len(images)}, one for each of {self.images}."
                )
            labels = checked_labels(arrays[self.labels], len(images), classes)
        except UsageError as error:
            raise UsageError(f"{self.file}: {error}") from None
        return Attacked(images, originals, labels)

    def _load(self) -> dict[str, np.ndarray]:
        """Returns the three arrays by their names."""
        path = Path(os.path.expanduser(self.file))
        if not path.is_file():
            raise UsageError(f"The file of attacked images {self.file!r} is not there.")
        try:
            with np.load(path, allow_pickle=False) as archive:
                for name in (self.images, self.originals, self.labels):
                    if name not in archive.files:
                        raise UsageError(
                            f"{self.file} lacks the array {name!r}; allowed: one of "
                            f"{', '.join(archive.files)}."
                        )
                wanted = (self.images, self.originals, self.labels)
                return {name: archive[name] for name in wanted}
        except UsageError:
            raise
        # np.load of another kind of file returns an array, which is no context.
        except (*_DAMAGED, AttributeError, TypeError):
            raise UsageError(
                f"{self.file} is no .npz file, or is damaged or holds pickled objects; "
                "allowed: an archive written by numpy.savez."
            ) from None


def _images(
    images: np.ndarray, image_shape: Sequence[int]
) -> Float32[np.ndarray, "n height width channels"]:
    """Returns the images as floats, with an axis of channels."""
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype == np.uint8:
        images = to_float(images)
    images = np.asarray(checked_images(images), np.float32)
    if images.shape[1:] != tuple(image_shape):
        shown = (" x ".join(map(str, s)) for s in (images.shape[1:], image_shape))
        raise UsageError("images are {}; allowed: {}, as the run's are.".format(*shown))
    return images
