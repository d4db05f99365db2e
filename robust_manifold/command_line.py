"""The command line of `robust_manifold.main`: flags and config, read and checked."""

import os
import pathlib
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags
from ml_collections import config_flags

from robust_manifold import sweeping
from robust_manifold.config import (
    FREE,
    NAMED,
    REGISTRIES,
    TYPES,
    Experiment,
    Key,
    plain_values,
    validate,
)
from robust_manifold.core.errors import UsageError, nearest, unknown_name
from robust_manifold.findings import all_stages, parent_of, stages_of
from robust_manifold.runtime import shipped
from robust_manifold.runtime.arguments import read_flags

_ARGV: list[str] = []
"""The command line that is parsed; the flags of a config's keys are sought in it."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags --config, --workdir and --stages."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "The experiment: a name of those that come with the package, or a Python file "
        "whose get_config() returns a config. Any key of it can be changed with "
        "--config.KEY=VALUE; the keys are listed above. NAME:ARGUMENT and "
        "FILE:ARGUMENT call get_config(ARGUMENT), where an experiment has variants. "
        f"NAME is one of: {', '.join(shipped.experiments())}.",
        lock_config=True,
        sys_argv=_ARGV,
        flag_values=values,
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder of the run: results, checkpoints, report. A run that was stopped goes "
        "on where it was. By default runs/NAME, after the config file NAME.py, or "
        "runs/NAME-ARGUMENT, and what the sweep and the command line change in it; "
        "-pretrained is added where config.pretrained is True.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "stages",
        None,
        f"Which stages to run, comma-separated, of: {', '.join(all_stages())}. By "
        "default those of config.stages, each with what follows it.",
        flag_values=values,
    )

    flags.DEFINE_integer(
        "sweep_index",
        None,
        "Which run of the config's sweep() this one is, from 0. By default "
        "$SLURM_ARRAY_TASK_ID or $JOB_COMPLETION_INDEX where there is a sweep, and "
        "without these the config as it is.",
        flag_values=values,
    )


define_flags(flags.FLAGS)

KEYS = Experiment.keys()
"""Every key that a config may have."""


class Arguments(NamedTuple):
    """A checked command line."""

    experiment: Experiment
    config: dict
    workdir: pathlib.Path
    stages: tuple[str, ...]
    swept: tuple[str, ...] = ()
    """Keys of the config that its sweep changes."""


def describe_stages() -> str:
    """Returns the names of all stages, in their order, for --help."""
    return _filled(", ".join(all_stages()), "  ", "  ")


def describe() -> str:
    """Returns the config's keys with their defaults, and the components, for --help."""
    lines = []
    for name, key in KEYS.items():
        lines.append(_filled(f"{name} = {key.default!r}", "  ", " " * 10))
        lines.append(_filled(key.meaning, " " * 6, " " * 6))
    lines.append("\nThe components that a config can name:\n")
    for registry in REGISTRIES:
        names = f"{registry.kind}: {', '.join(registry.names)}"
        lines.append(_filled(names, "  ", " " * 6))
    return "\n".join(lines)


