"""Command lines: the parser of the smaller commands, and flags read back from a run's.

Whatever is wrong on a smaller command's line is one sentence and code 2.
"""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser that keeps the text of its help as it was written."""

    def __init__(self, **options: Any):
        """Takes the options of `argparse.ArgumentParser`."""
        form = argparse.RawDescriptionHelpFormatter
        options = {"formatter_class": form, "allow_abbrev": False} | options
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """Prints what is wrong, without the usage, and exits with code 2."""
        sentence = f"{message[0].upper()}{message[1:]}; see --help."
        self.exit(2, f"robust_manifold: {sentence}\n")


class Flag(NamedTuple):
    """A flag of a command line."""

    name: str
    """Without dashes."""
    value: str | None
    """None for a flag that says yes by being there."""

    def __str__(self) -> str:
        """Returns it as it is typed, before any quoting."""
        return f"--{self.name}" + ("" if self.value is None else f"={self.value}")


def read_flags(arguments: Sequence[str]) -> list[Flag]:
    """Returns the flags of a command line; a value may follow without "=".

    What follows a flag that has its value belongs to none.

    >>> read_flags(["--a=1", "stray", "--b", "x", "--c"])
    [Flag(name='a', value='1'), Flag(name='b', value='x'), Flag(name='c', value=None)]
    """
    found: list[Flag] = []
    for argument in arguments:
        if re.match(r"--?[A-Za-z]", argument):
            name, separate, value = argument.lstrip("-").partition("=")
            found.append(Flag(name, value if separate else None))
        elif found and found[-1].value is None:
            found[-1] = found[-1]._replace(value=argument)
    return found
