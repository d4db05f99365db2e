"""Finished runs as results are made from them, and the small records kept of them.

A record is a folder of a few kilobytes: a run's config, its status, and the lines that
its stages measured, without images and weights.  It is read as the run itself is, and
gives the same document.  Its files have checksums, so that no figure is typed by hand.
"""

import ast
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import Artefacts, DamagedArtefact, json_text

CONFIG, STATUS, EXPERIMENT = "config.json", "status.json", "experiment.json"

MEASURED = (
    *("results.csv", "worst_cases.csv", "detection.csv", "measures.csv"),
    *("convergence.json", "audit.json", "on_manifold.json", "pairs.json"),
    *("given.json", "substitutes.json", "data.json"),
)
"""The small files of a run that results are made from, where its stages wrote them."""

_NEEDED = {
    "convergence": "convergence.json",
    "measure": "measures.csv",
    "evaluate": "results.csv",
    "audit": "audit.json",
}
_KEPT_STATUS = ("state", "started", "command", "versions", "devices", "stage_seconds")
_LOCAL = {"data_dir", "cache_dir"}
"""Keys of `config.data` that say where files lie on one machine, and nothing else."""
_ABSOLUTE = re.compile(r"(^|[=:])/(?:[^/]*/)*([^/]+)/?$")


class Run(NamedTuple):
    """A finished run, or the record of one.

    Attributes:
      folder: where it was read, for messages.
      experiment: name of the experiment's file, without its ending.
      argument: what was handed to its `get_config`; empty for nothing.
      purpose: first line of the file's docstring; empty where there is no file.
      config: the whole config, as plain values.
      status: see `RunFolder`; `finished_stages` has no outputs.
      files: contents of those of `MEASURED` that there are.
    """

    folder: Path
    experiment: str
    argument: str
    purpose: str
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.config["seed"]

    @property
    def name(self) -> str:
        """What its record is called: "celeba_gender-small-0"."""
        parts = (self.experiment, self.argument, str(self.seed))
        return "-".join(filter(None, parts))

    @property
    def stages(self) -> list[str]:
        """The stages that have finished."""
        return list(self.status["finished_stages"])

    def text(self, file: str) -> str:
        """Returns the contents of a file as text; empty where there is none."""
        return self.files.get(file, b"").decode()

    def json(self, file: str) -> Any:
        """Returns the value of a JSON file; an empty list where there is none."""
        return json_text.loads(self.files[file]) if file in self.files else []


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Returns the finished run, or the record, in a folder.

    Paths of the machine that it ran on are cut down to their last part.

    Raises:
      UsageError: if the folder is none, has not finished, or lacks a file.
      DamagedArtefact: if a file is not what was written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; allowed: that of a finished run.")
    stored = Artefacts(folder)
    try:
        return _read(stored)
    except DamagedArtefact as error:
        if not stored.holds(EXPERIMENT):
            raise
        raise UsageError(
            f"{folder} is not as it was recorded ({error}); allowed: records that "
            "python -m robust_manifold.results --record RUN writes."
        ) from None


def read_records(folder: Path) -> list[Run]:
    """Returns all records in a folder, by name.

    Raises:
      UsageError: if there are none, or one of them cannot be read.
    """
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in inside if path.is_dir()]
    if not found:
        raise UsageError(
            f"{folder} holds no record; allowed: 1 or more, written by "
            "python -m robust_manifold.results --record RUN."
        )
    return [read_run(path) for path in found]


def record(run: Run, folder: Path) -> Path:
    """Writes the record of a run, replacing an older one, and returns its folder."""
    target = folder / run.name
    target.mkdir(parents=True, exist_ok=True)
    for stale in MEASURED:
        if stale not in run.files:
            (target / stale).unlink(missing_ok=True)
    kept = Artefacts(target)
    status = {name: run.status[name] for name in _KEPT_STATUS if name in run.status}
    status["finished_stages"] = {stage: [] for stage in run.stages}
    about = {name: getattr(run, name) for name in ("experiment", "argument", "purpose")}
    kept.write_json(CONFIG, run.config)
    kept.write_json(STATUS, status)
    kept.write_json(EXPERIMENT, {**about, "files": sorted(run.files)})
    for name, contents in sorted(run.files.items()):
        kept.write_bytes(name, contents)
    return target


def command_of(run: Run) -> str:
    """Returns the command that makes the run, as a user types it."""
    given = _arguments(run.status["command"])
    shown = [f"--config={given.config}", f"--workdir=runs/{run.name}", *given.changes]
    data = "TFDS_DATA_DIR=... " if "tfds:" in str(run.config["data"]["source"]) else ""
    return f"{data}python -m robust_manifold.main {shlex.join(shown)}"


