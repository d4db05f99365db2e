"""The one reader of .npz files: no pickle, and no array that its file cannot hold.

Such a file may come from anywhere. What the header of an array promises is compared
with the bytes that there are before memory is taken for it.
"""

import contextlib
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any

import numpy as np

from robust_manifold.runtime import input_files

_SUFFIX = ".npy"
_PICKLE = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_TORCH = "/data.pkl"
"""How the name of PyTorch's entry ends in the zip file that it packs."""

_MOST_DEFLATED = 1032
"""Bytes that one byte of a deflated entry can stand for, by the format of deflate."""

_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How NumPy packs an entry; others have no bound on what a byte stands for."""

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DAMAGED = (
    *(OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error),
    # Raised for sizes that are not numbers, or too large, even beside a size of 0.
    *(RuntimeError, NotImplementedError, TypeError, OverflowError),
)
_MOST_NAMED = 20


class Unreadable(Exception):
    """Why a file or one of its arrays cannot be read: a clause to put after a colon."""


class Arrays:
    """The arrays of an .npz file by their names, each read when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        self._entries = {
            entry.filename.removesuffix(_SUFFIX): entry for entry in archive.infolist()
        }

    @property
    def names(self) -> list[str]:
        """The names of all arrays, in their order."""
        return list(self._entries)

    def read(self, name: str) -> np.ndarray:
        """Returns one array.

        Raises:
          Unreadable: if there is none of this name, or it is damaged, no array, or
            holds pickled objects.
        """
        if name not in self._entries:
            raise Unreadable(f"it lacks the array {name!r} (it holds: {self.told})")
        entry = self._entries[name]
        if not entry.filename.endswith(_SUFFIX):
            raise Unreadable(f"its entry {name!r} is no array")
        if entry.flag_bits & 1:
            raise Unreadable(f"its array {name!r} is encrypted")
        if entry.compress_type not in _PACKED:
            raise Unreadable(f"its array {name!r} is packed in a way that NumPy is not")
        try:
            with self._archive.open(entry) as stream:
                _check_header(entry, stream)
        except Unreadable as error:
            raise Unreadable(f"its array {name!r} {error}") from None
        # Whatever the parsers of zip files and of headers raise: among much else
        # MemoryError and RecursionError for brackets in brackets.
        except Exception:
            raise Unreadable(f"its array {name!r} is damaged") from None
        try:
            with self._archive.open(entry) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        except _DAMAGED:
            raise Unreadable(f"its array {name!r} is damaged") from None

    @property
    def told(self) -> str:
        """The names of the arrays as a text; of very many the first ones."""
        names = self.names
        more = len(names) - _MOST_NAMED
        shown = ", ".join(names[:_MOST_NAMED]) or "nothing"
        return f"{shown} and {more} more" if more > 0 else shown


@contextlib.contextmanager
def opened(source: str | os.PathLike[str] | BufferedIOBase) -> Iterator[Arrays]:
    """Opens an .npz file, a path or what is in memory.

    Raises:
      OSError: if the file cannot be opened or read.
      Unreadable: if it is no .npz file.
    """
    own = isinstance(source, str | os.PathLike)
    file = input_files.open_file(source) if own else source
    with file if own else contextlib.nullcontext():
        with _archive(file) as archive:
            yield Arrays(archive)


def read_all(source: str | os.PathLike[str] | BufferedIOBase) -> dict[str, np.ndarray]:
    """Returns all arrays of an .npz file by their names.

    Raises:
      OSError: if the file cannot be opened or read.
      Unreadable: if it is no .npz file, or one of its arrays cannot be read.
    """
    with opened(source) as arrays:
        return {name: arrays.read(name) for name in arrays.names}


def is_pickle(data: bytes) -> bool:
    """Returns whether a file holds a pickle, alone or as PyTorch packs it."""
    if data.startswith(_PICKLE):
        return True
    try:
        with _archive(io.BytesIO(data)) as archive:
            return any(name.endswith(_TORCH) for name in archive.namelist())
    except Unreadable:
        return False


def _archive(file: BufferedIOBase) -> zipfile.ZipFile:
    """Returns the zip file that a file is."""
    try:
        return zipfile.ZipFile(file)
    # Whatever else the parser raises for a file that is none.
    except Exception:
        raise Unreadable("it is damaged, or no .npz file") from None


def _check_header(entry: zipfile.ZipInfo, stream: Any) -> None:
    """Refuses an array that its entry cannot hold, or that is no plain array."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise Unreadable(f"has the format {version}; allowed: 1.0 or 2.0")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise Unreadable("holds pickled objects")
    if dtype.itemsize == 0:
        raise Unreadable(f"has the type {dtype}, which has no size")
    promised = math.prod(shape) * dtype.itemsize
    # The size of an entry is a promise, too.
    most = entry.compress_size
    if entry.compress_type == zipfile.ZIP_DEFLATED:
        most = _MOST_DEFLATED * (most + 1)
    held = min(entry.file_size, most) - stream.tell()
    if promised > held:
        raise Unreadable(
            f"has a header that says {_short(shape)} of {dtype}, {promised:,} bytes, "
            f"and at most {max(held, 0):,} bytes of data"
        )


def _short(shape: tuple[int, ...]) -> str:
    text = str(shape)
    return text if len(text) < 100 else f"{text[:100]}..."
