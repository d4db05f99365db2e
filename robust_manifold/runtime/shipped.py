"""The folders that come with the package: `experiments` and `pretrained`.

A wheel holds them within the package. In a checkout, which an editable install is, too,
they lie beside it.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: str) -> Path:
    """Returns the folder of this name that came with the package."""
    # What lies beside an installed package belongs to others.
    within = _PACKAGE / name
    return within if within.is_dir() else _PACKAGE.with_name(name)


def experiments() -> dict[str, Path]:
    """Returns the config files of the experiments by their names, in order."""
    files = sorted(folder("experiments").glob("*.py"))
    return {file.stem: file for file in files}
