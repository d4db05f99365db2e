"""Command lines of runs: what results depend on, and how a user types them."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from robust_manifold.runtime.arguments import read_flags

_APART = ("workdir", "stages")
"""Flags that no result depends on."""
_WIDTH = 88


class GivenArguments(NamedTuple):
    """What a command line says that results depend on.

    Attributes:
      config: the config's file or name, and after a colon what is handed to it.
      changes: of the config, as they were typed.
    """

    config: str
    changes: list[str]

    @property
    def experiment(self) -> str:
        """The name of the experiment: that of its file, without the ending."""
        return Path(self.config.partition(":")[0]).stem

    @property
    def argument(self) -> str:
        """What is handed to the file's `get_config`; empty for nothing."""
        return self.config.partition(":")[2]


def read_arguments(command: Sequence[str]) -> GivenArguments:
    """Returns the config file and the changes to it of a command line.

    >>> read_arguments(["main.py", "--config", "e/x.py:small", "--config.pretrained"])
    GivenArguments(config='e/x.py:small', changes=['--config.pretrained'])
    """
    config, changes = "", []
    for flag in read_flags(command[1:]):
        if flag.name == "config":
            config = flag.value or ""
        elif flag.name not in _APART:
            changes.append(str(flag))
    return GivenArguments(config, changes)


def command_line(command: Sequence[str], name: str, config: Mapping[str, Any]) -> str:
    """Returns the command that makes a run, as a user types it.

    Args:
      command: the run's own.
      name: of the run, for its folder.
      config: of the run.
    """
    given = read_arguments(command)
    # Of an absolute path, only the file's name is left; a name of an experiment is one.
    file = given.config.partition(":")[0]
    folder = "" if "/" in file or not file.endswith(".py") else "experiments/"
    shown = [f"--config={folder}{given.config}", f"--workdir=runs/{name}"]
    data = "TFDS_DATA_DIR=... " if "tfds:" in str(config["data"]["source"]) else ""
    program = f"{data}python -m robust_manifold.main"
    return _broken(program, [shlex.quote(flag) for flag in [*shown, *given.changes]])


def _broken(program: str, flags: Sequence[str]) -> str:
    """Returns a command in lines that a page has room for, as a shell reads them."""
    lines = [program]
    for flag in flags:
        if len(lines[-1]) + len(flag) + len("  \\") <= _WIDTH:
            lines[-1] += f" {flag}"
        else:
            lines.append(f"    {flag}")
    return " \\\n".join(lines)
