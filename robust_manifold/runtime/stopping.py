"""How a run ends before its time: asked to stop by a signal, or by divergence."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from robust_manifold.runtime import devices


class Interrupted(RuntimeError):
    """The run was asked to stop and has saved what is there."""

    state = "interrupted"


class Diverged(RuntimeError):
    """Training gave a non-finite loss; the message says where."""

    state = "diverged"


class GracefulStop:
    """Turns the first signal to stop into a flag that loops poll.

    A loop that sees `requested` saves its state and raises `Interrupted`.  Where none
    does in time, because a program or a compilation takes long, the process is ended
    as it is: what was stored before is whole.  A second signal ends it at once.  A
    signal that was ignored, as by nohup, stays so.  In a job all processes stop by the
    signal of any.  Outside the main thread, where Python allows no handlers, the flag
    is never set.

        with GracefulStop() as stop:
            for step in range(steps):
                ...
                if stop.requested:
                    save(step)
                    raise Interrupted(f"stopped at step {step}")
    """

    SIGNALS = (
        *(signal.SIGTERM, signal.SIGINT),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP),
    )
    SECONDS = 8.0
    """From a signal to the end of a process that has not ended by itself."""
    ONE_SECONDS = 1.0
    """Signals within it count as one."""
    OTHERS_SECONDS = 3.0
    """From the end of another process of the job to that of this one."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._wakeup = -1
        self._pipe = (-1, -1)
        self._watcher: threading.Thread | None = None

    @property
    def requested(self) -> bool:
        """Whether any process of the job was asked to stop.

        In a job of several processes this is a collective: all of them must poll at
        the same places, and all see the same answer.
        """
        return self.agree(int(devices.gathered([self.signal or 0]).max()))

    def agree(self, number: int) -> bool:
        """Returns whether there was a signal, 0 for none, in any process of the job."""
        if number:
            self._receive(number)
        return number > 0

    def __enter__(self) -> "GracefulStop":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        for number in self.SIGNALS:
            # What is not Python's, None, could not be put back.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._previous[number] = signal.signal(number, self._receive)
        # Python's own handlers wait until a program returns.
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._watch, name="stop", daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._watcher is None:
            return
        signal.set_wakeup_fd(self._wakeup)
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()
        os.write(self._pipe[1], b"\0")
        self._watcher.join()
        self._watcher = None
        for end in self._pipe:
            os.close(end)

    def _receive(self, number: int, frame: FrameType | None = None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)

    def _watch(self) -> None:
        """Ends the process some time after the first signal, or at the second."""
        deadline, first = float("inf"), None
        others, ended = devices.Watch(), 0.0
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self._pipe[0]], [], [], min(left, 1.0))
            numbers = os.read(self._pipe[0], 64) if ready else b""
            if 0 in numbers:
                return
            # Python writes the numbers of all signals that it has handlers for.
            own = [number for number in numbers if number in self._previous]
            if own:
                # One request may come twice, as from a shell's job control.
                first = first or time.monotonic()
                if time.monotonic() - first > self.ONE_SECONDS:
                    _end(own[-1])
            number = own[0] if own else self.signal or devices.heard()
            if not ended and (reason := others.lost(time.monotonic())):
                # Whoever makes the same mistake says so itself.
                ended = time.monotonic() + self.OTHERS_SECONDS
                ended += 2.0 if devices.is_primary() else 0.0
                _say(f"robust_manifold: {reason}.")
            if ended and time.monotonic() > ended:
                os._exit(1)
            if number and deadline == float("inf"):
                deadline = time.monotonic() + self._seconds()
                self._notice(number, tell=bool(own))
        assert self.signal is not None
        _say(f"{self.signal.name}: ended within a long computation.")
        _end(self.signal)

    def _seconds(self) -> float:
        # The first process of a job keeps the others together, so it ends last.
        return self.SECONDS if devices.is_primary() else self.SECONDS - 1.5

    def _notice(self, number: int, *, tell: bool) -> None:
        self._receive(number)
        assert self.signal is not None
        _say(f"{self.signal.name}: saving and stopping; once more to kill.")
        if tell:
            devices.tell(number)


def _say(text: str) -> None:
    # Whatever Python is about, such as a print: only a bare write is safe here.
    os.write(2, f"\n{text}\n".encode())


def _end(number: int) -> None:
    if sys.stderr.isatty():
        # A progress bar has hidden the cursor.
        os.write(2, b"\x1b[?25h")
    os._exit(128 + number)


class Look(NamedTuple):
    """What a loop has to do now, in all processes of a job alike."""

    stop: bool
    """Whether to save what there is and to end."""
    store: bool
    """Whether to save what there is: long enough has nothing been saved."""


class Pause:
    """When a loop looks up from its work: once a second, in all processes alike.

    What is lost by a process that is killed is what it did since it last stored.
    """

    STORE_SECONDS = 45.0

    def __init__(
        self, stop: GracefulStop, *, clock: Callable[[], float] = time.monotonic
    ):
        """Takes what tells of signals, and what returns seconds."""
        self._stop, self._clock = stop, clock
        self._looked = self._stored = clock()
        self._cost, self._count = 0.0, 0
        self.units = 1
        """How much may be done until the next look, in the loop's own units."""

    def restart(self) -> None:
        """Prepares for units that take another time."""
        self.units, self._count, self._looked = 1, 0, self._clock()

    def look(self, units: int | None = 1) -> Look:
        """Returns what to do after so many units more; None for one that was long."""
        self._count += units or 0
        alone = devices.alone() and self._stop.signal is not None
        if units is not None and self._count < self.units and not alone:
            return Look(False, False)
        now = self._clock()
        told = devices.gathered(
            [
                self._stop.signal or 0,
                now - self._looked,
                now - self._stored >= max(self.STORE_SECONDS, 10 * self._cost),
            ]
        )
        stop = self._stop.agree(int(told[:, 0].max()))
        # The first process decides for all.
        seconds, store = float(told[0, 1]), bool(told[0, 2])
        if units is not None:
            rate = self._count / max(seconds, 1e-6)
            self.units = max(1, min(int(rate), 2 * self.units))
            self._count = 0
        self._looked = now
        return Look(stop, store)

    def stored(self) -> None:
        """Is told that what the last look asked for has been stored."""
        now = self._clock()
        # What takes long to store is stored less often.
        self._cost = now - self._looked
        self._stored = self._looked = now
