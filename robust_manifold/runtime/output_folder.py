"""The folder that one command fills: what it was asked for, its lock, its files."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import json_text
from robust_manifold.runtime.artefacts import (
    Artefacts,
    remove_partial_files,
    write_atomically,
)
from robust_manifold.runtime.lock import FolderLock
from robust_manifold.runtime.run_folder import config_differences

_REQUEST = "request.json"
_LOCK = "lock"
_NAMED_DIFFERENCES = 5


class OutputFolder(Artefacts):
    """A folder that belongs to one request, held by one process at a time.

    `request.json` holds what was asked for.  The same request goes on with what is
    there; another one is refused, unless nothing has been computed yet.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        request: Mapping[str, Any],
        *,
        name: str = "--output",
        what: str = "command",
    ):
        """Makes or reopens the folder, and takes its lock.

        Args:
          path: the folder; it is made if it does not exist.
          request: plain values by name, all on which the contents depend.
          name: what errors call the folder.
          what: what they call that which fills it.

        Raises:
          UsageError: if the folder cannot be used, is in use, holds files of another
            origin or those of another request.
        """
        path = Path(path)
        self._lock = _locked(path, name, what)
        try:
            remove_partial_files(path)
            super().__init__(path)
            self._check_request(request, name, what)
        except BaseException:
            self.close()
            raise

    def _check_request(self, request: Mapping[str, Any], name: str, what: str) -> None:
        """Stores the request at first; afterwards compares it with the stored one."""
        file = self.path / _REQUEST
        if not any(self._sums.values()):
            text = json_text.dumps(request, indent=2) + "\n"
            write_atomically(file, text.encode())
            return
        stored = _read_request(file, name)
        differences = config_differences(request, stored)
        if differences:
            more = len(differences) - _NAMED_DIFFERENCES
            named = "; ".join(differences[:_NAMED_DIFFERENCES])
            named += f"; and {more} more" if more > 0 else ""
            raise UsageError(
                f"{self.path} holds the results of another {what} ({named}): choose "
                f"another {name}, or give the stored values."
            )

    def close(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _locked(path: Path, name: str, what: str) -> FolderLock:
    try:
        path.mkdir(parents=True, exist_ok=True)
        foreign = sorted(p.name for p in path.iterdir() if not _is_start(p.name))
        if foreign and not (path / _REQUEST).exists():
            raise UsageError(
                f"{name} is {str(path)!r}, which holds other files ({foreign[0]!r}); "
                f"allowed: a new or an empty folder, or one that this {what} has begun."
            )
        return FolderLock(path)
    except FileExistsError:
        reason = "Not a directory"
    except OSError as error:
        reason = error.strerror
    raise UsageError(
        f"{name} is {str(path)!r}, which cannot be used ({reason}); allowed: a "
        "folder that can be written."
    )


def _is_start(name: str) -> bool:
    """Returns whether a process that is killed as it begins may leave such a file."""
    return name == _LOCK or name.startswith(f".{_REQUEST}")


def _read_request(file: Path, name: str) -> dict[str, Any]:
    try:
        return dict(json_text.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        raise UsageError(
            f"{file} is missing or damaged: put it back, or choose another {name}."
        ) from None
