"""Checkpoints of training states and of parameters: the only module that knows orbax.

Every checkpoint is a folder that orbax writes and a `manifest.json` that is put
into it last: the shapes of its leaves and the SHA-256 of its files.  A folder
without one was cut short and counts as not written; a file that differs from it is
damage, and is named.
"""

import contextlib
import hashlib
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params
from robust_manifold.runtime import devices, json_text, storage
from robust_manifold.runtime.artefacts import (
    DamagedArtefact,
    check_tree,
    hash_tree,
    sync,
    write_atomically,
)

_MANIFEST = "manifest.json"


class Restored(NamedTuple):
    """A training state and the step after which it was saved."""

    step: int
    state: Any


class Saved(NamedTuple):
    """What is known of a checkpoint without reading its arrays."""

    step: int
    metrics: dict[str, float]


class StoredParams(NamedTuple):
    """What is known of stored parameters without reading them."""

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


class Checkpoints:
    """The checkpoints of one training: the last ones, and the best one.

    A state is any tree of arrays (NamedTuples, dicts, tuples, lists), except typed
    random keys and arrays of size 0.  In a job of several processes every process
    calls every method; the first one writes.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep: int = 2,
        best: str | None = None,
        mode: Literal["max", "min"] = "max",
    ):
        """Opens the folder, and removes from it what was cut short.

        Args:
          folder: holds `last/STEP` and `best/STEP`; it is made on the first save.
          keep: how many of the last checkpoints to keep.
          best: the metric whose best checkpoint is kept as well; none by default.
          mode: whether the best value is the largest or the smallest one.
        """
        if keep < 1:
            raise UsageError(f"keep is {keep}; allowed: 1 or more.")
        self._keep = keep
        self._metric = best
        self._sign = 1 if mode == "max" else -1
        self._last = _Store(Path(folder) / "last")
        self._best = _Store(Path(folder) / "best")
        if devices.is_primary():
            self._last.sweep()
            self._best.sweep()
        devices.barrier("checkpoints opened")

    @property
    def last(self) -> Saved | None:
        """The newest checkpoint; None if there is none."""
        return self._last.newest()

    @property
    def best(self) -> Saved | None:
        """The best checkpoint; None if there is none."""
        return self._best.newest()

    def save(
        self, step: int, state: Any, metrics: Mapping[str, Any] | None = None
    ) -> None:
        """Writes a checkpoint, whole or not at all, and drops the oldest ones.

        Saving a step again replaces it.

        Args:
          step: the number of training steps that the state has seen.
          state: a tree of arrays.
          metrics: scalars kept with it; the best checkpoint is replaced if the metric
            named in the constructor is strictly better (a NaN never is).
        """
        values = {name: float(value) for name, value in (metrics or {}).items()}
        arrays = jax.tree.map(_to_host, state)
        if devices.is_primary():
            # The best one first: a run killed in between saves this step again.
            if self._metric is not None and self._is_best(values):
                self._best.save(step, arrays, keep=1, metrics=values)
            best = max(self._best.steps(), default=None)
            self._last.save(step, arrays, keep=self._keep, metrics=values, best=best)
        devices.barrier("checkpoint saved")

    def restore(self, like: Any) -> Restored | None:
        """Returns the newest checkpoint; None if there is none.

        Args:
          like: a tree of arrays or `jax.ShapeDtypeStruct` of the expected shapes.
            Leaves that are placed on certain devices give the result's placement;
            the others can be used on any device.

        A checkpoint whose best one the user has deleted counts as none: to go on from
        it would keep other parameters than the whole training does.

        Raises:
          DamagedArtefact: if a file of it is not what was written.
          UsageError: if it holds other leaves or shapes than `like`.
        """
        return None if self._best_is_gone() else self._last.restore(like)

    def restore_best(self, like: Any) -> Restored | None:
        """Returns the best checkpoint; see `restore`."""
        return self._best.restore(like)

    def _best_is_gone(self) -> bool:
        steps = self._last.steps()
        if self._metric is None or not steps:
            return False
        told = self._last.manifest(steps[-1])
        if "best" not in told:
            # Of an older version.
            value = told.get("metrics", {}).get(self._metric, math.nan)
            return self.best is None and not math.isnan(value)
        return told["best"] is not None and self.best is None

    def _is_best(self, metrics: Mapping[str, float]) -> bool:
        assert self._metric is not None
        if self._metric not in metrics:
            return False
        value, best = metrics[self._metric], self.best
        if best is None:
            return not math.isnan(value)
        return self._sign * value > self._sign * best.metrics[self._metric]


def save_params(
    folder: str | os.PathLike[str], params: Params, metadata: Mapping[str, Any]
) -> None:
    """Writes parameters for use by other runs, whole or not at all.

    Args:
      folder: replaces what it held.
      params: nested dicts of arrays, so that no template is needed to read them.
      metadata: small plain values, such as the model's text and the image shape.

    Raises:
      TypeError: if `params` is not made of dicts and arrays.
    """
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        if not all(isinstance(part, jax.tree_util.DictKey) for part in path):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} is not in nested dicts."
            )
    arrays = jax.tree.map(_to_host, params)
    if devices.is_primary():
        store = _Store(Path(folder))
        store.sweep()
        # A new number each time keeps the old parameters until the new ones are whole.
        step = max(store.steps(), default=-1) + 1
        store.save(step, arrays, keep=1, metadata=dict(metadata))
    devices.barrier("parameters saved")


def load_params(folder: str | os.PathLike[str]) -> Params:
    """Returns the parameters that `save_params` wrote, usable on any device.

    Raises:
      UsageError: if the folder holds no parameters.
      DamagedArtefact: if a file is not what was written.
    """
    store = _Store(Path(folder))
    return jax.tree.map(jnp.array, store.load(store.needed_step()))


def read_params_metadata(folder: str | os.PathLike[str]) -> StoredParams:
    """Returns the metadata and the leaves' shapes, without reading the parameters.

    Metadata has passed through JSON: tuples come back as lists.

    Raises:
      UsageError: if the folder holds no parameters.
      DamagedArtefact: if the manifest is not what was written.
    """
    store = _Store(Path(folder))
    manifest = store.manifest(store.needed_step())
    shapes = {name: tuple(leaf[0]) for name, leaf in manifest["leaves"].items()}
    return StoredParams(manifest.get("metadata", {}), shapes)


class _Store:
    """Checkpoints numbered by step in one folder; trees of NumPy arrays."""

    def __init__(self, folder: Path):
        self.folder = folder.absolute()

    def steps(self) -> list[int]:
        """Returns the steps that are whole, in order."""
        # Not by `glob`, which takes a folder that cannot be read for an empty one.
        names = (path.name for path in _inside(self.folder))
        return sorted(
            int(name)
            for name in names
            if name.isdecimal() and (self.folder / name / _MANIFEST).exists()
        )

    def needed_step(self) -> int:
        steps = self.steps()
        if not steps:
            raise UsageError(f"{self.folder} holds no parameters.")
        return steps[-1]

    def newest(self) -> Saved | None:
        steps = self.steps()
        if not steps:
            return None
        return Saved(steps[-1], self.manifest(steps[-1]).get("metrics", {}))

    def sweep(self) -> None:
        """Removes the folders that a killed process left without a manifest."""
        whole = {str(step) for step in self.steps()}
        for path in _inside(self.folder):
            ours = path.name.isdecimal() or "orbax-checkpoint-tmp" in path.name
            if ours and path.name not in whole and path.is_dir():
                shutil.rmtree(path)

    def save(self, step: int, arrays: Any, *, keep: int, **extra: Any) -> None:
        self._remove(step)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with self._manager() as manager:
                manager.save(step, args=ocp.args.StandardSave(arrays), force=True)
            folder = self.folder / str(step)
            for path in (*folder.rglob("*"), folder, self.folder):
                sync(path)
            content = {
                **extra,
                "leaves": _leaves(arrays),
                "files": hash_tree(folder),
            }
            manifest = {"content": content, "sha256": _digest(content)}
            text = json_text.dumps(manifest, indent=1) + "\n"
            write_atomically(folder / _MANIFEST, text.encode())
        except OSError:
            # On a full disk what it takes is room that the run's status needs.
            with contextlib.suppress(OSError):
                self.sweep()
            raise
        # Later steps are of a past that a return to an earlier step has undone.
        steps = self.steps()
        place = steps.index(step)
        for other in steps[: max(0, place + 1 - keep)] + steps[place + 1 :]:
            self._remove(other)

    def manifest(self, step: int) -> dict[str, Any]:
        path = self.folder / str(step) / _MANIFEST
        try:
            manifest = json_text.loads(path.read_bytes())
            content = manifest["content"]
            if manifest["sha256"] == _digest(content):
                return content
        except (FileNotFoundError, IsADirectoryError, ValueError, KeyError, TypeError):
            pass
        raise DamagedArtefact(
            f"{path} is damaged (not the manifest that was written): "
            f"{self._remedy(step)}."
        )

    def restore(self, like: Any) -> Restored | None:
        steps = self.steps()
        if not steps:
            return None
        arrays = self.load(steps[-1], like)
        return Restored(steps[-1], jax.tree.map(_place, arrays, like))

    def load(self, step: int, like: Any = None) -> Any:
        """Returns a tree of NumPy arrays: of the structure of `like`, or of dicts."""
        folder = self.folder / str(step)
        manifest = self.manifest(step)
        if like is not None:
            like = jax.tree.map(_shape, like)
            _check_leaves(folder, manifest["leaves"], _leaves(like))
            like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        check_tree(folder, manifest["files"], self._remedy(step))
        with self._manager() as manager:
            return manager.restore(step, args=ocp.args.StandardRestore(like))

    def _remedy(self, step: int) -> str:
        older = [old for old in self.steps() if old < step]
        again = f"go on from step {older[-1]}" if older else "compute it anew"
        return f"delete {self.folder / str(step)} and run again to {again}"

    def _remove(self, step: int) -> None:
        folder = self.folder / str(step)
        # Without its manifest first, a half-removed checkpoint would pass for damage.
        (folder / _MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _manager(self) -> Iterator[ocp.CheckpointManager]:
        """Yields a manager that raises errors of the file system as `OSError`s."""
        try:
            with _silently(), self._new_manager() as manager:
                yield manager
        except Exception as error:
            found = storage.inside(error, self.folder)
            if found is None or found is error:
                raise
            raise found from error

    def _new_manager(self) -> ocp.CheckpointManager:
        # Each process works alone, on arrays of the host: the barriers are ours.
        this = jax.process_index()
        processes = ocp.options.MultiprocessingOptions(
            primary_host=this, active_processes={this}
        )
        options = ocp.CheckpointManagerOptions(
            create=False,
            enable_async_checkpointing=False,
            save_root_metadata=False,
            multiprocessing_options=processes,
        )
        return ocp.CheckpointManager(self.folder, options=options)


def _inside(folder: Path) -> list[Path]:
    """Returns what a folder holds; nothing where there is no folder."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _drop(record: logging.LogRecord) -> bool:
    return False


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """Keeps orbax from printing tracebacks of an error that it also raises.

    It logs the error itself.  And at the first one it closes the loop that all writes
    report to, so that those still under way complain from threads of tensorstore, even
    when it has long given up: these are kept quiet from then on.
    """
    previous = sys.unraisablehook

    def tell(found: Any) -> None:
        if str(found.exc_value) != "Event loop is closed":
            previous(found)

    sys.unraisablehook = tell
    logging.getLogger("absl").addFilter(_drop)
    try:
        yield
        sys.unraisablehook = previous
    finally:
        logging.getLogger("absl").removeFilter(_drop)


