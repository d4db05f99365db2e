"""Weights as one plain file, .npz or .safetensors: arrays by name, and metadata."""

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import array_files, input_files, json_text
from robust_manifold.runtime.artefacts import npz_bytes, write_atomically

_METADATA = "__metadata__"
"""The entry of an .npz file that holds the metadata; safetensors has it by design."""

_OURS = "robust_manifold"
_EXTENSIONS = (".npz", ".safetensors")

_OF_TORCH = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl", ".pickle", ".t7")
"""How files end that PyTorch writes, in lower case; ".tar" after ".pth"."""

_SAVE = "safetensors.torch.save_file(model.state_dict(), FILE)"


class WeightFile(NamedTuple):
    """What a file of weights holds.

    Attributes:
      table: the arrays by name.
      metadata: what `write` was given; empty for a file of another program.
    """

    table: dict[str, np.ndarray]
    metadata: dict[str, Any]


def write(
    path: str | os.PathLike[str],
    table: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes a file of weights, whole or not at all; equal weights give equal bytes.

    Args:
      path: ends in .npz or .safetensors; an existing file is replaced.
      table: arrays by name.
      metadata: plain values, as `json_text.dumps` takes them.

    Raises:
      UsageError: for another ending, or if the file cannot be written.
    """
    path = Path(path)
    data = encode(_extension(path), table, metadata or {})
    try:
        write_atomically(path, data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None


def encode(
    extension: str, table: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> bytes:
    """Returns the bytes that `write` puts into a file whose name ends so."""
    # The bytes of the numbers follow the order of the axes.
    table = {name: np.asarray(table[name], order="C") for name in sorted(table)}
    text = json_text.dumps({"metadata": metadata, "sha256": _digest(table, metadata)})
    if extension == ".npz":
        return npz_bytes({**table, _METADATA: np.asarray(text)})
    return safetensors.numpy.save(table, {_OURS: text})


def read(path: str | os.PathLike[str]) -> WeightFile:
    """Returns the arrays and the metadata of a file, of ours or of another program.

    Args:
      path: ends in .npz or .safetensors.

    Raises:
      UsageError: for another ending, and for a file that is not there, is damaged,
        or holds pickled objects, which are never loaded.
    """
    path = Path(path)
    form = _read_npz if _extension(path) == ".npz" else _read_safetensors
    data = b""
    try:
        data = input_files.read_bytes(path)
        table, text = form(data)
        if text is None:
            return WeightFile(table, {})
        ours = json_text.loads(text)
        metadata = dict(ours["metadata"])
        if ours["sha256"] != _digest(table, metadata):
            raise array_files.Unreadable(
                "it is damaged: its checksum is not the one written"
            )
        return WeightFile(table, metadata)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except array_files.Unreadable as error:
        reason = str(error)
        if array_files.is_pickle(data):
            reason = (
                "it is a pickle, as torch.save writes it, and is never loaded; in "
                f"PyTorch, {_SAVE} writes arrays"
            )
        raise UsageError(f"{path} is no file of weights: {reason}.") from None
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UsageError(
            f"{path} is no file of weights: its metadata is damaged."
        ) from None


def _extension(path: Path) -> str:
    ending = path.suffix.lower()
    if ending in _EXTENSIONS:
        return ending
    remedy = ""
    if ending in _OF_TORCH:
        remedy = f", which in PyTorch {_SAVE} writes"
    raise UsageError(
        f"The file of weights is {str(path)!r}; allowed: a name that ends in "
        f"{' or '.join(_EXTENSIONS)}{remedy}."
    )


def _read_npz(data: bytes) -> tuple[dict[str, np.ndarray], str | None]:
    table = array_files.read_all(io.BytesIO(data))
    metadata = table.pop(_METADATA, None)
    return table, None if metadata is None else str(metadata)


def _read_safetensors(data: bytes) -> tuple[dict[str, np.ndarray], str | None]:
    try:
        # It compares the sizes in its header with the bytes that there are.
        table = safetensors.numpy.load(data)
    except KeyError as error:
        remedy = "; in PyTorch, model.float() makes float32 of them"
        raise array_files.Unreadable(
            f"it holds numbers of the type {error}, which NumPy has not{remedy}"
        ) from None
    except (safetensors.SafetensorError, ValueError, TypeError, OverflowError):
        raise array_files.Unreadable("it is damaged, or no .safetensors file") from None
    # The format: the header's length in 8 bytes, the header, the numbers.
    header = json_text.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header.get("__metadata__")
    return table, metadata.get(_OURS) if isinstance(metadata, dict) else None


def _digest(table: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json_text.dumps(metadata).encode())
    for name in sorted(table):
        array = np.asarray(table[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
