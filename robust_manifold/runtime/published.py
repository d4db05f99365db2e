"""Published weights: files of networks, and the checksums that each of them must have.

They lie in one folder, `pretrained`, with a model card `NAME.md` beside each
`NAME.safetensors`, and with `SHA256SUMS`, which `sha256sum --check` reads, too.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.runtime import weight_files
from robust_manifold.runtime.artefacts import write_atomically

FOLDER = "pretrained"
CHECKSUMS = "SHA256SUMS"
EXTENSION = ".safetensors"

PLACES = (Path(__file__).resolve().parents[2] / FOLDER, Path(FOLDER))
"""Where the folder is looked for: in the checkout, then in the working directory."""


def read(name: str) -> weight_files.WeightFile:
    """Returns the published weights of a name, checked.

    Raises:
      UsageError: if there is no folder of published weights, none of this name, or
        the file is not the one that was published.
    """
    folder = _folder()
    sums = checksums(folder)
    known = [file for file in sums if file.endswith(EXTENSION)]
    if name + EXTENSION not in known:
        names = [file.removesuffix(EXTENSION) for file in known]
        raise unknown_name("published weights", name, names)
    path = folder / (name + EXTENSION)
    _check(path, sums[path.name])
    return weight_files.read(path)


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
    if not all(found):
        number = found.index(None) + 1
        raise UsageError(
            f"{path} is damaged (line {number} is no checksum); {_remedy(path)}."
        )
    return {match[2]: match[1] for match in found if match}


def enter(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into a folder of published weights, and their checksums."""
    known = checksums(folder) if (folder / CHECKSUMS).exists() else {}
    for name, data in files.items():
        write_atomically(folder / name, data)
        known[name] = hashlib.sha256(data).hexdigest()
    lines = (f"{known[name]}  {name}\n" for name in sorted(known))
    write_atomically(folder / CHECKSUMS, "".join(lines).encode())


def _folder() -> Path:
    for place in PLACES:
        if (place / CHECKSUMS).is_file():
            return place
    raise UsageError(
        "config.pretrained is True, and there is no folder of published weights: an "
        f"installed package is without them; take the folder {FOLDER}/ of the source "
        f"repository (git clone) into the working directory {Path.cwd()}."
    )


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
    return f"take the file as published, as by: git checkout -- {FOLDER}/{path.name}"
