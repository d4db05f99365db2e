"""The one place that prints the user's lines: plain on a terminal, dated in a log."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator

import rich.console
from absl import flags
from absl import logging as absl_logging
from absl.logging import converter

LOGGER = logging.getLogger("robust_manifold")

# Lines and progress bars share it, so that a line never cuts a bar in two.
CONSOLE = rich.console.Console(stderr=True)

_PREFIXES = {logging.WARNING: "warning: ", logging.ERROR: "error: "}


def setup(verbosity: int | None = None, *, primary: bool = True) -> None:
    """Sends all log lines to standard error, one line each, through one handler.

    Args:
      verbosity: absl's scale (1 debug, 0 info, -1 warning, -2 error).  By default
        the flag `--verbosity` where the user gave it; and where not, this package's
        lines from info, other packages' from warning, and those that come through
        absl (orbax's remarks on its own files) from error.
      primary: whether this is the first process of the job; the others print errors
        only.
    """
    if verbosity is None:
        verbosity = _given_verbosity()
    levels = (0, -1, -2) if verbosity is None else (verbosity,) * 3
    if not primary:
        levels = tuple(min(level, -2) for level in levels)
    root = logging.getLogger()
    LOGGER.setLevel(_standard(levels[0]))
    root.setLevel(_standard(levels[1]))
    absl_logging.set_verbosity(levels[2])
    for handler in list(root.handlers):
        # Libraries add stream handlers of their own, which would print lines twice.
        if type(handler) in (logging.StreamHandler, absl_logging.ABSLHandler, _Lines):
            root.removeHandler(handler)
    root.addHandler(_Lines())
    logging.captureWarnings(True)


@contextlib.contextmanager
def printed() -> Iterator[None]:
    """Prints this package's lines while inside, though no program has set it up."""
    if LOGGER.isEnabledFor(logging.INFO):
        yield
        return
    handler, level, upwards = _Lines(), LOGGER.level, LOGGER.propagate
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        LOGGER.propagate = upwards


def info(message: str) -> None:
    """Prints a line about the run's course."""
    LOGGER.info("%s", message)


def warning(message: str) -> None:
    """Prints a line that the user should know of, though the run goes on."""
    LOGGER.warning("%s", message)


def error(message: str) -> None:
    """Prints the sentence with which a run ends."""
    LOGGER.error("%s", message)


def show(text: str) -> None:
    """Prints a result, such as a table, to standard output.

    Raises:
      OSError: naming it, if it is closed, or a file that there is no room for.
    """
    try:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def is_terminal() -> bool:
    """Returns whether the user's lines go to a terminal."""
    return CONSOLE.is_terminal


class _Lines(logging.Handler):
    """Prints each record as one line."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if record.name == "py.warnings":
                # The second line repeats the source.
                text = text.strip().split("\n")[0]
            text = _PREFIXES.get(record.levelno, "") + text
            if is_terminal():
                CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                moment = time.localtime(record.created)
                stamp = time.strftime("%Y-%m-%d %H:%M:%S", moment)
                CONSOLE.file.write(f"{stamp}  {text}\n")
                CONSOLE.file.flush()
        except Exception:
            self.handleError(record)


def _given_verbosity() -> int | None:
    values = flags.FLAGS
    if "verbosity" in values and values.is_parsed() and values["verbosity"].present:
        return values["verbosity"].value
    return None


def _standard(verbosity: int) -> int:
    return converter.absl_to_standard(verbosity)
