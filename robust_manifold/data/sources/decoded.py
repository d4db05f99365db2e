"""Sources that decode files: slow to read, so what they decode can be kept."""

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Int32, Int64, UInt8
from numpy import ndarray

from robust_manifold.data.images import Progress
from robust_manifold.data.sources.base import Parts, Source


class Examples(NamedTuple):
    """One official split, with everything that can be the label.

    Attributes:
      images: uint8 pixels [n, height, width, channels].
      labels: int32 [n, features], a column for each of `Decoded.features`.
      ids: int64 [n]; see `Split.ids`.
    """

    images: UInt8[ndarray, "n height width channels"]
    labels: Int32[ndarray, "n features"]
    ids: Int64[ndarray, " n"]


class Decoded(NamedTuple):
    """What the files of a source hold, whichever feature is then used as label.

    Attributes:
      splits: the official splits by name: train, and where they exist validation
        and test.
      features: the class names of each feature that can be the label, in the order
        of the columns of `Examples.labels`.
      own: the feature that is the label where none is asked for; "" if none is.
    """

    splits: Mapping[str, Examples]
    features: Mapping[str, tuple[str, ...]]
    own: str


@dataclasses.dataclass(frozen=True)
class DecodedSource(Source):
    """A source whose images are decoded from files; see `data.cache`."""

    @abc.abstractmethod
    def canonical(self) -> "DecodedSource":
        """Returns the source that names the same decoded files, however it is written.

        Its paths are absolute, and it has no label: all labels share the pixels.
        """

    @abc.abstractmethod
    def files(self) -> list[Path]:
        """Returns the files that the images come from; none where they are gone."""

    @abc.abstractmethod
    def decode(self, on_progress: Progress | None = None) -> Decoded:
        """Returns the decoded files; see `Source.read`."""

    @abc.abstractmethod
    def parts(self, decoded: Decoded) -> Parts:
        """Returns the examples with the label that this source asks for.

        Raises:
          UsageError: if there is no such label.
        """

    def read(self, on_progress: Progress | None = None) -> Parts:
        """See `Source.read`."""
        return self.parts(self.decode(on_progress))
