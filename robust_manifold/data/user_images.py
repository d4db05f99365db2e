"""Images that a user hands in, in a folder or an .npz file: each good or named bad.

Unlike a data set, they need not all be usable: whatever is wrong with one of them is
an `ImageError` that ends a sentence about it, and the others are read all the same.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from robust_manifold.core.errors import UsageError
from robust_manifold.data import image_arrays, pictures
from robust_manifold.data.dataset import to_float
from robust_manifold.data.images import Framing, ImageError, reframe
from robust_manifold.runtime import array_files, input_files


class UserImage(NamedTuple):
    """One image that a user hands in.

    Attributes:
      name: path relative to the folder, or "images[ROW]" of an .npz file.
      pixels: [height, width, channels], uint8 or float32 in [0, 1]; None if the image
        cannot be used.
      reason: why it cannot be used, to end a sentence that begins with its name.
    """

    name: str
    pixels: np.ndarray | None
    reason: str = ""


class Wanted(NamedTuple):
    """What the images have to be.

    Attributes:
      shape: (height, width, channels).
      framing: how they are cut and resized before; None: not at all.
      resizable: whether they could be resized, had that been asked for.
    """

    shape: tuple[int, int, int]
    framing: Framing | None = None
    resizable: bool = False


class UserImages:
    """The images of a folder with its sub-folders, sorted, or of an .npz file.

    Files and folders whose name begins with a dot are passed over.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Finds the images, without reading those of a folder.

        Raises:
          UsageError: if there is nothing to read, or the .npz file is damaged or
            holds no images.
        """
        self._path = Path(path)
        self._archive: np.ndarray | None = None
        self._problems: dict[str, str] = {}
        if self._path.is_dir():
            self.names = self._find()
        elif self._path.suffix.lower() == ".npz" and self._path.is_file():
            self._archive = _read_archive(self._path)
            self.names = [f"images[{row}]" for row in range(len(self._archive))]
        else:
            what = "is neither" if self._path.exists() else "does not exist"
            raise UsageError(
                f"--input is {str(path)!r}, which {what}; allowed: a folder of PNG and "
                "JPEG files, or an .npz file."
            )
        if not self.names:
            raise UsageError(
                f"--input is {str(path)!r}, which is empty; allowed: 1 image or more."
            )

    @property
    def from_archive(self) -> bool:
        """Whether they are the rows of an .npz file."""
        return self._archive is not None

    def read(self, wanted: Wanted) -> Iterator[UserImage]:
        """Yields every image, in the order of `names`.

        Raises:
          UsageError: if no image of an .npz file can be of the wanted shape.
        """
        if self._archive is not None:
            _check_archive(self._path, self._archive, wanted)
        for place, name in enumerate(self.names):
            try:
                yield UserImage(name, _fitted(self._pixels(place), wanted))
            except ImageError as error:
                yield UserImage(name, None, str(error))

    def _pixels(self, place: int) -> np.ndarray:
        if self._archive is not None:
            return _row(self._archive[place])
        name = self.names[place]
        if name in self._problems:
            raise ImageError(self._problems[name])
        path = self._path / name
        try:
            encoded = input_files.read_bytes(path)
        except OSError as error:
            raise ImageError(f"cannot be read ({error.strerror})") from error
        return pictures.decode(encoded)

    def _find(self) -> list[str]:
        """Returns the names of all files, sorted, and of folders that can't be read."""
        found = []

        def unreadable(error: OSError) -> None:
            name = Path(error.filename).relative_to(self._path).as_posix()
            if name == ".":
                raise UsageError(
                    f"--input is {str(self._path)!r}, which cannot be read "
                    f"({error.strerror})."
                ) from None
            self._problems[name] = f"is a folder that cannot be read ({error.strerror})"
            found.append(name)

        for folder, folders, files in os.walk(self._path, onerror=unreadable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            where = Path(folder).relative_to(self._path)
            visible = (name for name in files if not name.startswith("."))
            found += [(where / name).as_posix() for name in visible]
        return sorted(found)


def as_float(pixels: np.ndarray) -> Float32[np.ndarray, "*shape"]:
    """Returns pixels of a `UserImage` as float32 in [0, 1]."""
    return to_float(pixels) if pixels.dtype == np.uint8 else pixels


def content_id(pixels: np.ndarray) -> int:
    """Returns 31 bits that depend on the pixels alone, as uint8 or as floats."""
    values = np.ascontiguousarray(as_float(pixels), "<f4")
    digest = hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _fitted(pixels: np.ndarray, wanted: Wanted) -> np.ndarray:
    """Returns the pixels with the wanted channels, cut and resized."""
    pixels = _with_channels(pixels, wanted.shape[-1])
    if wanted.framing is not None and not _is_cut(pixels, wanted):
        pixels = reframe(_as_uint8(pixels)[None], wanted.framing)[0]
    if pixels.shape != wanted.shape:
        found, allowed = (f"{h}x{w}" for h, w, _ in (pixels.shape, wanted.shape))
        advise = wanted.resizable and wanted.framing is None
        resize = ", or any with --resize" if advise else ""
        raise ImageError(f"has {found} pixels; allowed: {allowed}{resize}")
    return pixels


def _is_cut(pixels: np.ndarray, wanted: Wanted) -> bool:
    """Returns whether the image has been cut already, and is too small to be cut."""
    crop = wanted.framing.crop if wanted.framing else None
    too_small = crop is not None and crop > min(pixels.shape[:2])
    return too_small and pixels.shape == wanted.shape


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    own = pixels.shape[-1]
    if own == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    if own == 3 and channels == 1:
        if not (pixels == pixels[..., :1]).all():
            raise ImageError("is in colour; allowed: grey, as the generator's images")
        return pixels[..., :1]
    if own != channels:
        raise ImageError(f"has {own} channels; allowed: {channels}")
    return pixels


def _as_uint8(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(pixels * 255).astype(np.uint8)


def _row(pixels: np.ndarray) -> np.ndarray:
    """Returns one image of an .npz file, checked."""
    if pixels.dtype == np.uint8:
        return pixels
    if not np.isfinite(pixels).all():
        raise ImageError("has pixels that are not finite; allowed: [0, 1]")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise ImageError(f"has pixels from {low:g} to {high:g}; allowed: [0, 1]")
    return pixels.astype(np.float32)


def _read_archive(path: Path) -> np.ndarray:
    """Returns the array `images` of an .npz file, [n, h, w, c]; no other is read."""
    try:
        with array_files.opened(path) as archive:
            images = image_arrays.with_channels(archive.read("images"))
        image_arrays.check_brightness(images)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except array_files.Unreadable as error:
        raise UsageError(
            f"{path} cannot be used: {error}; allowed: an .npz file with the array "
            "images, as numpy.savez writes it."
        ) from None
    except ImageError as error:
        raise UsageError(f"{path}: images {error}.") from None
    return images


def _check_archive(path: Path, images: np.ndarray, wanted: Wanted) -> None:
    """Refuses an .npz file whose images are all of a wrong shape, in one sentence."""
    sample = np.zeros(images.shape[1:], np.uint8)
    try:
        _fitted(sample, wanted)
    except ImageError as error:
        raise UsageError(
            f"{path}: images has the shape {images.shape}: an image {error}."
        ) from None
