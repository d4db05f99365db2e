"""Artefacts: files that are written whole or not at all, each with its checksum.

A file goes to a temporary name beside its place, is renamed, and then entered in
`checksums.json`.  A file without an entry counts as not written, so a process
killed at any moment leaves only whole artefacts behind.  Of a file that only grows,
a log, the beginning is entered: what was appended since is whole lines or a last one
cut short.
"""

import contextlib
import errno
import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import array_files, json_text
from robust_manifold.runtime.devices import agreed

_CHECKSUMS = "checksums.json"
PARTIAL = ".partial"
"""How the name of a hidden file ends that a process which was killed may leave."""


class DamagedArtefact(UsageError):
    """A stored file is not what was written; the message names it and the remedy."""


class Artefacts:
    """The artefacts of one folder, by their paths relative to it.

    In a job of several processes all of them read, and only the first one writes:
    elsewhere the writing methods do nothing.  `has` and `has_tree` give every
    process the first one's answer, so all must ask the same questions in the same
    order.
    """

    def __init__(self, path: str | os.PathLike[str], *, primary: bool = True):
        """Opens the artefacts of the existing folder `path`.

        Raises:
          DamagedArtefact: if the folder's list of checksums cannot be read.
        """
        self.path = Path(path)
        self.primary = primary
        self._sums: dict[str, dict[str, Any]] = {"files": {}, "trees": {}, "logs": {}}
        self._load()

    def write_bytes(self, relative: str, data: bytes) -> Path:
        """Writes one artefact, replacing an older one, and returns its path."""
        path = self._inside(relative)
        if not self.primary:
            return path
        digest = hashlib.sha256(data).hexdigest()
        files = self._sums["files"]
        # The old entry must not outlive the old contents, however short the gap is.
        if files.get(relative, digest) != digest:
            self._forget(files, relative)
        write_atomically(path, data)
        if relative not in files:
            files[relative] = digest
            self._store()
        return path

    def write_text(self, relative: str, text: str) -> Path:
        """Writes a UTF-8 text; see `write_bytes`."""
        return self.write_bytes(relative, text.encode())

    def write_json(self, relative: str, value: Any) -> Path:
        """Writes JSON that `read_json` returns; see `json_text.dumps`."""
        return self.write_text(relative, json_text.dumps(value, indent=2) + "\n")

    def write_npz(self, relative: str, arrays: Mapping[str, Any]) -> Path:
        """Writes arrays by name; equal arrays give equal bytes (see `npz_bytes`)."""
        return self.write_bytes(relative, npz_bytes(arrays))

    def has(self, relative: str) -> bool:
        """Returns whether the artefact was written whole and is still there.

        Of a job of several processes all have to ask.
        """
        return agreed(self.holds(relative))

    def holds(self, relative: str) -> bool:
        """Returns the same as `has`, for what the first process does alone."""
        path = self._inside(relative)
        return relative in self._entries("files") and path.is_file()

    def entered(self, relative: str) -> str | None:
        """Returns the checksum of an artefact; None if it has none."""
        return self._entries("files").get(relative)

    def read_bytes(self, relative: str) -> bytes:
        """Returns the contents of an artefact, checked.

        Raises:
          UsageError: if it was not written.
          DamagedArtefact: if it is not what was written.
        """
        path = self._inside(relative)
        stored = self._entries("files").get(relative)
        if stored is None or not path.exists():
            raise UsageError(
                f"{path} has not been written: run the stage that writes it first."
            )
        try:
            data = path.read_bytes()
        except IsADirectoryError as error:
            # Of all else that forbids reading the contents are not to blame.
            raise _damaged(path, f"cannot be read: {error.strerror}") from None
        found = hashlib.sha256(data).hexdigest()
        if found != stored:
            raise _damaged(path, _differs(found, stored))
        return data

    def read_text(self, relative: str) -> str:
        """Returns a text artefact; see `read_bytes`."""
        return self.read_bytes(relative).decode()

    def read_json(self, relative: str) -> Any:
        """Returns the value that `write_json` wrote; see `read_bytes`."""
        return json_text.loads(self.read_bytes(relative))

    def read_npz(self, relative: str) -> dict[str, np.ndarray]:
        """Returns the arrays that `write_npz` wrote; see `read_bytes`."""
        data = io.BytesIO(self.read_bytes(relative))
        try:
            return array_files.read_all(data)
        except array_files.Unreadable as error:
            raise _damaged(self.path / relative, str(error)) from None

    def remove_folder(self, relative: str) -> None:
        """Removes a folder of artefacts, and their entries."""
        path = self._inside(relative)
        if not self.primary or not path.exists():
            return
        files = self._sums["files"]
        for name in [name for name in files if name.startswith(f"{relative}/")]:
            del files[name]
        # What is entered must be there; what is there need not be entered.
        self._store()
        shutil.rmtree(path)
        with contextlib.suppress(OSError):
            # Only if it is empty.
            path.parent.rmdir()

    def register_tree(self, relative: str) -> None:
        """Enters all files of a folder that something else has written whole."""
        if self.primary:
            self._sums["trees"][relative] = hash_tree(self._inside(relative))
            self._store()

    def has_tree(self, relative: str) -> bool:
        """Returns whether the folder is registered and still there."""
        path = self._inside(relative)
        return agreed(relative in self._entries("trees") and path.is_dir())

    def verify_tree(self, relative: str) -> None:
        """Raises `DamagedArtefact` if a file of a registered folder has changed.

        Raises:
          UsageError: if the folder is not registered.
        """
        path = self._inside(relative)
        if relative not in self._entries("trees"):
            raise UsageError(
                f"{path} has not been written: run the stage that writes it first."
            )
        check_tree(path, self._entries("trees")[relative])

    def enter_log(self, relative: str, data: bytes) -> None:
        """Enters the contents of a file that will only be appended to."""
        entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if self.primary and self._sums["logs"].get(relative) != entry:
            self._inside(relative)
            self._sums["logs"][relative] = entry
            self._store()

    def forget_log(self, relative: str) -> None:
        """Drops the entry of a log that is about to be written anew."""
        if self.primary and relative in self._sums["logs"]:
            self._forget(self._sums["logs"], relative)

    def check_log(self, relative: str) -> None:
        """Raises `DamagedArtefact` if what was entered of a log has changed.

        A log that was never entered, or that the user has deleted, is no damage.
        """
        path, entry = self._inside(relative), self._entries("logs").get(relative)
        if entry is None or not path.exists():
            return
        stored, found = entry["sha256"], path.read_bytes()[: entry["bytes"]]
        if (digest := hashlib.sha256(found).hexdigest()) != stored:
            raise _damaged(path, _differs(digest, stored), LOG_REMEDY)

    def verify(self) -> None:
        """Raises `DamagedArtefact` for the first registered file that has changed.

        What the user has deleted counts as not written, and is no damage.
        """
        for relative in sorted(self._entries("files")):
            if (self.path / relative).exists():
                self.read_bytes(relative)
        for relative in sorted(self._entries("trees")):
            if (self.path / relative).is_dir():
                self.verify_tree(relative)
        for relative in sorted(self._entries("logs")):
            self.check_log(relative)

    def _inside(self, relative: str) -> Path:
        parts = Path(relative).parts
        if not parts or Path(relative).is_absolute() or ".." in parts:
            raise ValueError(f"{relative!r} is not a path inside the folder.")
        return self.path / relative

    def _entries(self, kind: str) -> dict[str, Any]:
        if not self.primary:
            # The first process may have written since.
            self._load()
        return self._sums[kind]

    def _forget(self, entries: dict[str, Any], relative: str) -> None:
        del entries[relative]
        self._store()

    def _load(self) -> None:
        path = self.path / _CHECKSUMS
        if not path.exists():
            return
        sums: dict[str, Any] = {}
        try:
            # Folders of older versions have entered no logs.
            sums = {"logs": {}, **json_text.loads(path.read_bytes())}
            whole = all(map(_is_sum, sums["files"].values()))
            whole &= all(_is_sum(s) for t in sums["trees"].values() for s in t.values())
            whole &= all(map(_is_log, sums["logs"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            raise _damaged(path, "not a list of checksums", _LIST_REMEDY)
        self._sums = {kind: sums[kind] for kind in self._sums}

    def _store(self) -> None:
        text = json_text.dumps(self._sums, indent=1) + "\n"
        write_atomically(self.path / _CHECKSUMS, text.encode())


_LIST_REMEDY = (
    "delete it and run again; what it listed is computed anew, but for the networks"
)
LOG_REMEDY = (
    "put it back, or delete it and run again, which loses lines of the training's "
    "course and no result"
)

LONGEST_NAME = 255 - len(f".{PARTIAL}")
"""Bytes that the name of a file may have, so that its temporary name may still be."""


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all, making its folder if needed.

    When it returns, the file outlasts a loss of power.

    Raises:
      OSError: naming `path`, if it cannot be written; nothing of it is left behind.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        new = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        # Without this a loss of power may take the names, though what follows is kept.
        for folder in (path.parent, *(made.parent for made in new)):
            sync(folder)
    except BaseException as error:
        # On a full disk what it takes is room that the run's status needs.
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def sync(path: Path) -> None:
    """Has a file, or the names in a folder, outlast a loss of power."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # Of a folder some file systems cannot be asked it.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(number)


def remove_partial_files(folder: Path) -> None:
    """Removes what `write_atomically` left behind in processes that were killed."""
    for partial in folder.rglob(f".*{PARTIAL}"):
        partial.unlink(missing_ok=True)


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Returns an .npz file of the arrays, the same bytes for equal arrays.

    Raises:
      ValueError: for an array that only pickle could store, or of a type that
        NumPy would not read back (bfloat16).
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            array = np.asarray(arrays[name])
            if array.dtype.kind in "OV":
                raise ValueError(f"{name!r} has the type {array.dtype}, not plain.")
            # The time of day has no place in an artefact.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def hash_tree(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file below a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _hash_file(path) for path in files}


def check_tree(
    folder: Path, hashes: Mapping[str, str], remedy: str | None = None
) -> None:
    """Raises `DamagedArtefact` unless every file in `hashes` is there unchanged.

    Args:
      folder: the folder that `hash_tree` was called on.
      hashes: what it returned; files that are not in it are not looked at.
      remedy: what the user can do, to end the sentence.
    """
    remedy = remedy or f"delete {folder} and run again to compute it anew"
    for relative, stored in hashes.items():
        path = folder / relative
        try:
            found = _hash_file(path)
        except FileNotFoundError as error:
            raise _damaged(path, str(error.strerror), remedy) from None
        if found != stored:
            raise _damaged(path, _differs(found, stored), remedy)


def _hash_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_sum(value: Any) -> bool:
    return isinstance(value, str)


def _is_log(value: Any) -> bool:
    return type(value["bytes"]) is int and _is_sum(value["sha256"])


def _differs(found: str, stored: str) -> str:
    return f"checksum {found[:8]}, stored {stored[:8]}"


def _damaged(
    path: Path, reason: str, remedy: str = "delete it and run again to compute it anew"
) -> DamagedArtefact:
    return DamagedArtefact(f"{path} is damaged ({reason}): {remedy}.")
