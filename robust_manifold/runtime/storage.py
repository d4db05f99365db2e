"""What the file system refuses: a full disk, a folder that cannot be written or read.

It is nobody's defect, and passes: one sentence says which file it was and why.
"""

import os
import re

from robust_manifold.core.errors import UsageError

_NUMBER = re.compile(r"\bos_error_code='(\d+)'")
"""As tensorstore, which orbax writes arrays by, tells the number of an error."""


class StorageError(UsageError):
    """A file can be neither written nor read; what is stored is kept."""


def refused(error: OSError, place: str | os.PathLike[str]) -> StorageError:
    """Returns the sentence for an error of the file system.

    Args:
      error: what was raised.
      place: the folder or file at work, for an error that names none.
    """
    return StorageError(
        f"{os.fsdecode(error.filename or place)} cannot be used "
        f"({error.strerror or error}): once that is mended, the same command goes on."
    )


def inside(error: BaseException, place: str | os.PathLike[str]) -> OSError | None:
    """Returns the error of the file system that a library's error tells of, if any.

    Libraries that write by themselves raise errors of their own, whose cause or whose
    text holds the system's.

    >>> inside(ValueError("No space left on device [os_error_code='28']"), "/x")
    OSError(28, 'No space left on device')
    >>> inside(ValueError("a shape"), "/x") is None
    True
    """
    passed: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in passed:
        passed.add(id(cause))
        if isinstance(cause, OSError):
            return cause
        if told := _NUMBER.search(str(cause)):
            number = int(told[1])
            return OSError(number, os.strerror(number), os.fspath(place))
        cause = cause.__cause__ or cause.__context__
    return None
