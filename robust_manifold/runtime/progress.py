"""Progress with rate and time left: a bar on a terminal, now and then a log line."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import rich.progress

from robust_manifold.runtime import console, devices

_LINE_SECONDS = 10.0
_BAR_SECONDS = 0.2

SILENCE_SECONDS = 30.0
"""The longest that a log is without a line of what is being done."""
_BEAT_SECONDS = 5.0
"""How often a heartbeat looks whether a line is due."""

_TELLING = 0.05
"""Share of the work from which a rate says what the rest will take, where the work is
uneven or where nothing but a first update, with its compilation, has been timed."""

_OPEN: list["Progress"] = []
"""The loops that are reported on, the innermost last."""


class Work(NamedTuple):
    """Work of a loop whose units differ in what they cost, in any measure."""

    spent: float | int
    """What this process has done."""
    left: float | int
    """What is still to be done."""
    stored: float | int = 0
    """What an earlier process had done."""


class Progress:
    """Reports on a loop of known length.

        with Progress(4000, "fit_generator") as progress:
            for step in range(4000):
                ...
                progress.update(step + 1, g_loss=loss)

    The rate leaves out the first update, whose time goes to compilation, and counts
    only what this process has done.  Values may be JAX arrays: they are waited for
    only when they are printed.
    """

    def __init__(
        self,
        total: int,
        label: str,
        unit: str = "steps",
        *,
        start: int = 0,
        enabled: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Prepares the report; `with` starts it.

        Args:
          total: the loop's length in units.
          label: what is being done.
          unit: what is counted, in the plural.
          start: how many units an earlier process has done.
          enabled: whether to print; by default in the first process of a job.
          clock: returns seconds.
        """
        self._total = total
        self._label = label
        self._unit = unit
        self._start = self._done = start
        self._enabled = devices.is_primary() if enabled is None else enabled
        self._clock = clock
        self._values: dict[str, Any] = {}
        self._work: Work | None = None
        self._first: tuple[float | int, float] | None = None
        self._started = self._printed = clock()
        self._now = self._started
        self._bar: rich.progress.Progress | None = None
        self._task = rich.progress.TaskID(0)

    def update(self, done: int, *, work: Work | None = None, **values: Any) -> None:
        """Reports that `done` units of the total are done.

        Args:
          done: including those of earlier processes.
          work: what they cost, where units differ in it; the time left and the share
            that is done are then those of the work.
          **values: numbers or texts to show beside it.
        """
        self._done, self._values, self._now = done, values, self._clock()
        self._work = work
        if self._first is None and self._spent() > 0:
            self._first = self._spent(), self._now
        wait = _LINE_SECONDS if self._bar is None else _BAR_SECONDS
        if self._enabled and self._now - self._printed >= wait:
            self._print(self.line())

    def chunk(self, done: int, total: int, **values: Any) -> None:
        """Reports that `done` units of `total` are done, as `on_chunk` of long calls.

        with Progress(len(images), "attack", "images") as progress:
            attacks.craft(..., on_chunk=progress.chunk)
        """
        self._total = total
        self.update(done, **values)

    def line(self, *, final: bool = False, since: float = 0.0) -> str:
        """Returns the report: count, share, rate, time left or taken, and values.

        Args:
          final: whether the loop has ended.
          since: seconds that have gone by since the last update.
        """
        parts = [f"{self._done}/{self._total} {self._unit}", self._percent()]
        rate = self._rate()
        if rate and self._work is None:
            parts.append(f"{_number(rate)} {self._unit}/s")
        if final:
            parts.append(f"in {duration(self._now - self._started)}")
        elif (left := self._time_left()) is not None:
            late = since > left
            parts.append("later than told" if late else f"ETA {duration(left - since)}")
        elif since:
            parts.append(f"running for {duration(self._now + since - self._started)}")
        # A value that has to be waited for may never come while nothing goes on.
        shown = {k: v for k, v in self._values.items() if not since or _is_text(v)}
        if shown:
            pairs = shown.items()
            parts.append(" ".join(f"{name} {_number(value)}" for name, value in pairs))
        return "  ".join(parts)

    def beat(self) -> None:
        """Prints the report if the log has been without one for long."""
        now = self._clock()
        # As late as the next beat would be too late.
        if not self._enabled or now - self._printed <= SILENCE_SECONDS - _BEAT_SECONDS:
            return
        self._print(self.line(since=now - self._now), now)

    def _print(self, line: str, now: float | None = None) -> None:
        self._printed = self._now if now is None else now
        if self._bar is None:
            console.info(f"{self._label}  {line}")
        else:
            self._bar.update(
                self._task, completed=self._done, total=self._total, line=line
            )

    def __enter__(self) -> "Progress":
        if self._enabled and console.is_terminal():
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}", markup=False),
                rich.progress.BarColumn(),
                rich.progress.TextColumn("{task.fields[line]}", markup=False),
                console=console.CONSOLE,
                transient=True,
            )
            self._task = self._bar.add_task(
                self._label, total=self._total, completed=self._done, line=""
            )
            self._bar.start()
        _OPEN.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _OPEN.remove(self)
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._enabled and error is None and self._done > self._start:
            self._now = self._clock()
            console.info(f"{self._label}  {self.line(final=True)}")

    def _spent(self) -> float | int:
        return self._done - self._start if self._work is None else self._work.spent

    def _left(self) -> float | int:
        return self._total - self._done if self._work is None else self._work.left

    def _percent(self) -> str:
        """Returns the share that is done, of the work where that is told."""
        if self._work is None:
            return f"{100 * self._done // self._total if self._total else 100} %"
        total = sum(self._work)
        share = (self._work.spent + self._work.stored) / total if total else 1.0
        return f"{int(100 * share)} % of the work"

    def _rate(self) -> float | None:
        """Returns the work a second since the first update."""
        if self._first is None:
            return None
        done, seconds = self._spent() - self._first[0], self._now - self._first[1]
        return done / seconds if done > 0 and seconds > 0 else None

    def _time_left(self) -> float | None:
        """Returns the seconds that the rest will take; None where little is known."""
        spent, seconds = self._spent(), self._now - self._started
        known = spent >= _TELLING * (spent + self._left())
        rate = self._rate()
        if rate is not None and (known or self._work is None):
            return self._left() / rate
        # Compilation included: that is too much rather than too little.
        return self._left() * seconds / spent if known and spent and seconds else None


