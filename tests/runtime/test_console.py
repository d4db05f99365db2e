import contextlib
import logging
import subprocess
import sys
import warnings

import pytest
from absl import flags
from absl import logging as absl_logging

from robust_manifold.runtime import console


def test_lines_on_a_terminal_are_plain(terminal):
    console.setup()
    console.info("classifier [bold]x[/bold] " + "long " * 40 + "end 0.5 %s")
    console.warning("careful")
    console.error("no")
    lines = terminal.getvalue().splitlines()
    assert lines[0].startswith("classifier [bold]x[/bold] long")
    assert lines[0].endswith("end 0.5 %s")
    assert lines[1:] == ["warning: careful", "error: no"]


def test_lines_in_a_log_are_dated(log_file, monkeypatch):
    moment = (2026, 1, 2, 3, 4, 5, 0, 0, 0)
    monkeypatch.setattr("time.localtime", lambda *_: moment)
    console.setup()
    console.info("hello")
    assert log_file.getvalue() == "2026-01-02 03:04:05  hello\n"


@pytest.mark.parametrize(
    ("verbosity", "seen"),
    [
        (None, ["own info", "own warning", "jax warning", "absl error"]),
        (-1, ["own warning", "jax warning", "absl warning", "absl error"]),
        (-2, ["absl error"]),
        (
            0,
            ["own info", "own warning", "jax info", "jax warning"]
            + ["absl info", "absl warning", "absl error"],
        ),
    ],
)
def test_verbosity(terminal, verbosity, seen):
    console.setup(verbosity)
    console.info("own info")
    console.warning("own warning")
    logging.getLogger("jax._src").info("jax info")
    logging.getLogger("jax._src").warning("jax warning")
    absl_logging.info("absl info")
    absl_logging.warning("absl warning")
    absl_logging.error("absl error")
    lines = terminal.getvalue().splitlines()
    assert [line.split(": ")[-1] for line in lines] == seen


def test_the_flag_counts_where_the_user_gave_it(terminal, monkeypatch):
    values = flags.FlagValues()
    flags.DEFINE_integer("verbosity", -1, "", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    values(["program"])
    console.setup()
    console.info("by default")
    values(["program", "--verbosity=-1"])
    console.setup()
    console.info("less")
    assert terminal.getvalue() == "by default\n"


def test_other_processes_print_errors_only(terminal):
    console.setup(primary=False)
    console.warning("careful")
    console.error("no")
    assert terminal.getvalue() == "error: no\n"


def test_setting_up_twice_prints_once(terminal):
    console.setup()
    console.setup()
    console.info("once")
    assert terminal.getvalue() == "once\n"


def test_a_python_warning_is_one_line(terminal):
    console.setup()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("odd", UserWarning, stacklevel=1)
    (line,) = terminal.getvalue().splitlines()
    assert line.startswith("warning: ") and line.endswith("UserWarning: odd")


def test_a_broken_stream_does_not_end_the_run(terminal, monkeypatch, capsys):
    console.setup()
    monkeypatch.setattr(console.CONSOLE, "print", lambda *_, **__: 1 / 0)
    console.info("lost")
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_no_library_prints_the_lines_a_second_time():
    code = """
import contextlib
import logging
from absl import app, logging as absl_logging
from robust_manifold.runtime import console
logging.basicConfig()
def main(argv):
    console.setup()
    absl_logging.warning("remark")
    console.warning("careful")
    console.info("done")
app.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    lines = done.stderr.decode().splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == ["warning: careful", "done"]
    assert (done.returncode, done.stdout) == (0, b"")


def test_results_go_to_standard_output(capsys):
    console.show("a | b\n")
    assert capsys.readouterr().out == "a | b\n"


def test_output_that_is_refused_is_named(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OSError) as error:
            console.show("a table")
        assert error.value.filename == "standard output"
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
