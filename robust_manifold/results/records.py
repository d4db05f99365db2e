"""Finished runs as results are made from them, and the small records kept of them.

A record is a folder of some hundred kilobytes at most: a run's config, its status, and
the lines that its stages measured, without images and weights.  It is read as the run
itself is, and gives the same document.  Its files have checksums, so that no figure is
typed by hand.
"""

import ast
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from robust_manifold import findings
from robust_manifold.config import check_stored
from robust_manifold.core.errors import UsageError
from robust_manifold.findings import Run
from robust_manifold.results.command_lines import read_arguments
from robust_manifold.results.origins import read_origins
from robust_manifold.results.portable import portable, portable_config, portable_text
from robust_manifold.runtime import (
    Artefacts,
    DamagedArtefact,
    json_text,
    provenance,
    shipped,
)
from robust_manifold.runtime.run_folder import (
    CONFIG,
    STATUS,
    read_config,
    read_status,
    stands,
)

EXPERIMENT = "experiment.json"
_LOG = "metrics.jsonl"


_DEVICES = {"devices", "kind", "processes"}
_ABOUT = ("experiment", "argument", "purpose", "origins")
_KEPT_STATUS = ("state", "started", "stage_seconds")


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
            "robust-manifold results --record RUN writes."
        ) from None


def read_records(folder: Path, replaced: Collection[str] = ()) -> list[Run]:
    """Returns the records in a folder, by name.

    A record that a killed process has laid aside is put back first.

    Args:
      folder: of the records.
      replaced: names of those that are left out.

    Raises:
      UsageError: if there are none, or one of them cannot be read.
    """
    for aside in folder.glob(_aside(folder / "*").name):
        _put_back(aside)
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    # What else a killed process left behind, and what editors make, is hidden.
    found = [path for path in inside if path.is_dir() and path.name[0] != "."]
    if not found and not replaced:
        raise UsageError(
            f"{folder} holds no record; allowed: 1 or more, written by "
            "robust-manifold results --record RUN."
        )
    return [read_run(path) for path in found if path.name not in replaced]


def record(run: Run, folder: Path) -> Path:
    """Writes the record of a run, replacing an older one, and returns its folder."""
    target, partial = folder / run.name, folder / f".{run.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    kept = Artefacts(partial)
    status = {name: run.status[name] for name in _KEPT_STATUS if name in run.status}
    status["finished_stages"] = {stage: [] for stage in run.stages}
    status["ran"] = provenance.parts_of(run.status)
    about = {name: getattr(run, name) for name in _ABOUT}
    try:
        kept.write_json(CONFIG, run.config)
        kept.write_json(STATUS, status)
        kept.write_json(EXPERIMENT, {**about, "files": sorted(run.files)})
        for name, contents in sorted(run.files.items()):
            kept.write_bytes(name, contents)
        _replace(target, partial)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def _replace(target: Path, partial: Path) -> None:
    """Puts a folder in the place of an older one, whole or not at all.

    Files of two runs side by side would pass for one record.
    """
    aside = _aside(target)
    _put_back(aside)
    if target.exists():
        target.rename(aside)
    try:
        partial.rename(target)
    finally:
        _put_back(aside)


def _aside(target: Path) -> Path:
    """Returns where a record lies while another one takes its place."""
    return target.with_name(f".{target.name}.old")


def _put_back(aside: Path) -> None:
    """Gives a record laid aside its place again, or removes it if that is taken."""
    target = aside.with_name(aside.name[1:].removesuffix(".old"))
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
    elif aside.exists():
        aside.rename(target)


def _read(stored: Artefacts) -> Run:
    recorded = stored.holds(EXPERIMENT)
    config, status = _config_and_status(stored, recorded)
    check_stored(config, stored.path / CONFIG, _CONFIG_NEEDED)
    _check_status(stored.path, status, config)
    computed = provenance.results_of(status)
    about = _about(stored, provenance.commands_of(computed), config)
    measured = (*findings.recorded(), "data.json")
    files = {name: stored.read_bytes(name) for name in measured if stored.holds(name)}
    needed = findings.needed(status["finished_stages"])
    missing = sorted({*needed, *about.get("files", [])} - files.keys())
    if not recorded:
        missing += _missing_outputs(stored, status)
        missing += [x for x in measured if stored.entered(x) and x not in files]
    if missing:
        raise UsageError(
            f"{stored.path} lacks {missing[0]}; allowed: a whole run, which the same "
            "command makes of it."
        )
    return Run(
        folder=stored.path,
        experiment=about["experiment"],
        argument=about["argument"],
        purpose=about["purpose"],
        config=portable_config(config),
        status=_portable_status(status),
        files={name: _portable_bytes(contents) for name, contents in files.items()},
        # Records of older versions have none.
        origins=portable(about.get("origins", {})),
    )


