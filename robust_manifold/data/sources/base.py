"""What every source of images is, and how `prefix:location` names one."""

import abc
import dataclasses
import os
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check
from robust_manifold.data.dataset import Labels, Split
from robust_manifold.data.images import Framing, ImageError, Progress, reframe


class Parts(NamedTuple):
    """What a source holds: its official splits, of which only `train` must exist."""

    train: Split
    validation: Split | None
    test: Split | None
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Source(abc.ABC):
    """A place that images are read from; equal sources hold equal examples.

    Attributes:
      location: what follows the colon in `prefix:location`.
      crop: side of the central square cut from each image; see `images.Framing`.
      image_size: side of the images after resizing; see `images.Framing`.
      max_examples: keep at most this many examples of each official split, evenly
        spaced over it, since many sources are sorted by class; by default all.
    """

    location: str = ""
    crop: int | None = None
    image_size: int | None = None
    max_examples: int | None = None

    location_is: ClassVar[str] = ""
    """What `location` is, as an error should say it; empty where there is none."""

    def __post_init__(self):
        if self.location_is:
            check(self.location != "", self, "location", self.location_is)
        else:
            check(self.location == "", self, "location", "nothing after the name")
        most = self.max_examples
        check(most is None or most >= 1, self, "max_examples", "None, or 1 or more")
        _ = self.framing  # checks crop and image_size

    @property
    def framing(self) -> Framing:
        """How each image is cut and resized."""
        return Framing(self.crop, self.image_size)

    @abc.abstractmethod
    def read(self, on_progress: Progress | None = None) -> Parts:
        """Returns the decoded examples.

        Args:
          on_progress: called with (images decoded, images in all).

        Raises:
          UsageError: if the source is missing, damaged or of another form.
        """

    def chosen(self, n: int) -> Int64[np.ndarray, " m"]:
        """Returns which of n examples are kept, in rising order."""
        m = n if self.max_examples is None else min(n, self.max_examples)
        return np.arange(m, dtype=np.int64) * n // max(m, 1)

    def part(self, images: UInt8[np.ndarray, "n h w c"], labels: Labels) -> Split:
        """Returns decoded arrays as a part: chosen, cut and resized.

        Raises:
          UsageError: if the images cannot be cut and resized as asked.
        """
        ids = self.chosen(len(images))
        if len(ids) < len(images):
            images, labels = images[ids], labels[ids]
        try:
            images = reframe(images, self.framing)
        except ImageError as error:
            raise UsageError(f"The images of {self.location!r} {error}.") from error
        return Split(images, labels, ids)


registry = Registry[Source]("data source")
"""The kinds of source, by the prefix that names them."""


def parse(text: str, *, data_dir: str | os.PathLike | None = None, **options) -> Source:
    """Returns the source that `prefix`, `prefix:location` or a call of it names.

    Args:
      text: for instance "mnist_5k", "tfds:mnist", "npz:digits.npz" or
        "road_signs(train=8000, test=1000)".
      data_dir: where prepared data sets lie, for the sources that read such.
      **options: fields of the source; those that are None keep their default.

    Raises:
      UsageError: for an unknown prefix, or an option that the source lacks.
    """
    prefix, colon, location = text.partition(":")
    called = "(" in prefix
    kind = registry[prefix.partition("(")[0]]
    fields = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    given: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
    for option, value in given.items():
        if option not in fields:
            raise UsageError(
                f"{option} is {value!r}, but the data source {text!r} has no such "
                f"option; allowed: {', '.join(fields[1:])}."
            )
    if data_dir is not None and "data_dir" in fields:
        given["data_dir"] = os.fspath(data_dir)
    if called:
        return dataclasses.replace(registry.build(text), **given)
    if colon and not location:
        raise UsageError(f"The data source {text!r} names nothing after its colon.")
    return kind(location=location, **given)
