import os
import signal
import subprocess
import sys
import threading

import pytest

from robust_manifold.runtime.stopping import GracefulStop, Look, Pause


@pytest.fixture
def heard():
    """Has no signal ignored, as they are in a shell's background."""
    before = {n: signal.signal(n, signal.SIG_DFL) for n in GracefulStop.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", GracefulStop.SIGNALS)
def test_a_signal_sets_the_flag(number, capfd, heard):
    told = ""
    with GracefulStop() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested and stop.signal is number
        while "saving" not in told:
            told += capfd.readouterr().err
    assert f"{number.name}: saving and stopping" in told


def test_the_handlers_are_put_back():
    before = [signal.getsignal(number) for number in GracefulStop.SIGNALS]
    with GracefulStop():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in GracefulStop.SIGNALS] == before


def test_what_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with GracefulStop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def _ended(code, **options):
    code = f"""
import os, signal, time
from robust_manifold.runtime.stopping import GracefulStop
GracefulStop.SECONDS = {options.get("seconds", 60)}
for number in GracefulStop.SIGNALS:
    signal.signal(number, signal.SIG_DFL)
{code}
print("alive", flush=True)
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_second_signal_ends_the_process_at_once():
    done = _ended("""
with GracefulStop() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    while not stop.requested:
        pass
    print("first", flush=True)
    time.sleep(1.2)
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(60)
""")
    assert done.stdout == "first\n"
    assert done.returncode == 128 + signal.SIGUSR1


def test_a_request_that_comes_twice_is_one():
    done = _ended("""
with GracefulStop() as stop:
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
        time.sleep(0.1)
    assert stop.requested and stop.signal == signal.SIGTERM
""")
    assert done.stdout == "alive\n" and done.returncode == 0


@pytest.mark.parametrize("number", GracefulStop.SIGNALS)
def test_what_does_not_look_up_is_ended(number):
    # `sleep` stands for a program that Python does not come back from.
    done = _ended(
        f"""
import ctypes
with GracefulStop():
    os.kill(os.getpid(), {int(number)})
    ctypes.CDLL(None).sleep(60)
    ctypes.CDLL(None).sleep(60)
""",
        seconds=0.2,
    )
    assert done.returncode == 128 + number, done.stderr
    assert done.stdout == "" and "ended within a long computation" in done.stderr


def test_what_ends_by_itself_is_let_go():
    done = _ended(
        """
with GracefulStop() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    while not stop.requested:
        pass
time.sleep(0.5)
""",
        seconds=0.2,
    )
    assert done.stdout == "alive\n" and done.returncode == 0


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


class _Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_loop_looks_up_about_once_a_second_and_stores_in_time():
    clock = _Clock()
    pause = Pause(GracefulStop(), clock=clock)
    looked, stored = [], []
    for _ in range(10_000):
        clock.now += 0.01
        before = pause._looked
        look = pause.look()
        if pause._looked != before:
            looked.append(clock.now)
        if look.store:
            pause.stored()
            stored.append(clock.now)
    gaps = [b - a for a, b in zip(looked, looked[1:], strict=False)]
    assert max(gaps) <= 1.01
    assert 100 <= len(looked) <= 120
    gaps = [b - a for a, b in zip([0.0, *stored], stored, strict=False)]
    assert len(gaps) == 2 and max(gaps) <= Pause.STORE_SECONDS + 1


def test_what_takes_long_to_store_is_stored_less_often():
    clock, stored = _Clock(), []
    pause = Pause(GracefulStop(), clock=clock)
    for _ in range(1000):
        clock.now += 1.0
        if pause.look().store:
            stored.append(clock.now)
            clock.now += 10.0
            pause.stored()
    # 45 s at first, then ten times what it took, beside that.
    assert [b - a for a, b in zip([0.0, *stored], stored, strict=False)][:4] == [
        *(45.0, 110.0, 110.0, 110.0)
    ]


def test_alone_a_signal_is_seen_at_once():
    stop = GracefulStop()
    pause = Pause(stop)
    pause.units = 1000
    assert pause.look() == Look(False, False)
    stop.signal = signal.SIGUSR2
    assert pause.look().stop
