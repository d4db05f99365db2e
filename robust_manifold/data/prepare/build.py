"""Hands encoded images to tensorflow-datasets' own builders, which then write them.

The builders' own readers encode arrays with TensorFlow.  Given PNG and JPEG files
as bytes they need none, and what they write is the official data set: its
features, splits, version and order.
"""

import http.client
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from robust_manifold.core.errors import UsageError
from robust_manifold.data.prepare import celeb_a, idx
from robust_manifold.data.sources.tfds import PREPARED_HERE

_ORDER = ("train", "validation", "test")

_PROBE_SECONDS = 10


class Prepared(NamedTuple):
    """What lies prepared.

    Attributes:
      folder: where.
      sizes: the number of images of each official split.
      before: whether it was there already.
    """

    folder: Path
    sizes: dict[str, int]
    before: bool


def prepare(
    name: str, data_dir: str | os.PathLike, manual_dir: str | os.PathLike | None = None
) -> Prepared:
    """Prepares a data set in the array_record format and returns where.

    The folder appears under its name when all is written; an interrupted
    preparation leaves nothing that is taken for it.  A data set that is already
    there is left as it is, and original files for it are refused.

    Args:
      name: one of `PREPARED_HERE`.
      data_dir: the folder of prepared data sets.
      manual_dir: the folder of the original files; by default they are downloaded
        (not for celeb_a).

    Raises:
      UsageError: if an original file is missing or damaged, the download host
        cannot be reached, the data set lies there in another format, or lies there
        while original files are given.
    """
    import tensorflow_datasets as tfds

    if name not in PREPARED_HERE:
        raise UsageError(
            f"The data set is {name!r}; allowed: {', '.join(PREPARED_HERE)}."
        )
    manual = None if manual_dir is None else Path(os.path.expanduser(manual_dir))
    if manual is not None and not manual.is_dir():
        raise UsageError(f"manual_dir is {str(manual)!r}, which is not a folder.")
    data_dir = Path(os.path.expanduser(data_dir))
    if data_dir.exists() and not data_dir.is_dir():
        raise UsageError(f"data_dir is {str(data_dir)!r}, which is not a folder.")

    array_record = tfds.core.FileFormat.ARRAY_RECORD
    builder: Any = tfds.builder(name, data_dir=data_dir)
    folder = Path(builder.data_dir)
    if folder.exists():
        if builder.info.file_format != array_record:
            raise UsageError(
                f"{folder} already holds the data set in another format or "
                "incomplete; delete that folder or choose another data_dir."
            )
        if manual is not None:
            raise UsageError(
                f"manual_dir is {str(manual)!r}, but {folder} already holds the data "
                f"set ({describe(_sizes(builder))}), of whatever files; delete that "
                "folder or choose another data_dir to prepare it from these, or leave "
                "manual_dir out to keep it."
            )
        return Prepared(folder, _sizes(builder), before=True)

    # The official class, so that the folder names it; only its reader is replaced.
    builder = tfds.builder(name, data_dir=data_dir, file_format=array_record)
    if name == "celeb_a":
        splits = _faces(builder, manual)
    else:
        splits = _digits(builder, manual)
    builder._split_generators = splits
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                compute_stats=tfds.download.ComputeStatsMode.SKIP,
                try_download_gcs=False,
            )
        )
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error}.") from error
    return Prepared(folder, _sizes(builder), before=False)


def describe(sizes: Mapping[str, int]) -> str:
    """Returns the sizes of splits as a text.

    >>> describe({"train": 60000, "test": 10000})
    '60,000 train, 10,000 test images'
    """
    return f"{', '.join(f'{n:,} {split}' for split, n in sizes.items())} images"


def _sizes(builder: Any) -> dict[str, int]:
    splits = builder.info.splits
    return {name: splits[name].num_examples for name in _ORDER if name in splits}


Splits = Callable[[Any], dict[str, Iterable[tuple[Any, dict[str, Any]]]]]
"""What takes the place of a builder's `_split_generators`."""


def _digits(builder: Any, manual: Path | None) -> Splits:
    """Returns the splits of MNIST or one of its kin."""
    if manual is None:
        _probe(builder.URL, builder.name)
        arrays = None
    else:
        arrays = {split: idx.read_split(*p) for split, p in idx.find(manual).items()}

    def splits(download_manager: Any) -> dict[str, Iterable[Any]]:
        read = arrays
        if read is None:
            urls = {
                split: [f"{builder.URL.rstrip('/')}/{name}.gz" for name in names]
                for split, names in idx.FILES.items()
            }
            try:
                paths = download_manager.download(urls)
            except Exception as error:  # whatever the downloader's libraries raise
                reason = str(error).partition("\n")[0].rstrip(".")
                raise UsageError(
                    f"{builder.name} cannot be downloaded ({reason}); fetch the four "
                    "idx files by other means and give their folder as --manual_dir."
                ) from error
            read = {s: idx.read_split(*map(Path, pair)) for s, pair in paths.items()}
        return {split: idx.examples(*pair) for split, pair in read.items()}

    return splits


def _faces(builder: Any, manual: Path | None) -> Splits:
    """Returns the splits of CelebA."""
    if manual is None:
        raise UsageError(
            "celeb_a is not downloaded here; give "
            "--manual_dir with img_align_celeba.zip, list_attr_celeba.txt and "
            "list_eval_partition.txt."
        )
    features = builder.info.features
    faces = celeb_a.Faces(
        manual, list(features["attributes"]), list(features["landmarks"])
    )
    present = set(faces.partition.values())

    def splits(download_manager: Any) -> dict[str, Iterable[Any]]:
        del download_manager  # everything lies in the given folder
        return {
            split: faces.examples(split)
            for split, number in celeb_a.SPLITS.items()
            if number in present
        }

    return splits


def _probe(url: str, name: str) -> None:
    """Raises a `UsageError` at once if the host of a download cannot be reached."""
    reached = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=_PROBE_SECONDS).close()
        except urllib.error.HTTPError:
            pass  # an answer, if only to say that folders are not listed
        except (OSError, ValueError, http.client.HTTPException):
            return
        reached.set()

    # Looking up a host's name obeys no timeout, so a thread is left behind with it.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    if not reached.is_set():
        raise UsageError(
            f"{name} cannot be downloaded, since {url} does not answer; fetch the "
            "four idx files by other means and give their folder as --manual_dir."
        )
