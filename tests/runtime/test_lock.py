import os
import subprocess
import sys

import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime.lock import FolderLock

HOLDER = """
import sys
from pathlib import Path
from robust_manifold.runtime.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_refused_by_name(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(UsageError, match=rf"in use by process {os.getpid()} on "):
        FolderLock(tmp_path)
    lock.release()
    lock.release()
    FolderLock(tmp_path).release()


def test_another_process_is_refused_and_a_killed_one_frees_the_folder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=f"in use by process {holder.pid} on "):
            FolderLock(tmp_path)
        holder.kill()
        holder.wait()
        FolderLock(tmp_path).release()


def test_a_forked_worker_does_not_keep_the_lock_of_its_parent(tmp_path):
    # A fresh process, since a fork of this one could meet JAX's threads.
    code = """
import os, sys
from pathlib import Path
from robust_manifold.runtime.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
here, there = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.close(here[1])  # the death of the parent ends the child too
    os.write(there[1], b"started")
    os.read(here[0], 1)
    os._exit(0)
os.read(there[0], 7)
lock._file.close()  # as the death of this process alone would
FolderLock(Path(sys.argv[1]))
os.write(here[1], b"!")
os.waitpid(child, 0)
print("free")
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    assert subprocess.check_output(command) == b"free\n"


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(UsageError, match="cannot be locked .Operation not supported"):
        FolderLock(tmp_path)


def test_a_holder_without_a_name_is_another_process(tmp_path):
    lock = FolderLock(tmp_path)
    (tmp_path / "lock").write_text("")
    with pytest.raises(UsageError, match="in use by another process;"):
        FolderLock(tmp_path)
    lock.release()