def _filled(text: str, first: str, later: str) -> str:
    """Returns a text in lines of at most 78 columns, indented; no word is broken."""
    return textwrap.fill(
        text,
        78,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def parse(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Parses flags and loads the config file; for `app.run(flags_parser=...)`.

    Raises:
      UsageError: for an unknown or ill-typed flag or config key, and for a config
        that is neither a file nor the name of one, or fails.
    """
    argv, path = _with_file(argv)
    if path is not None:
        # What lies beside a config can be imported by it, as beside any script.
        if (beside := str(path.parent.resolve())) not in sys.path:
            sys.path.append(beside)
    changed = next((a for a in argv if a.lstrip("-").startswith("config.")), "")
    if path is None and changed.startswith("-"):
        raise UsageError(
            f"{changed.partition('=')[0]} is given, but no --config that it would "
            "change; allowed: --config=NAME before it."
        )
    try:
        if path is not None:
            argv = _with_sweep(argv)
        _ARGV[:] = argv
        rest = values(argv)
    except SystemExit as ending:
        if any(argument.lstrip("-").startswith("help") for argument in argv):
            # absl prints the help and ends with 1; asking for help is no failure.
            sys.exit(0)
        raise UsageError(f"--config {path} ends the program ({ending}).") from None
    except flags.IllegalFlagValueError as error:
        raise (_type_error(argv) or UsageError(f"{_reason(error)}.")) from None
    except flags.Error as error:
        raise UsageError(f"{_reason(error)}.") from None
    except UsageError:
        raise
    except Exception as error:  # Whatever the user's config file raises.
        raise _config_error(path, argv, error) from None
    if len(rest) > 1:
        raise UsageError(
            f"The argument {rest[1]!r} is no flag; allowed: --config=NAME, "
            "--config.KEY=VALUE, --workdir=DIR, --stages=A,B, --sweep_index=K."
        )
    return rest


def arguments(values: flags.FlagValues = flags.FLAGS) -> Arguments:
    """Returns the parsed flags, checked.

    Raises:
      UsageError: see `robust_manifold.config.validate`; or an unknown stage.
    """
    config = values["config"].value
    if config is None:
        raise UsageError("--config is missing; allowed: --config=NAME or FILE.py.")
    experiment = validate(config)
    given, own = values["stages"].value, stages_of(experiment)
    if given is not None and not given:
        raise UsageError(f"--stages is empty; allowed: some of {', '.join(own)}.")
    for stage in given or ():
        if stage not in all_stages():
            raise unknown_name("stage", stage, own)
        if stage not in own:
            raise UsageError(
                f"--stages names {stage!r}, which is not in config.stages nor follows "
                f"from the config; allowed: {', '.join(own)}."
            )
    # With a stage comes what follows it.
    wanted = set(own if given is None else given)
    stages = tuple(s for s in own if wanted & {s, parent_of(s)})
    path = pathlib.Path(config_flags.get_config_filename(values["config"]))
    changes = config_flags.get_override_values(values["config"])
    file, argument = _parts(path)
    name = "-".join(filter(None, (file.stem, argument)))
    changed = sweeping.folder_name(changes, without=(*FREE, "pretrained"))
    variant = "pretrained" if experiment.pretrained else ""
    own = f"runs/{'-'.join(filter(None, (name, changed, variant)))}"
    runs = sweeping.runs_of(file, argument) or []
    return Arguments(
        experiment,
        plain_values(config),
        pathlib.Path(values["workdir"].value or own),
        stages,
        tuple(dict.fromkeys(key for run in runs for key in run)),
    )


def sweep_of(argv: Sequence[str]) -> tuple[str, int]:
    """Returns the name of a command line's config, and how many runs its sweep has."""
    given = {flag.name: flag.value for flag in read_flags(_with_file(argv)[0])}
    file, argument = _parts(pathlib.Path(f"{given['config']}"))
    runs = sweeping.runs_of(file, argument) or []
    return "-".join(filter(None, (file.stem, argument))), len(runs)


def _parts(path: pathlib.Path) -> tuple[pathlib.Path, str]:
    """Returns a config's file and its argument, "" without one."""
    name, _, argument = path.name.partition(":")
    return path.with_name(name), argument


def _with_sweep(argv: Sequence[str]) -> list[str]:
    """Returns argv with what its run of a sweep changes in the config."""
    given = {flag.name: flag.value for flag in read_flags(argv[1:])}
    config, index = f"{given['config']}", given.get("sweep_index")
    if index is not None and not index.isdecimal():
        raise UsageError(f"--sweep_index is {index!r}; allowed: a number, 0 or more.")
    number = None if index is None else int(index)
    changes = sweeping.chosen(*_parts(pathlib.Path(config)), number, os.environ)
    # What a user gives comes later, and counts.
    place = max(n for n, each in enumerate(argv) if each == f"--config={config}") + 1
    return [*argv[:place], *sweeping.as_flags(changes), *argv[place:]]


def _with_file(argv: Sequence[str]) -> tuple[list[str], pathlib.Path | None]:
    """Returns argv with a file as --config, and that file, before absl executes it."""
    left, found, path = list(argv), [], None
    while left:
        argument = left.pop(0)
        name, given, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            value = value if given else "".join(left[:1])
            del left[: not given]
            path, called = _config_file(value)
            argument = f"--config={path}{called}"
        found.append(argument)
    return found, path


def _config_file(value: str) -> tuple[pathlib.Path, str]:
    """Returns the file that a value of --config stands for, and ":ARGUMENT" or ""."""
    path, known = pathlib.Path(value), shipped.experiments()
    name, colon, argument = path.name.partition(":")
    path = path.with_name(name) if name else path
    if not path.is_file():
        if str(path) not in known:
            near = nearest(path.stem, known)
            raise UsageError(
                f"--config is {str(path)!r}; allowed: an existing file, or one of "
                f"{', '.join(known)}.{f' Did you mean {near!r}?' if near else ''}"
            )
        path = known[str(path)]
    return path, colon + argument


def _reason(error: Exception) -> str:
    """Returns what happened, in one line without its stop."""
    lines = str(error).strip().splitlines()
    # Of a traceback, which ml_collections quotes whole, the last line says it.
    quoted = any(line.strip().startswith("Traceback") for line in lines) or (
        "Error whilst parsing config file" in str(error)
    )
    line = " ".join(lines[-1 if quoted else 0].split()).rstrip(".")
    # A config file that refuses its argument says why in a ValueError, and what it
    # calls of ours in one of our own.
    return re.sub(r"^([a-z_.]*UsageError|ValueError): ", "", line)


def _type_error(argv: Sequence[str]) -> UsageError | None:
    """Returns the sentence for a number in argv that is none, if there is one."""
    for argument in argv:
        key, _, value = argument.lstrip("-").partition("=")
        known = _in_schema(key.removeprefix("config."))
        default = known.default if known else ""
        if isinstance(default, bool | int | float):
            try:
                type(default)(value) if not isinstance(default, bool) else None
            except ValueError:
                allowed = TYPES[type(default)]
                return UsageError(f"{key} is {value!r}; allowed: {allowed}.")
    return None


def _in_schema(key: str) -> Key | None:
    """Returns what the schema says of a key on the command line."""
    first, _, rest = key.partition(".")
    if first in NAMED and rest:
        return NAMED[first].keys().get(rest.partition(".")[2])
    return KEYS.get(key)


def _config_error(
    path: pathlib.Path | None, argv: Sequence[str], error: Exception
) -> UsageError:
    """Says in one sentence why the config could not be loaded or changed."""
    for argument in argv:
        key = argument.lstrip("-").partition("=")[0].removeprefix("config.")
        if not argument.lstrip("-").startswith("config."):
            continue
        block = [name for name in KEYS if name.startswith(f"{key}.")]
        if block:
            return UsageError(
                f"config.{key} is a block of keys; allowed: a key of it, such as "
                f"--config.{block[0]}=VALUE."
            )
        first, _, rest = key.partition(".")
        if first in NAMED and rest:
            name, _, last = rest.partition(".")
            if last not in (known := NAMED[first].keys()):
                return unknown_name(f"key of config.{first}.{name}:", last, known)
            if name in str(error):
                return UsageError(
                    f"config.{first} has no {name!r}; allowed: the names that the "
                    "config file adds."
                )
        elif key not in KEYS:
            return unknown_name("config key", key, KEYS)
    return UsageError(
        f"--config {path} fails: {type(error).__name__}: {_reason(error)}."
    )


def exit_with(error: UsageError) -> None:
    """Prints the sentence of a user's mistake and exits with code 2."""
    print(f"robust_manifold: {error}", file=sys.stderr)
    sys.exit(2)
