"""A run's stored config, as far as others than the run itself read it."""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from robust_manifold.config.experiment import NAMED, Experiment
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import is_whole


def check_stored(
    config: Mapping[str, Any], file: Path, needed: Collection[str] = ()
) -> None:
    """Raises a `UsageError` unless others can read a stored config.

    That of an older version has no checksum.  It may lack younger keys and hold some
    that the schema lacks, but what is a block now has to be one there, and nothing
    else may be, and the values that are read have to be what they are now.

    Args:
      config: from a file, with lists in place of tuples.
      file: for the message, which names the key, too.
      needed: keys that must be there at the top; those read of a block that is there
        are needed in any case.
    """
    _check(config, Experiment.defaults(), file, needed)


def _check(
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    file: Path,
    needed: Collection[str] = (),
    prefix: str = "",
) -> None:
    for name, default in defaults.items():
        place = prefix + name
        fits = _READ.get(re.sub(r"^classifiers\.[^.]+", "classifier", place))
        if name not in config:
            if name in needed or (prefix and fits):
                raise UsageError(f"{file} lacks {place!r}.")
            continue
        value, block = config[name], isinstance(default, Mapping)
        if isinstance(value, Mapping) != block or (fits and not fits(value)):
            raise UsageError(f"{file} is damaged: {place} is {value!r}.")
        if place in NAMED:
            default = dict.fromkeys(value, NAMED[place].defaults())
        if block:
            _check(value, default, file, prefix=f"{place}.")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_READ: Mapping[str, Callable[[Any], bool]] = {
    "seed": lambda value: is_whole(value, 0),
    "title": _is_text,
    "stages": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "data.source": _is_text,
    "classifier.training": _is_text,
    "evaluation.confidence": lambda value: isinstance(value, float) and 0 < value < 1,
}
"""What is read of a config, and whether a value is fit for it."""
