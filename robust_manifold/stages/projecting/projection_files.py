"""The files that projecting ends with: pictures, arrays, lines, a summary."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as pil

from robust_manifold import inversion, reporting
from robust_manifold.data.user_images import UserImage, as_float
from robust_manifold.evaluation import (
    ProjectionLine,
    ProjectionSummary,
    projections_to_csv,
    share_near_best,
    summarise_projections,
)
from robust_manifold.runtime.artefacts import write_atomically
from robust_manifold.runtime.output_folder import OutputFolder

LINES = "projections.csv"
ARRAYS = "projections.npz"
IMAGES = "projections"
SHEETS = "pictures"
SUMMARY = "summary.json"

FEW = 100
"""Of an .npz file with at most this many images the projections are PNG files too."""

PER_SHEET = 20
_COLUMNS = 10


class _Projected(NamedTuple):
    """One image with what was found for it."""

    place: int
    image: UserImage
    projection: np.ndarray
    line: ProjectionLine


def finished(folder: OutputFolder) -> bool:
    """Returns whether all files were written; of PNG files it checks the folders."""
    if not folder.has(SUMMARY):
        return False
    trees = [name for name in (IMAGES, SHEETS) if (folder.path / name).is_dir()]
    stored = folder.read_json(SUMMARY)
    return set(stored["folders"]) <= set(trees) and all(
        folder.has(file) for file in stored["files"]
    )


def read_summary(folder: OutputFolder) -> ProjectionSummary:
    """Returns the summary of a finished folder."""
    return ProjectionSummary(**folder.read_json(SUMMARY)["summary"])


def write(
    folder: OutputFolder,
    images: Sequence[UserImage],
    rounds: Sequence[str],
    *,
    reject_above: float | None,
    sheets: int,
    from_archive: bool,
) -> None:
    """Writes all files from the stored rounds, the summary last.

    Args:
      folder: holds the rounds.
      images: all that were given, in their order.
      rounds: files of the usable ones' results, in their order.
      reject_above: the largest error that is not rejected; None for no limit.
      sheets: the largest number of sheets of pictures.
      from_archive: whether the images came from an .npz file.
    """
    limited = reject_above is not None
    lines = [ProjectionLine(shown(i.name), reason=i.reason) for i in images]
    as_files = not from_archive or len(images) <= FEW
    shelf: list[_Projected] = []
    written = 0
    folders = set()
    for found in _projected(folder, images, rounds, reject_above):
        lines[found.place] = found.line
        if as_files:
            path = folder.path / IMAGES / file_of(found.image.name)
            write_atomically(path, _png(found.projection))
            folders.add(IMAGES)
        if written < sheets:
            shelf.append(found)
        if len(shelf) == PER_SHEET:
            _write_sheet(folder.path, written, shelf)
            written, shelf = written + 1, []
    if shelf:
        _write_sheet(folder.path, written, shelf)
        written += 1
    folders |= {SHEETS} if written else set()
    files = [LINES]
    if from_archive and rounds:
        folder.write_npz(ARRAYS, _arrays(folder, images, rounds))
        files.append(ARRAYS)
    folder.write_text(LINES, projections_to_csv(lines, limited=limited))
    summary = summarise_projections(lines, limited=limited)
    folder.write_json(
        SUMMARY,
        {"summary": summary._asdict(), "files": files, "folders": sorted(folders)},
    )


def file_of(name: str) -> Path:
    """Returns the PNG file of an image's projection.

    >>> [str(file_of(name)) for name in ("a/b.png", "a/b.jpg", "images[7]")]
    ['a/b.png', 'a/b.jpg.png', 'images[7].png']
    """
    return Path(name if name.lower().endswith(".png") else f"{name}.png")


def shown(name: str) -> str:
    """Returns a file's name as one line of plain text, whatever is in it."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in name
    )


def _projected(
    folder: OutputFolder,
    images: Sequence[UserImage],
    rounds: Sequence[str],
    reject_above: float | None,
) -> Iterator[_Projected]:
    """Yields the usable images with what the rounds hold of them, in order."""
    places = (p for p, image in enumerate(images) if image.pixels is not None)
    for file in rounds:
        found = folder.read_npz(file)
        near = share_near_best(found["restart_errors"])
        for row, error in enumerate(found["error"]):
            place = next(places)
            image, projection = images[place], found["image"][row]
            assert image.pixels is not None
            difference = projection.astype(np.float64) - as_float(image.pixels)
            line = ProjectionLine(
                name=shown(image.name),
                error=float(error),
                norm=float(np.linalg.norm(difference)),
                status=inversion.Status(int(found["status"][row])).name,
                near_best=float(near[row]),
                # A NaN is no small error either.
                rejected=None if reject_above is None else not error <= reject_above,
            )
            yield _Projected(place, image, projection, line)


def _arrays(
    folder: OutputFolder, images: Sequence[UserImage], rounds: Sequence[str]
) -> dict[str, np.ndarray]:
    """Returns the arrays of all rounds, and which rows of the input they are of."""
    parts = [folder.read_npz(file) for file in rounds]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    names = np.array([status.name for status in inversion.Status])
    usable = [p for p, image in enumerate(images) if image.pixels is not None]
    return {
        "images": joined["image"],
        "latents": joined["latent"],
        "errors": joined["error"],
        "statuses": names[joined["status"]],
        "restart_errors": joined["restart_errors"],
        "restart_statuses": names[joined["restart_status"]],
        "ids": joined["id"],
        "rows": np.array(usable),
    }


def _png(image: np.ndarray) -> bytes:
    """Returns pixels in [0, 1] as a PNG file."""
    pixels = np.rint(np.nan_to_num(np.clip(image, 0, 1)) * 255).astype(np.uint8)
    stream = io.BytesIO()
    squeezed = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    pil.fromarray(squeezed).save(stream, format="png")
    return stream.getvalue()


def _write_sheet(path: Path, number: int, shelf: Sequence[_Projected]) -> None:
    images = [
        reporting.ProjectedImage(
            name=found.line.name,
            original=as_float(_known(found.image.pixels)),
            projection=found.projection,
            error=float(found.line.error or 0.0),
            rejected=bool(found.line.rejected),
        )
        for found in shelf
    ]
    figure = reporting.side_by_side(images, columns=_COLUMNS)
    file = path / SHEETS / f"sheet-{number + 1:03d}.png"
    write_atomically(file, reporting.to_png(figure))


def _known(pixels: np.ndarray | None) -> np.ndarray:
    assert pixels is not None
    return pixels
