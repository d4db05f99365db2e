"""Decoded images kept on disk, so that they are decoded, cut and resized only once.

An entry is a folder `images/<name>-<key>` of the cache: raw .npy arrays, and
`manifest.json` with their checksums, which is written last.  What no whole manifest
names does not count, so a process killed at any moment harms nothing.  The key stands
for the source without its label, the manifest's stamp for the state of its files and
for what decoded them: when these change, the entry is replaced.  An entry, or all of
the cache, can be deleted at any time.
"""

import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import features as pillow

from robust_manifold.compilation_cache import cache_folder
from robust_manifold.core.errors import UsageError
from robust_manifold.data.images import Progress
from robust_manifold.data.sources import Decoded, DecodedSource, Examples, Parts, Source
from robust_manifold.data.stored import (
    Damaged,
    read_array,
    read_manifest,
    write_array,
    write_manifest,
)
from robust_manifold.runtime import console

OFF = "off"

# To be raised whenever this package decodes the same files into other arrays, or
# stores them otherwise: entries of another format do not count.
_FORMAT = 2
# What else the pixels depend on.
_DECODERS = ("pil", "jpg", "libjpeg_turbo", "zlib")


def read(
    source: Source,
    cache_dir: str | os.PathLike[str] | None = None,
    on_progress: Progress | None = None,
) -> Parts:
    """Returns `source.read()`, from the cache if it is there and whole.

    The arrays are equal bit for bit.
    Of several processes that start on an empty cache one decodes, and the others
    wait for it.  An entry that has been damaged is decoded again, with a warning; a
    cache that cannot be written is done without, with a warning.

    Args:
      source: only a `DecodedSource` is kept; others are read as they are.
      cache_dir: see `root_folder`.
      on_progress: called with (images decoded, images in all).

    Raises:
      UsageError: as `source.read` does; also where the entry is damaged and the
        files of the source are gone.
    """
    root = root_folder(cache_dir)
    if root is None or not isinstance(source, DecodedSource):
        return source.read(on_progress)
    return source.parts(_Entry(root, source).decoded(on_progress))


def root_folder(cache_dir: str | os.PathLike[str] | None) -> Path | None:
    """Returns the folder of the cache; None where there is to be none.

    Args:
      cache_dir: the folder, "off" for none, or "" or None for the environment
        variable ROBUST_MANIFOLD_CACHE (which may be "off" too), else
        `robust_manifold` in the user's cache folder (~/.cache).

    Raises:
      UsageError: for the home folder (~name) of a user that there is not.
    """
    chosen = os.fspath(cache_dir or os.environ.get("ROBUST_MANIFOLD_CACHE", ""))
    if chosen == OFF:
        return None
    if not chosen:
        return cache_folder(os.environ).parent
    try:
        return Path(chosen).expanduser()
    except RuntimeError:
        raise UsageError(
            f"cache_dir is {chosen!r}; allowed: a folder, where ~ is followed by "
            "nothing or by the name of a user that has a home folder."
        ) from None


