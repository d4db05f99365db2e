"""The parser of the smaller commands: whatever is wrong is one sentence and code 2."""

import argparse
from typing import Any, NoReturn


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
