"""The files that CelebA is published as: aligned faces and lists of what they show."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image as pil

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import input_files

SPLITS = {"train": 0, "validation": 1, "test": 2}
_SIZE = (178, 218)


class Faces:
    """The published files of CelebA in one folder, checked when opened.

    Args:
      folder: holds img_align_celeba.zip or the folder img_align_celeba,
        list_attr_celeba.txt and list_eval_partition.txt, and if present
        list_landmarks_align_celeba.txt and identity_CelebA.txt.
      attributes: the names of the attributes that the list must have.
      landmarks: the names of the landmarks.

    Raises:
      UsageError: naming the file and line that is missing or wrong.
    """

    def __init__(
        self, folder: Path, attributes: Sequence[str], landmarks: Sequence[str]
    ):
        self.partition = {
            name: values[0]
            for name, values in _rows(folder / "list_eval_partition.txt", 1).items()
        }
        wrong = set(self.partition.values()) - set(SPLITS.values())
        if wrong or not self.partition:
            raise UsageError(
                f"{folder / 'list_eval_partition.txt'} holds the partitions "
                f"{sorted(set(self.partition.values()))}; allowed: 0, 1 and 2."
            )
        self.attributes = _table(folder / "list_attr_celeba.txt", attributes)
        self.landmarks = _optional(
            folder / "list_landmarks_align_celeba.txt", landmarks, self.partition
        )
        identity = folder / "identity_CelebA.txt"
        self.identity = _rows(identity, 1) if identity.is_file() else {}
        self._images = _Images(folder)
        for path, table in (
            ("list_attr_celeba.txt", self.attributes),
            ("list_landmarks_align_celeba.txt", self.landmarks),
            (self._images.path.name, self._images.names),
        ):
            missing = next((name for name in self.partition if name not in table), None)
            if missing is not None:
                raise UsageError(
                    f"{folder / path} lacks {missing}, which "
                    "list_eval_partition.txt lists."
                )

    def examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the records of one official split, the images as JPEG files."""
        names = [n for n, part in self.partition.items() if part == SPLITS[split]]
        for name in sorted(names):
            signs = self.attributes[name]
            yield (
                name,
                {
                    "image": self._images.read(name),
                    "landmarks": self.landmarks[name],
                    "attributes": {key: sign > 0 for key, sign in signs.items()},
                    "identity": {"Identity_No": self.identity.get(name, [-1])[0]},
                },
            )


class _Images:
    """The aligned faces, in the published zip file or unpacked."""

    def __init__(self, folder: Path):
        self.path = folder / "img_align_celeba"
        self._zip: zipfile.ZipFile | None = None
        if self.path.is_dir():
            self.names = {p.name: p.name for p in self.path.iterdir()}
            return
        self.path = folder / "img_align_celeba.zip"
        if not self.path.is_file():
            raise UsageError(
                f"{folder} holds neither img_align_celeba.zip nor the folder "
                "img_align_celeba."
            )
        try:
            self._zip = zipfile.ZipFile(self.path)
        except zipfile.BadZipFile as error:
            raise UsageError(f"{self.path} is damaged or not a zip file.") from error
        self.names = {n.rsplit("/", 1)[-1]: n for n in self._zip.namelist()}

    def read(self, name: str) -> bytes:
        """Returns the content of one JPEG file."""
        try:
            if self._zip is None:
                content = input_files.read_bytes(self.path / name)
            else:
                content = self._zip.read(self.names[name])
            with pil.open(io.BytesIO(content), formats=("JPEG",)) as image:
                size = image.size
        # Whatever the parsers of zip and JPEG files raise.
        except Exception as error:
            raise UsageError(
                f"{self.path}: {name} is not a whole JPEG file."
            ) from error
        if size != _SIZE:
            raise UsageError(
                f"{self.path}: {name} has {size[0]}x{size[1]} pixels; allowed: "
                f"{_SIZE[0]}x{_SIZE[1]}, the aligned and cropped images."
            )
        return content


def _text(path: Path) -> str:
    """Returns a file's text; what is no text becomes signs that no list holds."""
    return path.read_text(encoding="utf-8", errors="replace")


def _rows(path: Path, columns: int, skip: int = 0) -> dict[str, list[int]]:
    """Returns the whole numbers after each file name, from the line `skip` on."""
    if not path.is_file():
        raise UsageError(f"The file {path} does not exist.")
    rows = {}
    for number, line in enumerate(_text(path).splitlines()[skip:], skip + 1):
        if not line.strip():
            continue
        name, *values = line.split()
        try:
            rows[name] = [int(value) for value in values]
        except ValueError:
            rows[name] = []
        if len(rows[name]) != columns:
            raise UsageError(
                f"{path}, line {number}, cannot be read; allowed: a file name and "
                f"{columns} whole numbers."
            )
    return rows


def _table(path: Path, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Returns the named values of each file; line 1 is a count, line 2 the names."""
    if not path.is_file():
        raise UsageError(f"The file {path} does not exist.")
    header = "".join(_text(path).splitlines()[1:2]).split()
    if sorted(header) != sorted(names):
        raise UsageError(
            f"{path}, line 2, names {len(header)} columns; "
            f"allowed: {len(names)}: {', '.join(names)}."
        )
    rows = _rows(path, len(names), skip=2)
    return {n: dict(zip(header, row, strict=True)) for n, row in rows.items()}


def _optional(
    path: Path, names: Sequence[str], partition: dict[str, int]
) -> dict[str, dict[str, int]]:
    """Returns the table, or -1 everywhere if there is no such file."""
    if path.is_file():
        return _table(path, names)
    return {name: dict.fromkeys(names, -1) for name in partition}
