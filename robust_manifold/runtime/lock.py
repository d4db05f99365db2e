"""One run per folder at a time, by a lock that a dead process does not keep."""

import contextlib
import fcntl
import os
import socket
import weakref
from pathlib import Path
from typing import IO

from robust_manifold.core.errors import UsageError

_held: "weakref.WeakSet[FolderLock]" = weakref.WeakSet()


class FolderLock:
    """An exclusive lock on a folder; the kernel frees it when its process ends."""

    def __init__(self, folder: Path):
        """Takes the lock.

        Args:
          folder: an existing folder; its file `lock` is locked, and names the holder.

        Raises:
          UsageError: if another run holds it, or the file system has no locks.
        """
        # Append mode creates the file and leaves the holder's name in it alone.
        self._path = folder / "lock"
        file = open(self._path, "a+")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise UsageError(
                f"{folder} is in use by {holder}; wait for it to end, or choose "
                "another folder."
            ) from None
        except OSError as error:
            file.close()
            raise UsageError(
                f"{folder} cannot be locked ({error.strerror}): choose a folder on a "
                "file system that supports locks."
            ) from None
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        except OSError:
            # Closing would write again what there was no room for, and fail again.
            with contextlib.suppress(OSError):
                file.close()
            raise
        self._file: IO[str] | None = file
        _held.add(self)

    def in_place(self) -> bool:
        """Returns whether the folder is still the one that was locked.

        It is not if it was removed or moved, or another one stands in its place.
        """
        if self._file is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def release(self) -> None:
        """Frees the folder; releasing twice does nothing."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.truncate(0)
            self._file.close()
            self._file = None


def _drop_in_child() -> None:
    # A forked worker shares the lock, and would keep it after its parent's death.
    for lock in _held:
        if lock._file is not None:
            lock._file.close()
            lock._file = None


os.register_at_fork(after_in_child=_drop_in_child)
