"""The folder of one run: its config, its status, its lock and its artefacts."""

import contextlib
import datetime
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import devices, json_text, provenance, storage
from robust_manifold.runtime.artefacts import (
    PARTIAL,
    Artefacts,
    DamagedArtefact,
    remove_partial_files,
    write_atomically,
)
from robust_manifold.runtime.lock import FolderLock

STATES = ("running", "finished", "failed", "diverged", "interrupted")

CONFIG, STATUS = "config.json", "status.json"

_SEAL = "sha256"
"""The entry of a status that holds the checksum of all others.

A status is written often, and must never be without its checksum, nor this without the
status: both are in one file.
"""
_CHECKPOINTS = "checkpoints/"
"""What lies here has a manifest with checksums of its own."""
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
        self._here = provenance.here(command)
        if lock is not None:
            # A folder that is no run folder yet may hold anything: it is left alone.
            if (path / CONFIG).exists():
                remove_partial_files(path)
            started = self._started()
            self._check_config(started, free, defaults or {})
            self._status = self._continued(started)
            self.set_status("running")

    def _started(self) -> bool:
        """Returns whether anything has been computed here."""
        stored = {*self._sums["files"], *self._sums["trees"]} - {CONFIG}
        return bool(stored) or (self.path / _CHECKPOINTS).exists()

    def _continued(self, started: bool) -> dict[str, Any]:
        """Returns the status that this process goes on from."""
        stored = {}
        if (self.path / STATUS).exists():
            stored = read_status(self.path)
        elif started:
            # What is stored was computed somewhere, and nothing tells where.
            stored = {"origin_lost": True}
        kept = ("origin_lost", "stage_seconds", "finished_stages")
        return {
            "started": stored.get("started", _now()),
            "finished_stages": {},
            "stage_seconds": {},
            **{name: stored[name] for name in kept if name in stored},
            "ran": provenance.parts_of(stored),
        }

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
          command: the command line, which is stored with the stages it runs.
          primary: whether this is the first process of the job; the others take no
            lock and write nothing.
          free: dotted keys that may differ from the stored ones, because no stored
            result depends on them.
          defaults: a config of defaults: what a stored config lacks, because it was
            written before there was such a key, counts as these.

        Raises:
          UsageError: if the folder cannot be made or written, is in use, or holds
            a run of another config.
          DamagedArtefact: if one of the folder's own files is not what was written.
        """
        path = Path(path)
        folder = error = None
        try:
            folder = cls._open(path, config, command, primary, free, defaults)
        except UsageError as mistake:
            error = mistake
        except OSError as mistake:
            error = storage.refused(mistake, path)
        # What one process refuses, all refuse: none may wait for it in vain.
        refused = devices.any_process(error is not None)
        if not refused and (blind := _not_seeing(path)):
            refused = True
            error = UsageError(
                f"workdir is {str(path)!r}, where {blind} of the job cannot see what "
                "process 0 writes; allowed: a folder that all processes share."
            )
        if refused or folder is None:
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

    def write_bytes(self, relative: str, data: bytes) -> Path:
        """Writes one artefact; see `Artefacts.write_bytes`.

        Raises:
          UsageError: if the folder is not there any more.
        """
        self.check_in_place()
        return super().write_bytes(relative, data)

    def _store(self) -> None:
        # Of a log, too, which is entered without having been written here.
        self.check_in_place()
        super()._store()

    def check_in_place(self) -> None:
        """Raises a `UsageError` if the folder was removed, moved or replaced.

        What is written after that would make another folder, or get into another run.
        """
        if self._lock is not None and not self._lock.in_place():
            raise UsageError(
                f"workdir {str(self.path)!r}, or the file lock in it, was removed, "
                "moved or replaced while the run was under way: move the folder back, "
                "or give its new place as --workdir, and the same command goes on from "
                "what is there."
            )

    def set_status(self, state: str, **fields: Any) -> None:
        """Writes status.json.

        Args:
          state: one of `STATES`.
          **fields: kept beside it until they are set anew, such as `stage`.

        Raises:
          UsageError: if the folder is not there any more.
        """
        if state not in STATES:
            raise ValueError(f"state is {state!r}; allowed: {', '.join(STATES)}.")
        if self.primary:
            self.check_in_place()
            self._status |= {"state": state, "updated": _now(), **fields}
            text = json_text.dumps(sealed(self._status), indent=2) + "\n"
            write_atomically(self.path / STATUS, text.encode())

    def stage_done(self, name: str) -> bool:
        """Returns whether a stage has finished and its outputs are still there.

        An output that is not entered among the checksums counts as not written.
        """
        outputs = self._status.get("finished_stages", {}).get(name)
        return devices.agreed(
            outputs is not None and all(stands(self, output) for output in outputs)
        )

    def adopt(
        self,
        stages_of: Callable[[Mapping[str, list[str]]], Mapping[str, list[str]]],
    ) -> None:
        """Records stages as finished that an older version ran as part of another.

        Args:
          stages_of: from the outputs of the finished stages, by name, to the same
            with those apart that were part of others.
        """
        if self.primary:
            finished = self._status["finished_stages"]
            self._status["finished_stages"] = dict(stages_of(finished))

    def begin_stage(
        self, name: str, *, anew: bool = False, followers: Iterable[str] = ()
    ) -> None:
        """Records that a stage is run here and now, by this process.

        Args:
          name: of the stage.
          anew: whether nothing of what was stored before is used.
          followers: stages made from its outputs, which count as finished no more.
        """
        if self.primary:
            lost = [provenance.UNKNOWN] if "origin_lost" in self._status else []
            before = [] if anew else self._status["ran"].get(name, lost)
            self._status["ran"][name] = provenance.joined(before, self._here)
            # A process killed halfway must not leave it finished.
            for each in (name, *followers):
                self._status["finished_stages"].pop(each, None)
            self.set_status("running", stage=name)

    def add_seconds(self, name: str, seconds: float) -> None:
        """Counts time that the begun stage took; the next status has it."""
        if self.primary:
            *before, part = self._status["ran"][name]
            part = {**part, "seconds": round(part["seconds"] + seconds, 1)}
            self._status["ran"][name] = parts = [*before, part]
            # The time of a stage that was stopped and resumed is the sum of its parts.
            total = round(sum(each["seconds"] for each in parts), 1)
            self._status["stage_seconds"][name] = total

    def finish_stage(self, name: str, outputs: Iterable[str] = ()) -> None:
        """Records that a stage has finished.

        Args:
          name: of the stage.
          outputs: files, relative to the run folder, without which the stage has to
            run again.
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
            if error is None or isinstance(error, Exception):
                # Whatever else went wrong then, this was the cause.
                self.check_in_place()
            if error is None:
                self._end("finished")
            else:
                stopped = isinstance(error, KeyboardInterrupt)
                state = "interrupted" if stopped else getattr(error, "state", None)
                with contextlib.suppress(OSError):
                    self._end(state if state in STATES else "failed", error)
        except OSError as refused:
            with contextlib.suppress(OSError):
                self._end("failed", refused)
            raise
        finally:
            self.close()

    def _end(self, state: str, error: BaseException | None = None) -> None:
        """Writes the last status of this process."""
        self._status.pop("error", None)
        if isinstance(error, OSError):
            error = storage.refused(error, self.path)
        told = {"error": f"{type(error).__name__}: {error}"} if error else {}
        self.set_status(state, **told)

    def _check_config(
        self, started: bool, free: Sequence[str], defaults: Mapping[str, Any]
    ) -> None:
        """Stores the config at first; afterwards compares it with the stored one."""
        file, data = self.path / CONFIG, _text(self.config).encode()
        entered = self.entered(CONFIG)
        if not file.exists():
            known = entered == hashlib.sha256(data).hexdigest()
            if started and not known:
                raise DamagedArtefact(
                    f"{file} is missing although {self.path} holds results: "
                    f"{_config_remedy(entered, missing=True)}."
                )
            self.write_bytes(CONFIG, data)
            return
        stored = read_config(self.path)
        changed = config_differences(self.config, _completed(stored, defaults))
        differences = [d for d in changed if d.partition(" ")[0] not in free]
        if differences and started:
            named = "; ".join(differences[:_NAMED_DIFFERENCES])
            more = len(differences) - _NAMED_DIFFERENCES
            named += f"; and {more} more" if more > 0 else ""
            raise UsageError(
                f"{self.path} holds a run of another config ({named}): choose another "
                "--workdir, or give the stored values."
            )
        # What was computed does not depend on what differs, if anything does.
        if changed or entered is None:
            self.write_bytes(CONFIG, data if changed else file.read_bytes())