def _config_and_status(
    stored: Artefacts, recorded: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what a run was asked for and how it ended, checked."""
    for name in (CONFIG, STATUS):
        if not (stored.path / name).is_file():
            raise UsageError(
                f"{stored.path} lacks {name}; allowed: that of a finished run."
            )
    if recorded:
        return _read_object(stored, CONFIG), _read_object(stored, STATUS)
    config, status = read_config(stored.path), read_status(stored.path)
    if "ran" in status and stored.entered(CONFIG) is None:
        raise UsageError(
            f"{stored.path / CONFIG} has no checksum; allowed: a finished run, which "
            "the same command makes of it."
        )
    stored.check_log(_LOG)
    return config, status


def _missing_outputs(stored: Artefacts, status: Mapping[str, Any]) -> list[str]:
    """Returns what finished stages have listed and the folder has not any more."""
    listed = (o for outputs in status["finished_stages"].values() for o in outputs)
    return sorted({output for output in listed if not stands(stored, output)})


def _portable_status(status: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a status without what is true of one machine alone."""
    return {
        **status,
        "ran": {
            stage: [{**part, "command": portable(part["command"])} for part in parts]
            for stage, parts in provenance.parts_of(status).items()
        },
    }


def _portable_bytes(contents: bytes) -> bytes:
    return portable_text(contents.decode(errors="surrogateescape")).encode(
        errors="surrogateescape"
    )


def _about(
    stored: Artefacts, commands: list[list[str]], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the fields `_ABOUT` of a run, and of a record the names of its files."""
    if stored.holds(EXPERIMENT):
        return _read_object(stored, EXPERIMENT)
    given = read_arguments(commands[-1] if commands else [])
    if not given.experiment:
        raise UsageError(
            f"{stored.path / STATUS} names no experiment in its command; allowed: that "
            "of a run of robust_manifold.main."
        )
    file = given.config.partition(":")[0]
    return {
        "experiment": given.experiment,
        "argument": given.argument,
        "purpose": _purpose(shipped.experiments().get(file, Path(file))),
        "origins": read_origins(config),
    }


def _purpose(file: Path) -> str:
    """Returns the first line of a config file's docstring, without running it."""
    try:
        told = ast.get_docstring(ast.parse(file.read_text())) or ""
    except (OSError, SyntaxError, ValueError):
        return ""
    return told.partition("\n")[0]


_CONFIG_NEEDED = ("seed", "stages", "title", "data", "classifier", "evaluation")
_PART_KINDS = {"command": list, "versions": dict, "devices": dict}


def _check_status(
    folder: Path, status: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Raises a `UsageError` unless the status is that of a finished run."""
    file = folder / STATUS
    kinds: dict[str, type] = {"state": str}
    kinds |= {"finished_stages": dict, "stage_seconds": dict}
    kinds |= {"ran": dict} if "ran" in status else _PART_KINDS
    _check_kinds(file, status, kinds)
    for part in (p for parts in provenance.parts_of(status).values() for p in parts):
        _check_kinds(file, part, _PART_KINDS)
        if part != provenance.UNKNOWN and not _DEVICES <= part["devices"].keys():
            raise _lacking(file, "devices")
    # A run of an older version, and a record, tell those of the config alone.
    asked = status.get("stages", config["stages"])
    missing = [x for x in asked if x not in status["finished_stages"]]
    if missing or status["state"] != "finished":
        what = f"lacks the stage {missing[0]}" if missing else f"is {status['state']!r}"
        raise UsageError(
            f"{folder} {what}; allowed: a finished run, which the same command makes "
            "of it."
        )


def _check_kinds(
    file: Path, found: Mapping[str, Any], kinds: Mapping[str, type]
) -> None:
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind):
            raise _lacking(file, name)


def _lacking(file: Path, name: str) -> UsageError:
    return UsageError(f"{file} lacks {name!r}, or it is damaged.")


def _read_object(stored: Artefacts, name: str) -> dict[str, Any]:
    """Returns the object in a JSON file of a record, checked against its checksum."""
    file = stored.path / name
    try:
        data = stored.read_bytes(name) if stored.holds(name) else file.read_bytes()
        found = json_text.loads(data)
    except DamagedArtefact:
        raise
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{file} is damaged (no JSON object); allowed: a whole run.")
    return found
