"""The idx files that MNIST and its kin are published as."""

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image as pil

from robust_manifold.core.errors import UsageError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def find(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Returns the image and label file of each split, packed or not.

    Raises:
      UsageError: if one is missing.
    """
    found = {}
    for split, names in FILES.items():
        pair = []
        for name in names:
            paths = [folder / name, folder / f"{name}.gz"]
            present = [path for path in paths if path.is_file()]
            if not present:
                raise UsageError(
                    f"The file {name} (or {name}.gz) is missing in {folder}."
                )
            pair.append(present[0])
        found[split] = tuple(pair)
    return found


def read_split(
    images_path: Path, labels_path: Path, *, classes: int = 10
) -> tuple[UInt8[np.ndarray, "n h w"], UInt8[np.ndarray, " n"]]:
    """Returns the images and labels of one split.

    Raises:
      UsageError: naming the file that is damaged, or has other values than allowed.
    """
    images = _read(images_path, 3)
    labels = _read(labels_path, 1)
    if len(labels) != len(images) or len(images) == 0:
        raise UsageError(
            f"{labels_path} holds {len(labels)} labels for the {len(images)} images of "
            f"{images_path.name}; allowed: one label an image, and at least one."
        )
    if labels.max() >= classes:
        raise UsageError(
            f"{labels_path} holds the label {labels.max()}; "
            f"allowed: 0 to {classes - 1}."
        )
    if images.shape[1:] != (28, 28):
        raise UsageError(
            f"{images_path} holds images of the shape {images.shape[1:]}; "
            "allowed: (28, 28)."
        )
    return images, labels


def examples(
    images: UInt8[np.ndarray, "n h w"], labels: UInt8[np.ndarray, " n"]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the records of a split, the images as PNG files."""
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        encoded = io.BytesIO()
        pil.fromarray(image).save(encoded, format="png")
        yield index, {"image": encoded.getvalue(), "label": int(label)}


def _read(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Returns the array of one idx file."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz" or content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is damaged: {error}.") from error
    header = 4 + 4 * dimensions
    # The third byte, 8, stands for uint8, the fourth for the number of dimensions.
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise UsageError(
            f"{path} is not an idx file of uint8 values in {dimensions} dimensions."
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    values = np.frombuffer(content, np.uint8, offset=header)
    if values.size != math.prod(shape):
        raise UsageError(
            f"{path} holds {values.size} values; "
            f"allowed: {math.prod(shape)}, as its header says."
        )
    return values.reshape(shape)
