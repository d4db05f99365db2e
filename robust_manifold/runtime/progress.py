"""Progress with rate and time left: a bar on a terminal, now and then a log line."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import rich.progress

from robust_manifold.runtime import console, devices

_LINE_SECONDS = 10.0
_BAR_SECONDS = 0.2


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
        self._done = start
        self._enabled = devices.is_primary() if enabled is None else enabled
        self._clock = clock
        self._values: dict[str, Any] = {}
        self._first: tuple[int, float] | None = None
        self._started = self._printed = clock()
        self._now = self._started
        self._bar: rich.progress.Progress | None = None
        self._task = rich.progress.TaskID(0)

    def update(self, done: int, **values: Any) -> None:
        """Reports that `done` units of the total are done.

        Args:
          done: including those of earlier processes.
          **values: numbers or texts to show beside it.
        """
        self._done, self._values, self._now = done, values, self._clock()
        if self._first is None:
            self._first = done, self._now
        wait = _LINE_SECONDS if self._bar is None else _BAR_SECONDS
        if not self._enabled or self._now - self._printed < wait:
            return
        self._printed = self._now
        if self._bar is None:
            console.info(f"{self._label}  {self.line()}")
        else:
            self._bar.update(self._task, completed=done, line=self.line())

    def chunk(self, done: int, total: int) -> None:
        """Reports that `done` units of `total` are done, as `on_chunk` of long calls.

        with Progress(len(images), "attack", "images") as progress:
            attacks.craft(..., on_chunk=progress.chunk)
        """
        self._total = total
        self.update(done)

    def line(self, *, final: bool = False) -> str:
        """Returns the report: count, share, rate, time left or taken, and values."""
        percent = 100 * self._done // self._total if self._total else 100
        parts = [f"{self._done}/{self._total} {self._unit}", f"{percent} %"]
        rate = self._rate()
        if rate:
            parts.append(f"{_number(rate)} {self._unit}/s")
        if final:
            parts.append(f"in {duration(self._now - self._started)}")
        elif rate:
            parts.append(f"ETA {duration((self._total - self._done) / rate)}")
        if self._values:
            pairs = self._values.items()
            parts.append(" ".join(f"{name} {_number(value)}" for name, value in pairs))
        return "  ".join(parts)

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
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._enabled and error is None and self._first is not None:
            self._now = self._clock()
            console.info(f"{self._label}  {self.line(final=True)}")

    def _rate(self) -> float | None:
        if self._first is None:
            return None
        done, seconds = self._done - self._first[0], self._now - self._first[1]
        return done / seconds if done > 0 and seconds > 0 else None


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


def _number(value: Any) -> str:
    """Returns three significant digits, whole numbers and texts in full."""
    if isinstance(value, str):
        return value
    value = float(value)
    if abs(value) >= 100 and abs(value) < 1e7:
        return f"{value:.0f}"
    return f"{value:.3g}"
