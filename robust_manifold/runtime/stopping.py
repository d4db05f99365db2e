"""How a run ends before its time: asked to stop by a signal, or by divergence."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from robust_manifold.runtime.devices import any_process


class Interrupted(RuntimeError):
    """The run was asked to stop and has saved what is there."""

    state = "interrupted"


class Diverged(RuntimeError):
    """Training gave a non-finite loss; the message says where."""

    state = "diverged"


class GracefulStop:
    """Turns the first SIGTERM or SIGINT into a flag that loops poll.

    A loop that sees `requested` saves its state and raises `Interrupted`.  A second
    signal ends the process at once.  Outside the main thread, where Python allows
    no handlers, the flag is never set.

        with GracefulStop() as stop:
            for step in range(steps):
                ...
                if stop.requested:
                    save(step)
                    raise Interrupted(f"stopped at step {step}")
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether any process of the job was asked to stop.

        In a job of several processes this is a collective: all of them must poll at
        the same places, and all see the same answer.
        """
        return any_process(self.signal is not None)

    def __enter__(self) -> "GracefulStop":
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.signal = signal.Signals(number)
        # The handler may have interrupted a print: only a bare write is safe here.
        message = f"\n{self.signal.name}: saving and stopping; once more to kill.\n"
        os.write(2, message.encode())
