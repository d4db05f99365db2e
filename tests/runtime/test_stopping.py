import os
import signal
import subprocess
import sys
import threading

import pytest

from robust_manifold.runtime.stopping import GracefulStop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag(number, capfd):
    with GracefulStop() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested and stop.signal is number
    assert f"{number.name}: saving and stopping" in capfd.readouterr().err


def test_the_handlers_are_put_back():
    before = [signal.getsignal(number) for number in GracefulStop.SIGNALS]
    with GracefulStop() as stop:
        assert signal.getsignal(signal.SIGTERM) == stop._receive
    assert [signal.getsignal(number) for number in GracefulStop.SIGNALS] == before


def test_the_second_signal_kills():
    code = """
import os, signal
from robust_manifold.runtime.stopping import GracefulStop
with GracefulStop() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    print(stop.requested, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("alive", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.stdout == b"True\n"
    assert done.returncode == -signal.SIGTERM


def test_outside_the_main_thread_it_does_nothing():
    seen = []

    def run():
        with GracefulStop() as stop:
            seen.append(stop.requested)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False] and signal.getsignal(signal.SIGTERM) == before