def stands(folder: Artefacts, output: str) -> bool:
    """Returns whether an output of a stage was written whole and is still there."""
    if output.startswith(_CHECKPOINTS):
        return (folder.path / output).exists()
    return folder.holds(output)


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the config of a run, checked.

    Raises:
      UsageError: if there is none.
      DamagedArtefact: if it is not what was written.
    """
    stored = Artefacts(folder)
    entered = stored.entered(CONFIG)
    return _read_object(stored.path / CONFIG, _config_remedy(entered), entered)


def read_status(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the status of a run, checked, without its own checksum.

    Raises:
      UsageError: if there is none.
      DamagedArtefact: if it is not what was written.
    """
    file = Path(folder) / STATUS
    status = _read_object(file, _STATUS_REMEDY)
    seal = status.pop(_SEAL, None)
    # Those of older versions have no seal, and do not tell where each stage ran.
    if seal != (_digest(status) if "ran" in status else None):
        raise DamagedArtefact(
            f"{file} is damaged (not the status that was written): {_STATUS_REMEDY}."
        )
    for name, fits in _KINDS.items():
        if name in status and not fits(status[name]):
            raise DamagedArtefact(f"{file} is damaged ({name}): {_STATUS_REMEDY}.")
    return status


_SEEN_SECONDS = 10.0
"""For a file to show on other machines: shared file systems have caches."""


