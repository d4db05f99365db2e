"""What a data set is in memory: uint8 images, labels and ids in three splits."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

Labels = Int32[np.ndarray, " n"] | Float32[np.ndarray, "n outputs"]
"""Classes [n], counted from 0; or the targets [n, outputs] of a regression."""


class Split(NamedTuple):
    """Examples held as they were decoded.

    Attributes:
      images: uint8 pixels [n, height, width, channels].
      labels: int32 classes [n], counted from 0; of a regression the targets, float32
        [n, outputs].
      ids: int64 [n], the index of each example in the part of the source that it
        was read from.  It never depends on how the splits were cut, so that keys
        folded with it give the same numbers for any split sizes.
    """

    images: UInt8[np.ndarray, "n height width channels"]
    labels: Labels
    ids: Int64[np.ndarray, " n"]

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.labels)

    def take(self, rows: np.ndarray | slice) -> "Split":
        """Returns the examples in `rows`, in that order."""
        return Split(self.images[rows], self.labels[rows], self.ids[rows])


class Dataset(NamedTuple):
    """Three disjoint splits of one source; a split that does not exist has size 0."""

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    """Empty for a regression, which has no classes."""

    @property
    def outputs(self) -> int | None:
        """How many numbers a regression tells of an image; None of classes."""
        return None if self.class_names else self.train.labels.shape[1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


def to_float(
    images: UInt8[np.ndarray, "*shape"],
) -> Float32[np.ndarray, "*shape"]:
    """Returns the pixels as float32 in [0, 1]; 0 and 255 become 0 and 1 exactly."""
    return np.divide(images, np.float32(255), dtype=np.float32)
