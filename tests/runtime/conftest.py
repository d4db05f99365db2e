import io
import logging

import pytest
import rich.console
from absl import logging as absl_logging

from robust_manifold.runtime import console


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def logs():
    """Undoes what `console.setup` does to the whole process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    own, absl_level = console.LOGGER.level, absl_logging.get_verbosity()
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    console.LOGGER.setLevel(own)
    absl_logging.set_verbosity(absl_level)


@pytest.fixture
def terminal(monkeypatch, logs):
    """Makes the console a terminal of 120 columns; its text is the fixture's value."""
    file = Terminal()
    monkeypatch.setattr(
        console,
        "CONSOLE",
        rich.console.Console(
            file=file, force_terminal=True, width=120, color_system=None
        ),
    )
    return file


@pytest.fixture
def log_file(monkeypatch, logs):
    """Makes the console a plain file; its text is the fixture's value."""
    file = io.StringIO()
    monkeypatch.setattr(console, "CONSOLE", rich.console.Console(file=file))
    return file
