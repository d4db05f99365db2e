"""Batches by step: order and shuffling by grain, pixels gathered in one piece."""

import collections
import concurrent.futures
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import grain
import jax
import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8, UInt64

from robust_manifold.core.errors import UsageError
from robust_manifold.data.dataset import Labels, Split, to_float

Augment = Callable[[UInt8[np.ndarray, "n h w c"], UInt64[np.ndarray, " n"]], np.ndarray]
"""Changes uint8 images given one random 64-bit number for each of them."""


class Batch(NamedTuple):
    """The examples of one step that this process works on.

    Attributes:
      images: pixels in [0, 1], float32 [b, height, width, channels].
      labels: of the split.
      ids: int64 [b], the ids of the split.
      mask: bool [b]; False where the example only pads the batch.
    """

    images: Float32[np.ndarray, "b height width channels"]
    labels: Labels
    ids: Int64[np.ndarray, " b"]
    mask: Bool[np.ndarray, " b"]


class TrainingBatches:
    """The endless training batches of a split; made by `training_batches`.

    `batches[step]` is a pure function of the split, the seed and the step, so that a
    run that is resumed at a step sees the numbers of the uninterrupted run.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        rows: slice,
        augment: Augment | None,
    ):
        self._split = split
        self._batch_size = batch_size
        self._seed = seed
        self._rows = rows
        self._augment = augment
        self._order = (
            grain.MapDataset.range(split.size)
            .seed(seed)
            .shuffle()
            .batch(batch_size, drop_remainder=True)
            .repeat()
        )

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one pass over the split."""
        return self._split.size // self._batch_size

    def __getitem__(self, step: int) -> Batch:
        if step < 0:
            raise IndexError(f"step is {step}; allowed: 0 or more.")
        rows = np.asarray(self._order[step])[self._rows]
        images = self._split.images[rows]
        if self._augment is not None:
            numbers = np.random.PCG64((self._seed, step)).random_raw(self._batch_size)
            images = self._augment(images, numbers[self._rows])
        return Batch(
            to_float(images),
            self._split.labels[rows],
            self._split.ids[rows],
            np.ones(len(rows), np.bool_),
        )

    def __iter__(self) -> Iterator[Batch]:
        return self.from_step(0)

    def from_step(self, step: int, *, ahead: int = 2) -> Generator[Batch, None, None]:
        """Yields the batches from `step` on, without end.

        Args:
          step: the first step.
          ahead: batches that a background thread makes in advance.
        """
        with concurrent.futures.ThreadPoolExecutor(1, "batches") as pool:
            waiting: collections.deque[concurrent.futures.Future[Batch]]
            waiting = collections.deque()
            try:
                while True:
                    while len(waiting) <= ahead:
                        waiting.append(pool.submit(self.__getitem__, step))
                        step += 1
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)


class EvaluationBatches:
    """All examples of a split once, in order; made by `evaluation_batches`."""

    def __init__(self, split: Split, batch_size: int, rows: slice):
        self._split = split
        self._batch_size = batch_size
        self._rows = rows

    def __len__(self) -> int:
        return -(-self._split.size // self._batch_size)

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < len(self):
            raise IndexError(f"step is {step}; allowed: 0 to {len(self) - 1}.")
        positions = np.arange(self._batch_size)[self._rows] + step * self._batch_size
        # Padding repeats a real example, so that it brings in no NaN of its own.
        rows = np.minimum(positions, self._split.size - 1)
        part = self._split.take(rows)
        mask = positions < self._split.size
        return Batch(to_float(part.images), part.labels, part.ids, mask)

    def __iter__(self) -> Iterator[Batch]:
        return (self[step] for step in range(len(self)))


def training_batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    augment: Augment | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
) -> TrainingBatches:
    """Returns endless shuffled batches: `[step]`, or `from_step(step)`.

    Each epoch has an order of its own and drops its remainder.  The processes of a
    job share one order: their parts of a step, put together in the order of the
    processes, are the same global batch for any number of processes.

    Args:
      split: the examples.
      batch_size: examples in the global batch.
      seed: of the orders.
      augment: changes the uint8 images; its random numbers depend on the seed, the
        step and the place in the global batch alone.
      process_index: of this process; by default JAX's.
      process_count: of the job; by default JAX's.

    Raises:
      UsageError: if the batch is larger than the split, or not a multiple of the
        process count.
    """
    rows = _process_rows(batch_size, process_index, process_count)
    if batch_size > split.size:
        raise UsageError(
            f"batch_size is {batch_size}; allowed: 1 to {split.size}, the number of "
            "training examples."
        )
    if not 0 <= seed < 2**63:
        raise UsageError(f"seed is {seed}; allowed: 0 to 2**63 - 1.")
    return TrainingBatches(split, batch_size, seed, rows, augment)


def evaluation_batches(
    split: Split,
    *,
    batch_size: int,
    process_index: int | None = None,
    process_count: int | None = None,
) -> EvaluationBatches:
    """Returns the batches that hold each example of a split once, in its order.

    All batches have one shape: the last is padded, and its mask says where.  Every
    process of a job takes the same number of steps.

    Args:
      split: the examples; they may be fewer than one batch.
      batch_size: examples in the global batch.
      process_index: of this process; by default JAX's.
      process_count: of the job; by default JAX's.

    Raises:
      UsageError: if the split is empty, or the batch not a multiple of the process
        count.
    """
    rows = _process_rows(batch_size, process_index, process_count)
    if split.size == 0:
        raise UsageError("The split to evaluate has 0 examples; allowed: 1 or more.")
    return EvaluationBatches(split, batch_size, rows)


def flip_horizontally(
    images: UInt8[np.ndarray, "n h w c"], numbers: UInt64[np.ndarray, " n"]
) -> UInt8[np.ndarray, "n h w c"]:
    """Returns the images, each mirrored where its random number is odd."""
    odd = (numbers & np.uint64(1)).astype(np.bool_)
    return np.where(odd[:, None, None, None], images[:, :, ::-1], images)


def _process_rows(batch_size: int, index: int | None, count: int | None) -> slice:
    """Returns which rows of the global batch are this process's."""
    index = jax.process_index() if index is None else index
    count = jax.process_count() if count is None else count
    if batch_size < 1 or batch_size % count:
        raise UsageError(
            f"batch_size is {batch_size}; allowed: a multiple of {count}, the number "
            "of processes, from 1."
        )
    own = batch_size // count
    return slice(index * own, (index + 1) * own)