def _not_seeing(path: Path) -> str | None:
    """Returns which processes of a job have another folder than the first; or None."""
    if devices.alone():
        return None
    # A name that no older run has left behind.
    number = int(devices.gathered([time.time_ns() % 2**23])[0, 0])
    token = path / f".seen-{number}{PARTIAL}"
    if devices.is_primary():
        token.touch()
    devices.barrier("token written")
    end = time.monotonic() + _SEEN_SECONDS
    while not (seen := token.exists()) and time.monotonic() < end:
        time.sleep(0.1)
    all_seen = devices.gathered([seen])[:, 0]
    if devices.is_primary():
        token.unlink()
    blind = [f"process {n}" for n, seen in enumerate(all_seen) if not seen]
    return ", ".join(blind) or None


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "finished_stages": lambda v: _is_object(v) and all(map(_are_texts, v.values())),
    "stage_seconds": lambda v: (
        _is_object(v) and all(isinstance(each, int | float) for each in v.values())
    ),
    "command": _are_texts,
    "versions": _is_object,
    "devices": _is_object,
}
"""What the entries of a status are; those of older versions have no checksum."""


def sealed(status: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a status with its own checksum, as `read_status` expects it."""
    return {**status, _SEAL: _digest(status)}


def config_differences(
    given: Mapping[str, Any], stored: Mapping[str, Any]
) -> list[str]:
    """Returns one phrase for each key on which two configs differ.

    >>> config_differences({"fit": {"epochs": 5}}, {"fit": {"epochs": 3}})
    ['fit.epochs is 5, stored 3']
    """
    new, old = flat(given), flat(stored)
    phrases = []
    for key in sorted(new.keys() | old.keys()):
        if new.get(key) != old.get(key):
            phrases.append(f"{key} is {new.get(key, 'absent')}, ")
            phrases[-1] += f"stored {old.get(key, 'absent')}"
    return phrases


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns the config's values as JSON texts, by dotted key."""
    texts = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            texts |= flat(value, f"{prefix}{key}.")
        else:
            texts[f"{prefix}{key}"] = json_text.dumps(value)
    return texts


def _completed(
    stored: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a stored config with the defaults of the keys that it lacks."""
    known = dict(defaults) | dict(stored)
    for key, value in defaults.items():
        if isinstance(value, Mapping) and isinstance(stored.get(key), Mapping):
            known[key] = _completed(stored[key], value)
    return known


_STATUS_REMEDY = (
    "delete it and run again; what is stored is kept, but not where it was computed"
)


def _config_remedy(entered: str | None, *, missing: bool = False) -> str:
    restored = "give the command that it was made with, or "
    restored = "delete it and " * (not missing) + restored
    return f"put it back, or {restored * bool(entered)}choose another --workdir"


def _read_object(file: Path, remedy: str, entered: str | None = None) -> dict[str, Any]:
    """Returns the JSON object in a file, which has to have the checksum `entered`."""
    if not file.exists():
        raise UsageError(f"{file} cannot be read: there is no such file.")
    data = file.read_bytes()
    reason = "not a JSON object"
    try:
        value = json_text.loads(data)
    except ValueError as error:
        value, reason = None, " ".join(str(error).split())
    if entered is not None and hashlib.sha256(data).hexdigest() != entered:
        value, reason = None, "not what was written"
    if not isinstance(value, dict):
        raise DamagedArtefact(f"{file} is damaged ({reason}): {remedy}.")
    return value


def _digest(status: Mapping[str, Any]) -> str:
    return hashlib.sha256(json_text.dumps(status).encode()).hexdigest()


def _text(value: Mapping[str, Any]) -> str:
    return json_text.dumps(value, indent=2) + "\n"


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
