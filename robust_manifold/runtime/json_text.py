"""JSON with arrays' scalars and non-finite floats, and still valid JSON.

JSON has no NaN and no infinity: they are written as the texts "NaN", "Infinity"
and "-Infinity", and read back as floats.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Returns `value` as JSON; tuples and arrays become lists, paths texts.

    Args:
      value: a tree of mappings, sequences, arrays and scalars (NumPy's and JAX's
        too).
      indent: spaces per level; one line by default.

    Raises:
      TypeError: for a value that JSON cannot hold.
    """
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def loads(text: str | bytes) -> Any:
    """Returns the value that `dumps` wrote.

    Raises:
      ValueError: if `text` is not JSON, or brackets in brackets without an end.
    """
    try:
        return _with_floats(json.loads(text))
    except RecursionError:
        raise ValueError("JSON is nested too deeply.") from None


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "__array__"):
        return _plain(np.asarray(value).tolist())
    if hasattr(value, "__fspath__"):
        return str(value)
    raise TypeError(f"JSON cannot hold {value!r} of type {type(value).__name__}.")


def _with_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_floats(item) for item in value]
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value
