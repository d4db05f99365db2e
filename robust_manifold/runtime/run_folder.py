"""The folder of one run: its config, its status, its lock and its artefacts."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import devices, json_text
from robust_manifold.runtime.artefacts import (
    Artefacts,
    DamagedArtefact,
    remove_partial_files,
    write_atomically,
)
from robust_manifold.runtime.lock import FolderLock

STATES = ("running", "finished", "failed", "diverged", "interrupted")

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "robust_manifold")
_NAMED_DIFFERENCES = 5


class RunFolder(Artefacts):
    """One run's folder, held by one process (or one job) at a time.

    As a context manager it ends the run's status: "finished", or, after an
    exception, the exception's attribute `state` ("interrupted", "diverged"), or
    "failed" with its message.
    """

    def __init__(
        self,
        path: Path,
        config: Mapping[str, Any],
        command: Sequence[str],
        lock: FolderLock | None,
        free: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ):
        """Use `open`, which takes the lock."""
        super().__init__(path, primary=lock is not None)
        self.config = dict(config)
        self._lock = lock
        self._status: dict[str, Any] = {}
        if lock is not None:
            # A folder that is no run folder yet may hold anything: it is left alone.
            if (path / "config.json").exists():
                remove_partial_files(path)
            started = any(self._sums.values()) or (path / "checkpoints").exists()
            _check_config(path, self.config, started, free, defaults or {})
            stored = _stored_status(path)
            self._status = {
                "started": stored.get("started", _now()),
                "finished_stages": stored.get("finished_stages", {}),
                "stage_seconds": stored.get("stage_seconds", {}),
                "command": list(command),
                "versions": _versions(),
                "devices": devices.describe(),
            }
            self.set_status("running")

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        *,
        command: Sequence[str],
        primary: bool = True,
        free: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> "RunFolder":
        """Returns the folder, made or resumed, and locked.

        Args:
          path: the folder; it is made if it does not exist.
          config: the run's whole config, as plain values; it must equal the one
            that the folder was first opened with.
          command: the command line, for the status file.
          primary: whether this is the first process of the job; the others take no
            lock and write nothing.
          free: dotted keys that may differ from the stored ones, because no stored
            result depends on them.
          defaults: a config of defaults: what a stored config lacks, because it was
            written before there was such a key, counts as these.

        Raises:
          UsageError: if the folder cannot be made or written, is in use, or holds
            a run of another config.
          DamagedArtefact: if one of the folder's own files cannot be read.
        """
        path = Path(path)
        folder = error = None
        try:
            folder = cls._open(path, config, command, primary, free, defaults)
        except UsageError as mistake:
            error = mistake
        # What one process refuses, all refuse: none may wait for it in vain.
        if devices.any_process(error is not None) or folder is None:
            if folder is not None:
                folder.close()
            raise error or UsageError(
                f"workdir {str(path)!r} was refused by the first process of the job, "
                "which says why."
            )
        return folder

    @classmethod
    def _open(
        cls,
        path: Path,
        config: Mapping[str, Any],
        command: Sequence[str],
        primary: bool,
        free: Sequence[str],
        defaults: Mapping[str, Any] | None,
    ) -> "RunFolder":
        if not primary:
            return cls(path, config, command, None)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(path)
        except OSError as error:
            raise UsageError(
                f"workdir is {str(path)!r}, which cannot be used ({error.strerror}); "
                "allowed: a folder that can be written."
            ) from None
        try:
            return cls(path, config, command, lock, free, defaults)
        except BaseException:
            lock.release()
            raise

    @property
    def status(self) -> dict[str, Any]:
        """The contents of status.json."""
        return dict(self._status)

    def set_status(self, state: str, **fields: Any) -> None:
        """Writes status.json.

        Args:
          state: one of `STATES`.
          **fields: kept beside it until they are set anew, such as `stage`.
        """
        if state not in STATES:
            raise ValueError(f"state is {state!r}; allowed: {', '.join(STATES)}.")
        if self.primary:
            self._status |= {"state": state, "updated": _now(), **fields}
            text = json_text.dumps(self._status, indent=2) + "\n"
            write_atomically(self.path / "status.json", text.encode())

    def stage_done(self, name: str) -> bool:
        """Returns whether a stage has finished and its outputs are still there."""
        outputs = self._status.get("finished_stages", {}).get(name)
        return devices.agreed(
            outputs is not None and all((self.path / o).exists() for o in outputs)
        )

    def finish_stage(self, name: str, outputs: Iterable[str] = ()) -> None:
        """Records that a stage has finished.

        Args:
          name: of the stage.
          outputs: files or folders, relative to the run folder, without which the
            stage has to run again.
        """
        if self.primary:
            self._status["finished_stages"][name] = list(outputs)
            self.set_status("running")

    def close(self) -> None:
        """Releases the lock; the status stays as it is."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._status.pop("error", None)
                self.set_status("finished")
            else:
                stopped = isinstance(error, KeyboardInterrupt)
                state = "interrupted" if stopped else getattr(error, "state", None)
                self.set_status(
                    state if state in STATES else "failed",
                    error=f"{type(error).__name__}: {error}",
                )
        finally:
            self.close()


