"""`npz:<file>`: arrays of images and labels in one NumPy archive."""

import dataclasses
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from robust_manifold.core.errors import UsageError
from robust_manifold.data.dataset import Split
from robust_manifold.data.images import Progress
from robust_manifold.data.sources.base import Parts, Source, registry

_DAMAGED = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)
_MOST_CLASSES = 65536


@registry.register("npz")
@dataclasses.dataclass(frozen=True)
class Npz(Source):
    """A NumPy archive with `images` and `labels`, or with named splits.

    The named splits are `x_train` and `y_train`, and if present `x_validation`,
    `y_validation`, `x_test` and `y_test`.  Images are [n, height, width] or
    [n, height, width, channels]: uint8, or floats in [0, 1], which are rounded to
    the nearest of the 256 levels.  Labels are whole numbers [n] from 0.  Pickled
    objects are never read.
    """

    location_is = "the path of an .npz file"

    def read(self, on_progress: Progress | None = None) -> Parts:
        """See `Source.read`."""
        path = Path(os.path.expanduser(self.location))
        arrays = _load(path)
        parts: dict[str, Split | None] = {}
        for part, (images_name, labels_name) in _layout(path, arrays).items():
            images = _images(f"{path}: {images_name}", arrays[images_name])
            labels = _labels(f"{path}: {labels_name}", arrays[labels_name], len(images))
            parts[part] = self.part(images, labels)
        present = [part for part in parts.values() if part is not None]
        shapes = {part.images.shape[1:] for part in present}
        if len(shapes) > 1:
            raise UsageError(
                f"{path} holds splits of images of the shapes {sorted(shapes)}; "
                "allowed: one shape for all."
            )
        classes = 1 + max(int(part.labels.max()) for part in present)
        total = sum(part.size for part in present)
        if on_progress is not None:
            on_progress(total, total)
        names = tuple(str(k) for k in range(classes))
        train = parts["train"]
        assert train is not None
        return Parts(train, parts.get("validation"), parts.get("test"), names)


def _load(path: Path) -> dict[str, np.ndarray]:
    """Returns every array of the archive."""
    if not path.is_file():
        raise UsageError(f"The data file {str(path)!r} does not exist.")
    if not zipfile.is_zipfile(path):
        raise UsageError(
            f"{path} is truncated or not an .npz file; "
            "allowed: an archive written by numpy.savez."
        )
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                try:
                    arrays[name] = archive[name]
                except _DAMAGED as error:
                    raise UsageError(
                        f"{path}: {name} is damaged or holds pickled objects; "
                        "allowed: a plain numeric array."
                    ) from error
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    return arrays


def _layout(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[str, str]]:
    """Returns the names of the image and label arrays of each part."""
    if "images" in arrays or "labels" in arrays:
        layout = {"train": ("images", "labels")}
    else:
        layout = {"train": ("x_train", "y_train")}
        for part in ("validation", "test"):
            names = (f"x_{part}", f"y_{part}")
            if any(name in arrays for name in names):
                layout[part] = names
    missing = [n for names in layout.values() for n in names if n not in arrays]
    if missing:
        raise UsageError(
            f"{path} lacks the array {missing[0]!r} (it holds: "
            f"{', '.join(arrays) or 'nothing'}); allowed: images and labels, or "
            "x_train and y_train with optional x_test, y_test, x_validation, "
            "y_validation."
        )
    return layout


def _images(name: str, images: np.ndarray) -> UInt8[np.ndarray, "n h w c"]:
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise UsageError(
            f"{name} has the shape {images.shape}; allowed: [n, height, width] or "
            "[n, height, width, channels], none of them 0."
        )
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if not np.issubdtype(images.dtype, np.floating):
        raise UsageError(
            f"{name} has the type {images.dtype}; allowed: uint8, or floats in [0, 1]."
        )
    low, high = float(images.min()), float(images.max())
    # Written so that NaN, which compares as false, is refused too.
    if not (low >= 0 and high <= 1):
        raise UsageError(
            f"{name} has pixels from {low:g} to {high:g}; allowed: floats in [0, 1], "
            "or uint8."
        )
    return np.rint(images * 255).astype(np.uint8)


def _labels(name: str, labels: np.ndarray, n: int) -> Int32[np.ndarray, " n"]:
    if labels.shape != (n,):
        raise UsageError(
            f"{name} has the shape {labels.shape}; allowed: ({n},), one label an image."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(
            f"{name} has the type {labels.dtype}; allowed: whole numbers from 0."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= _MOST_CLASSES:
        raise UsageError(
            f"{name} has labels from {low} to {high}; "
            f"allowed: 0 to {_MOST_CLASSES - 1}."
        )
    return labels.astype(np.int32)
