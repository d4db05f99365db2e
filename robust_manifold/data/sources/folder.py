"""`folder:<dir>`: PNG and JPEG files, one sub-folder a class."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robust_manifold.core.errors import UsageError
from robust_manifold.data import pictures
from robust_manifold.data.dataset import Split
from robust_manifold.data.images import ImageError, Progress, stack
from robust_manifold.data.sources.base import Parts, registry
from robust_manifold.data.sources.decoded import Decoded, DecodedSource, Examples
from robust_manifold.runtime import input_files

_CLASS = "class"


@registry.register("folder")
@dataclasses.dataclass(frozen=True)
class Folder(DecodedSource):
    """A folder whose sub-folders, in order of name, are the classes 0, 1, ...

    All images have one size (after cutting and resizing); where one is in colour, all
    are.  `pictures` says what a file may hold.  Files whose name begins with a dot are
    passed over.
    """

    location_is = "the path of a folder"

    def canonical(self) -> "Folder":
        """See `DecodedSource.canonical`."""
        return dataclasses.replace(self, location=str(self._root().resolve()))

    def files(self) -> list[Path]:
        """See `DecodedSource.files`."""
        root = self._root()
        classes = _visible(root) if root.is_dir() else []
        return [file for c in classes if c.is_dir() for file in _visible(c)]

    def decode(self, on_progress: Progress | None = None) -> Decoded:
        """See `DecodedSource.decode`."""
        root = self._root()
        if not root.is_dir():
            raise UsageError(f"The data folder {str(root)!r} does not exist.")
        classes = [entry for entry in _visible(root) if entry.is_dir()]
        if not classes:
            raise UsageError(
                f"The data folder {str(root)!r} holds no sub-folder; "
                "allowed: one sub-folder of images a class."
            )
        files = [(file, k) for k, c in enumerate(classes) for file in _images(c)]
        ids = self.chosen(len(files))
        paths = [files[i][0] for i in ids]

        def read(positions: range) -> Iterator[np.ndarray]:
            for position in positions:
                try:
                    encoded = input_files.read_bytes(paths[position])
                except OSError as error:
                    raise ImageError(f"cannot be read ({error.strerror})") from error
                yield pictures.decode(encoded, self.framing)

        images = stack(read, len(paths), lambda i: f"Image {paths[i]}", on_progress)
        labels = np.array([[files[i][1]] for i in ids], np.int32)
        names = tuple(folder.name for folder in classes)
        return Decoded(
            {"train": Examples(images, labels, ids)}, {_CLASS: names}, _CLASS
        )

    def parts(self, decoded: Decoded) -> Parts:
        """See `DecodedSource.parts`."""
        images, labels, ids = decoded.splits["train"]
        train = Split(images, labels[:, 0], ids)
        return Parts(train, None, None, decoded.features[decoded.own])

    def _root(self) -> Path:
        return Path(os.path.expanduser(self.location))


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(e for e in folder.iterdir() if not e.name.startswith("."))
    except OSError as error:
        raise UsageError(
            f"The data folder {str(folder)!r} cannot be read ({error.strerror})."
        ) from error


def _images(folder: Path) -> list[Path]:
    """Returns the image files of one class."""
    files = _visible(folder)
    if not files:
        raise UsageError(
            f"The class folder {folder} is empty; allowed: PNG or JPEG files."
        )
    for file in files:
        if file.suffix.lower() not in pictures.SUFFIXES:
            raise UsageError(
                f"{file} is not an image file; allowed: {', '.join(pictures.SUFFIXES)}."
            )
    return files
