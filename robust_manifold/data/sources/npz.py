"""`npz:<file>`: arrays of images and labels in one NumPy archive."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from robust_manifold.core.errors import UsageError
from robust_manifold.data.dataset import Split
from robust_manifold.data.image_arrays import check_brightness, with_channels
from robust_manifold.data.images import ImageError, Progress
from robust_manifold.data.sources.base import Parts, Source, registry
from robust_manifold.data.target_arrays import checked_targets
from robust_manifold.runtime import array_files, console

_ALLOWED = (
    "images and labels, or x_train and y_train with optional x_test, y_test, "
    "x_validation, y_validation"
)
_MOST_CLASSES = 65536
_MOST_NAMED = 10


@registry.register("npz")
@dataclasses.dataclass(frozen=True)
class Npz(Source):
    """A NumPy archive with `images` and `labels`, or with named splits.

    The named splits are `x_train` and `y_train`, and if present `x_validation`,
    `y_validation`, `x_test` and `y_test`.  Images are [n, height, width] or
    [n, height, width, channels] with 1 or 3 channels: uint8, or floats in [0, 1],
    which are rounded to the nearest of the 256 levels.  Labels are whole numbers [n]
    from 0.  Pickled objects are never read; other arrays are named and left.

    Attributes:
      target: the array to read in place of `labels`, or of `y_train` and so on that in
        place of `y`: the targets of a regression, numbers [n] or [n, outputs].
    """

    target: str | None = None

    location_is = "the path of an .npz file"

    def read(self, on_progress: Progress | None = None) -> Parts:
        """See `Source.read`."""
        path = Path(os.path.expanduser(self.location))
        if not os.path.exists(path):
            raise UsageError(f"The data file {str(path)!r} does not exist.")
        parts: dict[str, Split | None] = {}
        with _opened(path) as arrays:
            layout = _layout(path, arrays.names, self.target)
            for part, (images_name, labels_name) in layout.items():
                images = _images(f"{path}: {images_name}", arrays.read(images_name))
                labels = arrays.read(labels_name)
                checked = _labels if self.target is None else checked_targets
                labels = checked(f"{path}: {labels_name}", labels, len(images))
                parts[part] = self.part(images, labels)
        present = [part for part in parts.values() if part is not None]
        shapes = {part.images.shape[1:] for part in present}
        if len(shapes) > 1:
            raise UsageError(
                f"{path} holds splits of images of the shapes {sorted(shapes)}; "
                "allowed: one shape for all."
            )
        total = sum(part.size for part in present)
        if on_progress is not None:
            on_progress(total, total)
        train = parts["train"]
        assert train is not None
        validation, test = parts.get("validation"), parts.get("test")
        if self.target is not None:
            _check_outputs(path, present)
            return Parts(train, validation, test, ())
        classes = 1 + max(int(part.labels.max()) for part in present)
        _tell_empty_classes(path, np.concatenate([part.labels for part in present]))
        names = tuple(str(k) for k in range(classes))
        return Parts(train, validation, test, names)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[array_files.Arrays]:
    """Opens the archive; what cannot be read of it is one sentence."""
    try:
        with array_files.opened(path) as arrays:
            yield arrays
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except array_files.Unreadable as error:
        raise UsageError(
            f"{path} cannot be used: {error}; allowed: an .npz file of plain arrays, "
            "as numpy.savez writes it."
        ) from error


def _check_outputs(path: Path, parts: Sequence[Split]) -> None:
    """Refuses splits whose images have unequally many targets."""
    widths = sorted({part.labels.shape[1] for part in parts})
    if len(widths) > 1:
        raise UsageError(
            f"{path} holds splits with {' and '.join(map(str, widths))} targets an "
            "image; allowed: as many in all."
        )


def _layout(
    path: Path, arrays: Sequence[str], target: str | None
) -> dict[str, tuple[str, str]]:
    """Returns the names of the image and label arrays of each part."""
    whole, own, allowed = "labels", "y", _ALLOWED
    if target is not None:
        whole = own = target
        allowed = (
            f"images and {target}, or x_train and {target}_train, and so for test and "
            "validation"
        )
    if "images" in arrays or whole in arrays:
        layout = {"train": ("images", whole)}
    else:
        layout = {"train": ("x_train", f"{own}_train")}
        for part in ("validation", "test"):
            names = (f"x_{part}", f"{own}_{part}")
            if any(name in arrays for name in names):
                layout[part] = names
    used = [name for names in layout.values() for name in names]
    missing = [name for name in used if name not in arrays]
    if missing:
        raise UsageError(
            f"{path} lacks the array {missing[0]!r} (it holds: "
            f"{', '.join(arrays) or 'nothing'}); allowed: {allowed}."
        )
    ignored = [name for name in arrays if name not in used]
    if ignored:
        console.warning(
            f"{path}: {', '.join(ignored)} {'is' if len(ignored) == 1 else 'are'} not "
            f"used, but {', '.join(used)}; allowed: {allowed}."
        )
    return layout


def _images(name: str, images: np.ndarray) -> UInt8[np.ndarray, "n h w c"]:
    try:
        images = with_channels(images)
        if len(images) == 0:
            raise ImageError(f"has the shape {images.shape}; allowed: 1 image or more")
        check_brightness(images)
    except ImageError as error:
        raise UsageError(f"{name} {error}.") from None
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
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


def _tell_empty_classes(path: Path, labels: np.ndarray) -> None:
    """Warns of classes without an image, which a classifier would have all the same."""
    empty = np.setdiff1d(np.arange(labels.max() + 1), labels)
    if not len(empty):
        return
    more = ", ..." if len(empty) > _MOST_NAMED else ""
    shown = ", ".join(str(k) for k in empty[:_MOST_NAMED]) + more
    counted = ""
    if empty.tolist() == [0]:
        counted = "; labels count from 0, so subtract 1, if these count from 1"
    console.warning(
        f"{path}: of the {labels.max() + 1} classes that the labels count to, there is "
        f"no image of {shown}{counted}."
    )
