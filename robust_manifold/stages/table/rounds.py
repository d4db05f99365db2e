"""Rounds: a long computation over images, stored piece by piece, resumable."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from robust_manifold import data
from robust_manifold.core import keeping
from robust_manifold.runtime import Interrupted, devices
from robust_manifold.stages.context import Context


def round_files(
    context: Context, folder: str, n: int | None = None
) -> Iterator[tuple[str, slice]]:
    """Yields each round's file, relative to the run folder, and its images.

    Args:
      context: the run.
      folder: of the rounds, relative to the run folder.
      n: images in all; by default those of `context.data.test`.
    """
    size, n = context.experiment.evaluation.round_size, n or context.data.test.size
    for number, start in enumerate(range(0, n, size)):
        yield f"{folder}/round-{number:03d}.npz", slice(start, min(start + size, n))


def round_paths(
    context: Context, folders: Iterable[str], n: int | None = None
) -> list[str]:
    """Returns the files of all rounds of some folders; see `round_files`."""
    return [file for folder in folders for file, _ in round_files(context, folder, n)]


def stored_images(
    context: Context, folders: Sequence[str], n: int | None = None
) -> int:
    """Returns of how many images the rounds of all these folders are stored.

    Args:
      context: the run.
      folders: of rounds that are computed together.
      n: as for `round_files`.
    """
    every = zip(*(round_files(context, f, n) for f in folders), strict=True)
    return sum(
        files[0][1].stop - files[0][1].start
        for files in every
        if all(context.folder.has(file) for file, _ in files)
    )


def compute_rounds(
    context: Context,
    folder: str,
    compute: Callable[[slice, data.Split], Mapping[str, np.ndarray]],
    on_done: Callable[[int, bool], None],
    split: data.Split | None = None,
) -> None:
    """Stores what `compute` returns for each round that is not stored yet.

    Args:
      context: the run.
      folder: of the rounds, relative to the run folder.
      compute: from a round's place among the images, and these, to arrays.
      on_done: called with the number of images of each round, and whether it was
        stored before.
      split: the images; by default `context.data.test`.
    """
    compute_rounds_together(
        context,
        [folder],
        lambda place, part: [compute(place, part)],
        on_done,
        split,
    )


def compute_rounds_together(
    context: Context,
    folders: Sequence[str],
    compute: Callable[[slice, data.Split], Sequence[Mapping[str, np.ndarray]]],
    on_done: Callable[[int, bool], None],
    split: data.Split | None = None,
) -> None:
    """Stores, round by round, what is computed for several folders at once.

    Args:
      context: the run.
      folders: of the rounds, relative to the run folder.
      compute: as for `compute_rounds`, but to the arrays of each folder; they are told
        equal shares of the time.  It is called where one of them is not stored yet.
      on_done: as for `compute_rounds`, told the images of one folder.
      split: the images; by default `context.data.test`.
    """
    split = split or context.data.test
    every = [round_files(context, folder, split.size) for folder in folders]
    for files in zip(*every, strict=True):
        place = files[0][1]
        part = split.take(place)
        missing = [not context.folder.has(file) for file, _ in files]
        if any(missing):
            start = time.perf_counter() + keeping.recalled_seconds()
            computed = compute(place, part)
            took = time.perf_counter() + keeping.recalled_seconds() - start
            seconds = np.asarray(took / len(folders))
            for (file, _), arrays, absent in zip(files, computed, missing, strict=True):
                if absent:
                    stored = {"ids": part.ids, **arrays, "seconds": seconds}
                    context.folder.write_npz(file, stored)
            keeping.forget()
        on_done(len(part.labels), not any(missing))
        if context.stop.requested:
            raise Interrupted(f"stopped after {files[-1][0]}")
    # What follows may read them in every process.
    devices.barrier("rounds stored")


def read_rounds(
    context: Context, folder: str, n: int | None = None
) -> dict[str, np.ndarray]:
    """Returns the arrays of all rounds of a folder, joined along the images.

    `seconds` is the sum over the rounds; arguments as for `round_files`.
    """
    files = [file for file, _ in round_files(context, folder, n)]
    rounds = [context.folder.read_npz(file) for file in files]
    seconds = sum(float(arrays.pop("seconds")) for arrays in rounds)
    joined = {name: np.concatenate([r[name] for r in rounds]) for name in rounds[0]}
    return joined | {"seconds": np.asarray(seconds)}
