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


class NoGradientError(UsageError):
    """An attack asks for the gradient of a function that JAX cannot differentiate."""


class FieldError(UsageError, TypeError):
    """A spec is built with fields that it does not have, or without those it needs."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UsageError:
    """Returns the error for a name that is not among `known`, with the nearest one.

    Args:
      kind: what the name stands for, as the user would say it ("attack").
      name: what the user gave.
      known: the names that exist.
    """
    known = sorted(known)
    near = nearest(name, known)
    hint = f" Did you mean {near!r}?" if near else ""
    shown = ", ".join(known) or "none"
    if len(known) > _MANY:
        closest = difflib.get_close_matches(str(name), known, n=4, cutoff=0)
        shown = f"{', '.join(closest)} and {len(known) - len(closest)} more"
    return UsageError(f"Unknown {kind} {name!r}; known: {shown}.{hint}")


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Returns the known name that `name` shortens, or is most like; or None.

    >>> nearest("epsilom", ["epsilon", "steps"]), nearest("eps", ["epsilon", "steps"])
    ('epsilon', 'epsilon')
    """
    known = list(known)
    shortened = [one for one in known if name and one.startswith(str(name))]
    alike = difflib.get_close_matches(str(name), known, n=1)
    return next(iter(shortened[:1] if len(shortened) == 1 else alike), None)
