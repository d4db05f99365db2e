"""Published weights: files of networks, and the checksums that each of them must have.

They come with the package in one folder, `pretrained`, with a model card `NAME.md`
beside each `NAME.safetensors`, and with `SHA256SUMS`, which `sha256sum --check` reads,
too.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.runtime import shipped, weight_files
from robust_manifold.runtime.artefacts import write_atomically

FOLDER = "pretrained"
CHECKSUMS = "SHA256SUMS"
EXTENSION = ".safetensors"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""What stands in `CHECKSUMS`, a link and a shell as it is."""

PLACES = (shipped.folder(FOLDER), Path(FOLDER))
"""Where the folder is looked for: with the package, then in the working directory."""


def read(name: str) -> weight_files.WeightFile:
    """Returns the published weights of a name, checked.

    Raises:
      UsageError: if none are published under this name, or the file is not the one
        that was published.
    """
    known: set[str] = set()
    for folder in _present():
        sums = checksums(folder)
        path = folder / (name + EXTENSION)
        if path.name in sums:
            _check(path, sums[path.name])
            return weight_files.read(path)
        known |= {Path(file).stem for file in sums if file.endswith(EXTENSION)}
    raise unknown_name("published weights", name, sorted(known))


def names() -> list[str]:
    """Returns the names of all published weights; none where there is no folder.

    Raises:
      UsageError: if the list of them cannot be read.
    """
    files = {file for place in _present() for file in checksums(place)}
    return sorted(Path(file).stem for file in files if file.endswith(EXTENSION))


def check_name(name: str) -> None:
    """Refuses a name that no weights can be published under."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name is {name!r}; allowed: letters, digits, '_' and '-', as in "
            "mnist_dcgan."
        )


def checksums(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 that each file of a folder of published weights must have.

    Raises:
      UsageError: if the list of them cannot be read.
    """
    path = folder / CHECKSUMS
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{path} cannot be read; {_remedy(path)}.") from None
    found = [re.fullmatch(r"([0-9a-f]{64})  ([\w.-]+)", line) for line in lines]
    if not found or not all(found):
        what = f"line {found.index(None) + 1} is no checksum" if found else "empty"
        raise UsageError(f"{path} is damaged ({what}); {_remedy(path)}.")
    return {match[2]: match[1] for match in found if match}


def enter(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into a folder of published weights, and their checksums.

    Raises:
      UsageError: if the list of checksums there is damaged, or the folder cannot be
        written.
    """
    known = checksums(folder) if (folder / CHECKSUMS).exists() else {}
    try:
        for name, data in files.items():
            write_atomically(folder / name, data)
            known[name] = hashlib.sha256(data).hexdigest()
        lines = (f"{known[name]}  {name}\n" for name in sorted(known))
        write_atomically(folder / CHECKSUMS, "".join(lines).encode())
    except OSError as error:
        raise UsageError(
            f"--folder is {str(folder)!r}, which cannot be written "
            f"({error.strerror}); allowed: a folder that can be."
        ) from None


def _present() -> list[Path]:
    return [place for place in PLACES if (place / CHECKSUMS).is_file()]


def _check(path: Path, expected: str) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    else:
        if found == expected:
            return
        reason = f"is damaged (checksum {found[:8]}, published {expected[:8]})"
    raise UsageError(f"{path} {reason}; {_remedy(path)}.")


def _remedy(path: Path) -> str:
    return (
        "take the file as published: install the package again, or in a checkout: "
        f"git checkout -- {FOLDER}/{path.name}"
    )
