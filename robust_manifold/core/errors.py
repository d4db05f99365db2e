"""The error that a user's mistake raises: one sentence, fit to be printed alone."""

import difflib
from collections.abc import Iterable

_MANY = 30
"""Names beyond this number are too many for one sentence."""


class UsageError(ValueError):
    """A mistake of the user: the message names the field, the value, what is allowed.

    `robust_manifold.main` prints the message without a traceback and exits with
    code 2.
    """


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UsageError:
    """Returns the error for a name that is not among `known`, with the nearest one.

    Args:
      kind: what the name stands for, as the user would say it ("attack").
      name: what the user gave.
      known: the names that exist.
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(known)
    if len(known) > _MANY:
        closest = difflib.get_close_matches(str(name), known, n=4, cutoff=0)
        shown = f"{', '.join(closest)} and {len(known) - len(closest)} more"
    return UsageError(f"Unknown {kind} {name!r}; known: {shown}.{hint}")
