"""The images of a run, read once, and what each stage takes of them."""

import dataclasses
import functools
import hashlib
from collections.abc import Set
from typing import Any

import jax
import numpy as np

from robust_manifold import data
from robust_manifold.config import Experiment
from robust_manifold.core import batching
from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import GracefulStop, Interrupted


@dataclasses.dataclass(frozen=True)
class RunData:
    """The images of a run.

    Attributes:
      experiment: says which.
      stop: tells the reading to end.
    """

    experiment: Experiment
    stop: GracefulStop

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        """The images, loaded once."""
        block = self.experiment.data
        return data.load(
            block.source,
            data_dir=block.data_dir or None,
            validation_examples=block.validation_examples,
            test_examples=block.test_examples,
            label=block.label or None,
            target=block.target,
            class_names=block.class_names,
            crop=block.crop,
            image_size=block.image_size or None,
            cache_dir=block.cache_dir,
            seed=block.split_seed,
            on_progress=self._stop_while_decoding,
        )

    def _stop_while_decoding(self, done: int, total: int) -> None:
        # Of this process alone: others may find the images decoded.
        if self.stop.signal is not None and done < total:
            raise Interrupted(f"stopped after {done} of {total} images were decoded")

    @functools.cached_property
    def test(self) -> data.Split:
        """The test images that are attacked and counted."""
        split = self.dataset.test
        count = self.experiment.evaluation.examples or split.size
        return split.take(slice(count))

    @functools.cached_property
    def measured(self) -> data.Split:
        """The test images that the generator is measured by."""
        split = self.dataset.test
        return split.take(slice(self.experiment.measures.examples or split.size))

    @functools.cached_property
    def diagnosed(self) -> data.Split:
        """The test images that solvers are compared on."""
        split = self.dataset.test
        return split.take(slice(self.experiment.diagnostics.examples or split.size))

    @property
    def batch_size(self) -> int:
        """Test images computed at a time: one shape for all rounds of a run."""
        block = self.experiment.evaluation
        round_size = min(block.round_size, self.test.size)
        largest = batching.DEFAULT_BATCH_SIZE * jax.device_count()
        return block.batch_size or min(round_size, largest)

    @functools.cached_property
    def validated(self) -> data.Split:
        """The validation images that every defence projects."""
        count = self.experiment.evaluation.validation_examples
        return self.dataset.validation.take(slice(count))

    @functools.cached_property
    def given(self) -> tuple[data.Attacked, ...]:
        """The attacked images that files give."""
        shape, classes = self.dataset.image_shape, len(self.dataset.class_names)
        try:
            return tuple(
                spec.read(shape, classes) for spec in self.experiment.evaluation.given
            )
        except UsageError as error:
            raise UsageError(f"config.evaluation.given: {error}") from None

    @functools.cached_property
    def digests(self) -> dict[str, dict[str, Any]]:
        """Size and checksum of each split."""
        return {
            name: {"examples": split.size, "sha256": _digest(split)}
            for name, split in self.dataset._asdict().items()
            if isinstance(split, data.Split)
        }

    def check(self, stages: Set[str]) -> None:
        """Refuses stages that ask for more images than there are.

        Raises:
          UsageError: for the first of them.
        """
        split = self.dataset.test
        if split.size == 0:
            raise UsageError(
                f"{self.experiment.data.source!r} has no test images of its own; set "
                "config.data.test_examples to take some from its training images."
            )
        for name, users in {
            "evaluation": {"attack", "evaluate", "audit"},
            "measures": {"measure"},
            "diagnostics": {"diagnose"},
        }.items():
            count = getattr(self.experiment, name).examples
            if users & stages and count > split.size:
                raise UsageError(
                    f"config.{name}.examples is {count}; allowed: at most the "
                    f"{split.size} test images."
                )
        neighbours = self.experiment.measures.neighbours
        if "measure" in stages and neighbours >= split.size:
            raise UsageError(
                f"config.measures.neighbours is {neighbours}; allowed: less than the "
                f"{split.size} test images."
            )


def _digest(split: data.Split) -> str:
    digest = hashlib.sha256()
    for array in split:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