class Heartbeat:
    """Prints a line whenever a log has been silent for half a minute.

        with Heartbeat("report"):
            ...

    Inside of a `Progress` it is this one's report, and else that the work goes on.
    """

    def __init__(
        self,
        label: str,
        *,
        enabled: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Prepares it; `with` starts it.

        Args:
          label: what is being done.
          enabled: whether to print; by default in the first process of a job.
          clock: returns seconds.
        """
        self._label = label
        self._enabled = devices.is_primary() if enabled is None else enabled
        self._clock = clock
        self._started = self._printed = clock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self) -> None:
        """Prints a line if the log has been without one for long."""
        now = self._clock()
        # In one look: the loop may end meanwhile, in the thread that works.
        if loops := _OPEN[-1:]:
            loops[0].beat()
            self._printed = now
        elif now - self._printed > SILENCE_SECONDS - _BEAT_SECONDS:
            console.info(f"{self._label}  running for {duration(now - self._started)}")
            self._printed = now

    def __enter__(self) -> "Heartbeat":
        if self._enabled:
            self._thread = threading.Thread(
                target=self._go_on, name="heartbeat", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _go_on(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            self.beat()


def duration(seconds: float | int) -> str:
    """Returns a time in its two largest units.

    >>> duration(68), duration(7500), duration(0.4), duration(187_200)
    ('1 min 08 s', '2 h 05 min', '0 s', '2 d 04 h')
    """
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02} s"
    minutes = total // 60
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = minutes // 60
    return f"{hours // 24} d {hours % 24:02} h"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> str:
    """Returns three significant digits, whole numbers and texts in full."""
    if _is_text(value):
        return value
    value = float(value)
    if abs(value) >= 100 and abs(value) < 1e7:
        return f"{value:.0f}"
    return f"{value:.3g}"