def _to_host(leaf: Any) -> np.ndarray:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return np.asarray(leaf)
    if leaf.is_fully_replicated:
        return np.asarray(leaf.addressable_data(0))
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    if not hasattr(leaf, "dtype"):
        leaf = np.asarray(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _place(array: np.ndarray, like: Any) -> jax.Array:
    if isinstance(like, jax.Array) and like.committed:
        return jax.make_array_from_callback(
            array.shape, like.sharding, lambda index: array[index]
        )
    # A copy, since a donated buffer must not be orbax's.
    return jnp.array(array)


def _leaves(tree: Any) -> dict[str, list[Any]]:
    """Returns [shape, type] of every leaf, by its path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [
            list(leaf.shape),
            np.dtype(leaf.dtype).name,
        ]
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _check_leaves(
    folder: Path, stored: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    for name in [*expected, *(name for name in stored if name not in expected)]:
        if stored.get(name) != expected.get(name):
            raise UsageError(
                f"{folder} does not fit the model: {name} is "
                f"{_leaf_text(stored.get(name))} there, and "
                f"{_leaf_text(expected.get(name))} by the config; give the config it "
                "was saved with, or choose another folder."
            )


def _leaf_text(leaf: Any) -> str:
    return f"{leaf[1]} of shape {tuple(leaf[0])}" if leaf else "absent"


def _digest(content: Any) -> str:
    return hashlib.sha256(json_text.dumps(content).encode()).hexdigest()
