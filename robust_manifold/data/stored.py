"""The files of a cache entry: each whole or not at all, each with a checksum."""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from robust_manifold.runtime.artefacts import write_atomically


class Damaged(Exception):
    """A file is not what was written; the message says which and how."""


_HEADER = 10 + 2**16
"""Bytes within which the header of a .npy file of format 1.0 ends."""


def write_array(path: Path, array: np.ndarray) -> str:
    """Writes a .npy file and returns its SHA-256, without a copy of the array.

    Raises:
      OSError: if it cannot be written.
    """
    array = np.ascontiguousarray(array)
    file = io.BytesIO()
    fields = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(file, fields)
    header = file.getvalue()
    digest = hashlib.sha256(header)
    digest.update(array.data)
    partial = path.with_name(f"{path.name}.partial")
    # Not forced to the disk: what a power cut makes of it, the checksum tells.
    with open(partial, "wb") as file:
        file.write(header)
        file.write(array.data)
    os.replace(partial, path)
    return digest.hexdigest()


def read_array(path: Path, sha256: str) -> np.ndarray:
    """Returns the array of a .npy file, without a copy of its contents.

    Raises:
      Damaged: if the file is not there, or not the one with this checksum.
    """
    try:
        # Bytes that are an array's own may be written to; those of a `read` may not.
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error.strerror})") from error
    found = hashlib.sha256(content.data).hexdigest()
    if found != sha256:
        raise Damaged(f"{path} is damaged (checksum {found[:8]}, stored {sha256[:8]})")
    file = io.BytesIO(content[:_HEADER].data)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return content[file.tell() :].view(dtype).reshape(shape)


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Writes plain values as JSON, with their own checksum.

    Raises:
      OSError: if it cannot be written.
    """
    whole = {"sha256": _digest(content), "content": content}
    write_atomically(path, (json.dumps(whole, indent=1) + "\n").encode())


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Returns what `write_manifest` wrote; None if there is no such file.

    Raises:
      Damaged: if it is not what was written.
    """
    try:
        whole = json.loads(path.read_bytes())
        if _digest(whole["content"]) == whole["sha256"]:
            return whole["content"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Damaged(f"{path} is damaged")


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
