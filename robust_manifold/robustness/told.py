"""How far an evaluation has come: a bar, lines of a log, a function, or nothing."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, TypeAlias

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import console
from robust_manifold.runtime.progress import Progress

OnProgress: TypeAlias = Callable[[int, int, str], None] | Literal["print"] | None
"""Is called with what is done, how much there is, and what is being done."""


class Tell(Protocol):
    """Tells how far something has come."""

    def __call__(self, done: int, doing: str, of: int = ...) -> None:
        """Takes the units that are done, what was done last, and units in all."""


def check(on_progress: Any) -> None:
    """Raises a `UsageError` for what is no way to tell of progress."""
    if on_progress is None or on_progress == "print" or callable(on_progress):
        return
    raise UsageError(
        f"on_progress is {on_progress!r}; allowed: 'print', None, or a function of "
        "(done, of, doing)."
    )


@contextlib.contextmanager
def telling(
    on_progress: OnProgress, label: str, of: int, unit: str, *, start: int = 0
) -> Iterator[Tell]:
    """Yields what is called with the units that are done, and what was done last.

    Args:
      on_progress: as for `evaluate`.
      label: what is being done.
      of: units in all.
      unit: what is counted, in the plural.
      start: units that were done before.
    """
    if on_progress is None:
        yield lambda done, doing, of=of: None
    elif callable(on_progress):
        yield lambda done, doing, of=of: on_progress(done, of, doing or label)
    else:
        with console.printed(), Progress(of, label, unit, start=start) as progress:

            def tell(done: int, doing: str, of: int = of) -> None:
                values: dict[str, Any] = {"by": doing} if doing else {}
                progress.chunk(done, of, **values)

            yield tell
