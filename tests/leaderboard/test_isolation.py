"""An entry's process: without a network, with so much memory, and its end."""

import pathlib
import subprocess
import sys
import time

import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.leaderboard import isolation, rules

OPENS = "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5)"


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """Returns how a program ends in the place of an entry's."""

    def run(text, **options):
        program = tmp_path / "program.py"
        program.write_text(text)
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\nexec {sys.executable} {program}\n")
        python.chmod(0o700)
        with monkeypatch.context() as patched:
            patched.setattr(isolation.sys, "executable", str(python))
            return isolation.run("score", program, tmp_path, **options)

    return run


@pytest.mark.skipif(not isolation.without_network(), reason="no namespaces here")
def test_an_entry_has_no_network(ran):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        text = OPENS.format(port=server.getsockname()[1])
        assert ran(f"{text}", trusted=False) == 1


def test_without_namespaces_it_must_be_trusted(ran, monkeypatch):
    monkeypatch.setattr(isolation, "without_network", lambda: False)
    with pytest.raises(UsageError, match="--trusted"):
        ran("", trusted=False)
    assert ran("raise SystemExit(7)", trusted=True) == 7


def test_an_entry_has_so_much_memory_and_no_more(ran, monkeypatch):
    monkeypatch.setattr(rules, "GIGABYTES", 1)
    text = "bytearray({} * 2**20)"
    assert ran(text.format(100), trusted=True) == 0
    assert ran(text.format(1100), trusted=True) == 1


def test_a_process_that_is_killed_is_told_of(ran):
    with pytest.raises(UsageError, match="ended by signal 9"):
        ran("import os; os.kill(os.getpid(), 9)", trusted=True)


def test_a_stop_ends_the_entry_too(tmp_path):
    program, begun = tmp_path / "program.py", tmp_path / "begun"
    program.write_text(f"open({str(begun)!r}, 'w'); import time; time.sleep(60)")
    caller = (
        "from pathlib import Path\n"
        "from robust_manifold.leaderboard import isolation\n"
        f"isolation._call([{sys.executable!r}, {str(program)!r}])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", caller])
    try:
        while not begun.exists():
            time.sleep(0.1)
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        (child,) = children.read_text().split()
        process.terminate()
        assert process.wait(timeout=30) == 143
    finally:
        process.kill()
    assert not pathlib.Path(f"/proc/{child}/cmdline").exists()