def config_differences(
    given: Mapping[str, Any], stored: Mapping[str, Any]
) -> list[str]:
    """Returns one phrase for each key on which two configs differ.

    >>> config_differences({"fit": {"epochs": 5}}, {"fit": {"epochs": 3}})
    ['fit.epochs is 5, stored 3']
    """
    new, old = _flat(given), _flat(stored)
    phrases = []
    for key in sorted(new.keys() | old.keys()):
        if new.get(key) != old.get(key):
            phrases.append(f"{key} is {new.get(key, 'absent')}, ")
            phrases[-1] += f"stored {old.get(key, 'absent')}"
    return phrases


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns the config's values as JSON texts, by dotted key."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json_text.dumps(value)
    return flat


def _check_config(
    path: Path,
    config: Mapping[str, Any],
    has_artefacts: bool,
    free: Sequence[str],
    defaults: Mapping[str, Any],
) -> None:
    """Stores the config at first; afterwards compares it with the stored one."""
    file = path / "config.json"
    if not file.exists():
        if has_artefacts:
            raise DamagedArtefact(
                f"{file} is missing although {path} holds results: put it back, or "
                "choose another --workdir."
            )
        write_atomically(file, (json_text.dumps(config, indent=2) + "\n").encode())
        return
    stored = _read_object(file, "put it back, or choose another --workdir")
    changed = config_differences(config, _completed(stored, defaults))
    differences = [d for d in changed if d.partition(" ")[0] not in free]
    if changed and not (differences and has_artefacts):
        # Nothing was computed with what differs: a mistake just corrected, perhaps.
        write_atomically(file, (json_text.dumps(config, indent=2) + "\n").encode())
    elif differences:
        named = "; ".join(differences[:_NAMED_DIFFERENCES])
        more = len(differences) - _NAMED_DIFFERENCES
        named += f"; and {more} more" if more > 0 else ""
        raise UsageError(
            f"{path} holds a run of another config ({named}): choose another "
            "--workdir, or give the stored values."
        )


def _completed(
    stored: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a stored config with the defaults of the keys that it lacks."""
    known = dict(defaults) | dict(stored)
    for key, value in defaults.items():
        if isinstance(value, Mapping) and isinstance(stored.get(key), Mapping):
            known[key] = _completed(stored[key], value)
    return known


def _stored_status(path: Path) -> dict[str, Any]:
    file = path / "status.json"
    if not file.exists():
        return {}
    status = _read_object(file, "delete it and run again; what is stored is kept")
    stages = status.get("finished_stages", {})
    if not isinstance(stages, dict) or not all(
        isinstance(outputs, list) and all(isinstance(o, str) for o in outputs)
        for outputs in stages.values()
    ):
        raise DamagedArtefact(f"{file} is damaged (finished_stages): delete it.")
    return status


def _read_object(file: Path, remedy: str) -> dict[str, Any]:
    try:
        value = json_text.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DamagedArtefact(f"{file} is damaged ({reason}): {remedy}.") from None
    if not isinstance(value, dict):
        raise DamagedArtefact(f"{file} is damaged (not a JSON object): {remedy}.")
    return value


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # The package itself may run from a checkout that is not installed.
            versions[package] = "not installed"
    return versions


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
