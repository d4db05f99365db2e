"""Ticks of logarithmic axes."""

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, NullFormatter

_NARROW = 0.4  # decades that may hold none of 1, 2 and 5 times a power of ten
_WIDE = 2.2  # decades from which on only powers of ten are labelled


def label_between(axis: Axis, limits: tuple[float, float], form: str) -> None:
    """Labels 2 and 5 between powers of ten where these are few, or else any tick.

    Args:
      axis: a logarithmic one.
      limits: its ends.
      form: of the numbers, for `format`.
    """
    decades = np.log10(limits[1] / limits[0])

    def between(x: float, _: int) -> str:
        leading = round(x / 10 ** np.floor(np.log10(x) + 1e-9))
        return format(x, form) if leading in (2, 5) or decades < _NARROW else ""

    few = decades < _WIDE
    axis.set_minor_formatter(FuncFormatter(between) if few else NullFormatter())
