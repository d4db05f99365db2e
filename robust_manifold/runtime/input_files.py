"""Files that a user names: opened only if they are files, so that nothing hangs."""

import errno
import os
import stat
from io import BufferedIOBase
from pathlib import Path


def open_file(path: str | os.PathLike[str]) -> BufferedIOBase:
    """Returns a file opened for reading; no pipe, which would wait for a writer.

    Raises:
      OSError: if it cannot be opened, or is a pipe, a socket or a device.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, no file", str(path))
    return open(path, "rb")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Returns what a file holds.

    Raises:
      OSError: see `open_file`.
    """
    with open_file(Path(path)) as file:
        return file.read()