class _Entry:
    """The cache's copy of one source."""

    def __init__(self, root: Path, source: DecodedSource):
        self._source = source
        canonical = source.canonical()
        self._name = f"{type(source).__name__.lower()}:{canonical.location}"
        key = hashlib.sha256(repr(canonical).encode()).hexdigest()[:16]
        readable = "".join(c if c.isalnum() else "_" for c in self._name)[-40:]
        self._folder = root / "images" / f"{readable}-{key}"
        self._manifest = self._folder / "manifest.json"

    def decoded(self, on_progress: Progress | None) -> Decoded:
        """Returns the decoded source: what is stored, else decoded and then stored."""
        stamp = _stamp(self._source)
        # First without the lock, so that a cache that may only be read serves too.
        stored, damage = self._looked_up(stamp, on_progress)
        if stored is not None:
            return stored
        if stamp is None and damage is None:
            # Neither here nor there: the source has the sentence to say so.
            return self._source.decode(on_progress)
        with contextlib.ExitStack() as stack:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(self._lock())
            except OSError as error:
                self._warn_unusable(error)
                return self._decode(stamp, damage, on_progress)
            # What looked damaged may have been another process's writing.
            stored, damage = self._looked_up(stamp, on_progress)
            if stored is not None:
                return stored
            decoded = self._decode(stamp, damage, on_progress)
            if stamp is not None:
                try:
                    self._store(stamp, decoded)
                except OSError as error:
                    self._clear()
                    self._warn_unusable(error)
            return decoded

    def _decode(
        self, stamp: str | None, damage: Damaged | None, on_progress: Progress | None
    ) -> Decoded:
        """Returns the source decoded, in place of what is damaged, if anything is."""
        if damage is None:
            return self._source.decode(on_progress)
        if stamp is not None:
            console.warning(
                f"{damage}: the images of {self._name!r} are decoded again."
            )
            return self._source.decode(on_progress)
        try:
            return self._source.decode(on_progress)
        except UsageError as error:
            raise UsageError(
                f"{damage}, and the files that it was decoded from are gone; bring "
                f"them back: {error}"
            ) from error

    def _looked_up(
        self, stamp: str | None, on_progress: Progress | None
    ) -> tuple[Decoded | None, Damaged | None]:
        """Returns what `_load` returns, and what it raises."""
        try:
            return self._load(stamp, on_progress), None
        except Damaged as damage:
            return None, damage

    def _load(self, stamp: str | None, on_progress: Progress | None) -> Decoded | None:
        """Returns what is stored; None if that is nothing, or another state.

        Raises:
          Damaged: naming the first file that is not what was written.
        """
        manifest = read_manifest(self._manifest)
        if manifest is None or manifest.get("format") != _FORMAT:
            return None
        if stamp not in (None, manifest["stamp"]):
            return None
        splits = {
            split: Examples(
                **{
                    field: read_array(self._array(split, field), sha256)
                    for field, sha256 in sums.items()
                }
            )
            for split, sums in manifest["splits"].items()
        }
        if stamp is None:
            console.warning(
                f"The files of {self._name!r} are gone; its images are read from "
                f"{self._folder}."
            )
        total = sum(len(examples.ids) for examples in splits.values())
        if on_progress is not None:
            on_progress(total, total)
        features = {name: tuple(names) for name, names in manifest["features"]}
        return Decoded(splits, features, manifest["own"])

    def _store(self, stamp: str, decoded: Decoded) -> None:
        """Writes the arrays and then the manifest; the lock is held.

        Raises:
          OSError: if there is no room.
        """
        self._clear()
        splits = {
            split: {
                field: write_array(self._array(split, field), array)
                for field, array in examples._asdict().items()
            }
            for split, examples in decoded.splits.items()
        }
        content = {
            "source": self._name,
            "format": _FORMAT,
            "stamp": stamp,
            "splits": splits,
            # Pairs, since the order is that of the columns.
            "features": list(decoded.features.items()),
            "own": decoded.own,
        }
        write_manifest(self._manifest, content)

    def _clear(self) -> None:
        """Removes what is stored, the manifest first."""
        with contextlib.suppress(OSError):
            self._manifest.unlink(missing_ok=True)
            for array in self._folder.glob("*.npy*"):
                array.unlink()

    def _array(self, split: str, field: str) -> Path:
        return self._folder / f"{split}-{field}.npy"

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Holds the entry's lock, which the kernel frees should the process die."""
        with open(self._folder / "lock", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                console.info(
                    f"Waiting for {_holder(file)}, which is decoding the images of "
                    f"{self._name!r} into {self._folder}."
                )
                fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield

    def _warn_unusable(self, error: OSError) -> None:
        console.warning(
            f"The images of {self._name!r} cannot be kept in {self._folder} "
            f"({error.strerror or error}) and are decoded in every run; choose another "
            "cache_dir, or 'off'."
        )


def _stamp(source: DecodedSource) -> str | None:
    """Returns what changes with the source's files or decoders; None without files.

    Names, sizes and times of the files are looked at, not what they hold: reading
    that would take as long as decoding it.
    """
    lines = []
    for path in source.canonical().files():
        with contextlib.suppress(OSError):
            status = path.stat()
            lines.append(f"{path}\0{status.st_size}\0{status.st_mtime_ns}")
    versions = [pillow.version(name) for name in _DECODERS]
    text = "\n".join([*lines, f"decoders {versions}"])
    # Names of files need not be UTF-8.
    return hashlib.sha256(os.fsencode(text)).hexdigest() if lines else None


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "another process"
