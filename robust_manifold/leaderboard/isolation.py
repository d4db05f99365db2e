"""An entry's code runs in a process of its own: no network, and so much memory.

That keeps an entry from asking a server what an image is, and a slip of it from taking
the machine.  It does not keep code from reading and writing the user's files, or from
forging its own figures: docs/leaderboard_rules.md says so.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from robust_manifold.core.errors import UsageError
from robust_manifold.leaderboard import rules

_UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--")
"""Of util-linux: without any interface but a loopback that is down."""


def run(what: str, file: Path, folder: Path, *, trusted: bool) -> int:
    """Runs `judging` on an entry and returns its exit code.

    Args:
      what: "score" or "judge".
      file: the entry.
      folder: of what it reads and writes.
      trusted: whether the entry may run where the network cannot be taken from it.

    Raises:
      UsageError: where it cannot, and the entry is not trusted; and if the process
        was killed, as it is when it has no memory left.
    """
    module = "robust_manifold.leaderboard.judging"
    command = [sys.executable, "-m", module, what, str(file), str(folder)]
    if without_network():
        command = [*_UNSHARE, *command]
    elif not trusted:
        raise UsageError(
            "the network cannot be taken from an entry here (unshare of util-linux "
            "fails); allowed: a Linux where users may make namespaces, or --trusted "
            "for an entry that you have read."
        )
    code = _call(command)
    if code < 0 or code > 128:
        raise UsageError(
            f"the process of {file} ended by signal {-code if code < 0 else code - 128}"
            f"; allowed: {rules.GIGABYTES} GB of memory. The same command goes on from "
            "there."
        )
    return code


def without_network() -> bool:
    """Returns whether this machine lets a process be without a network."""
    if shutil.which(_UNSHARE[0]) is None:
        return False
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False)
    return tried.returncode == 0


def _call(command: Sequence[str]) -> int:
    # A shell sets the limit, in kilobytes: forked from here, after JAX has begun its
    # threads, a process might hang.
    limited = f'ulimit -d {rules.GIGABYTES * 2**20}; exec "$@"'
    # By default this signal would end this process alone, and leave the entry's.
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with subprocess.Popen(["sh", "-c", limited, "sh", *command]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal has sent it to both.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
            raise
        finally:
            process.kill()
            signal.signal(signal.SIGTERM, before)