def _read(stored: Artefacts) -> Run:
    config = _read_object(stored, CONFIG)
    status = _status(stored, config)
    about = _about(stored, status["command"])
    files = {name: stored.read_bytes(name) for name in MEASURED if stored.holds(name)}
    needed = {_NEEDED[x] for x in status["finished_stages"] if x in _NEEDED}
    missing = sorted({*needed, *about.get("files", [])} - files.keys())
    if missing:
        raise UsageError(f"{stored.path} lacks {missing[0]}; allowed: a whole run.")
    return Run(
        folder=stored.path,
        experiment=about["experiment"],
        argument=about["argument"],
        purpose=about["purpose"],
        config=_portable_config(config),
        status={**status, "command": _portable(status["command"])},
        files=files,
    )


class _Arguments(NamedTuple):
    """What a command line says that results depend on."""

    config: str
    changes: list[str]


def _arguments(command: Sequence[str]) -> _Arguments:
    """Returns the config file and the changes to it of a command line."""
    flags, config, changes = iter(command[1:]), "", []
    for flag in flags:
        name, given, value = flag.lstrip("-").partition("=")
        value = value if given else next(flags, "")
        if name == "config":
            config = value
        elif name not in ("workdir", "stages"):
            changes.append(f"--{name}={value}")
    return _Arguments(config, changes)


def _about(stored: Artefacts, command: Sequence[str]) -> dict[str, Any]:
    """Returns name, argument and purpose of a run's experiment; a record's files."""
    if stored.holds(EXPERIMENT):
        return _read_object(stored, EXPERIMENT)
    path, _, argument = _arguments(command).config.partition(":")
    if not path:
        raise UsageError(
            f"{stored.path / STATUS} names no experiment in its command; allowed: that "
            "of a run of robust_manifold.main."
        )
    named = {"experiment": Path(path).stem, "argument": argument}
    return {**named, "purpose": _purpose(Path(path))}


def _purpose(file: Path) -> str:
    """Returns the first line of a config file's docstring, without running it."""
    try:
        told = ast.get_docstring(ast.parse(file.read_text())) or ""
    except (OSError, SyntaxError, ValueError):
        return ""
    return told.partition("\n")[0]


def _status(stored: Artefacts, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the status of a run, checked to be that of a finished one."""
    status = _read_object(stored, STATUS)
    kinds = {
        "state": str,
        "command": list,
        "finished_stages": dict,
        "stage_seconds": dict,
        "versions": dict,
        "devices": dict,
    }
    for name, kind in kinds.items():
        if not isinstance(status.get(name), kind):
            raise UsageError(
                f"{stored.path / STATUS} lacks {name!r}, or it is damaged."
            )
    for name, kind in {"seed": int, "stages": list, "title": str, "data": dict}.items():
        if not isinstance(config.get(name), kind):
            raise UsageError(
                f"{stored.path / CONFIG} lacks {name!r}, or it is damaged."
            )
    missing = [x for x in config["stages"] if x not in status["finished_stages"]]
    if missing or status["state"] != "finished":
        what = f"lacks the stage {missing[0]}" if missing else f"is {status['state']!r}"
        raise UsageError(
            f"{stored.path} {what}; allowed: a finished run, which the same command "
            "makes of it."
        )
    return status


def _read_object(stored: Artefacts, name: str) -> dict[str, Any]:
    """Returns the object in a JSON file, checked against its checksum if it has one."""
    file = stored.path / name
    if not file.is_file():
        raise UsageError(
            f"{stored.path} lacks {name}; allowed: that of a finished run."
        )
    try:
        data = stored.read_bytes(name) if stored.holds(name) else file.read_bytes()
        found = json_text.loads(data)
    except DamagedArtefact:
        raise
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{file} is damaged (no JSON object); allowed: a whole run.")
    return found


def _portable_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config without what is true of one machine alone."""
    data = config["data"] | dict.fromkeys(_LOCAL & config["data"].keys(), "")
    return _portable({**config, "data": data})


def _portable(value: Any) -> Any:
    """Returns a tree of plain values with absolute paths cut to their last part.

    >>> _portable(["--config.classifier.from_run=/home/me/runs/vae", "npz:/tmp/x.npz"])
    ['--config.classifier.from_run=vae', 'npz:x.npz']
    """
    if isinstance(value, Mapping):
        return {name: _portable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    return _ABSOLUTE.sub(r"\1\2", value) if isinstance(value, str) else value
