"""How much memory a function needs, estimated from its trace, and how much there is."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from robust_manifold.core.once import of_jaxpr

_CPU_BUDGET = 1 << 30
"""Bytes for one chunk on a CPU; larger chunks were no faster (docs/performance.md)."""
_ACCELERATOR_SHARE = 0.5
"""Share of a device's memory for one chunk: parameters and results lie there too."""


def budget() -> int:
    """Returns how many bytes one chunk may take on each device."""
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit and device.platform != "cpu":
        return int(_ACCELERATOR_SHARE * limit)
    return _CPU_BUDGET


def peak_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """Returns an estimate of the bytes that `function` takes beside its arguments.

    It is the largest sum of what is alive at a time if nothing is fused; scratch space
    of single operations is not in it.

    Args:
      function: hashable; traced once for arguments of these shapes.
      *arguments: trees of arrays or `jax.ShapeDtypeStruct`.
    """
    return of_jaxpr(_peak_of, function, *arguments)


def _peak_of(closed: Any) -> int:
    return _peak(closed.jaxpr)


def _peak(jaxpr: Any) -> int:
    """Returns the largest sum of live results, arguments not counted."""
    last_use = {
        var: place
        for place, equation in enumerate(jaxpr.eqns)
        for var in equation.invars
        if isinstance(var, core.Var)
    }
    last_use |= {var: len(jaxpr.eqns) for var in jaxpr.outvars if _is_var(var)}
    dying: dict[int, list[Any]] = {}
    live = peak = 0
    for place, equation in enumerate(jaxpr.eqns):
        results = sum(map(_bytes, equation.outvars))
        inner = max((_peak(inner) for inner in _inner(equation)), default=0)
        peak = max(peak, live + results + inner)
        live += results
        for var in equation.outvars:
            dying.setdefault(last_use.get(var, place), []).append(var)
        live -= sum(map(_bytes, dying.pop(place, [])))
    return peak


def _inner(equation: Any) -> list[Any]:
    """Returns the bodies of loops, branches and calls."""
    bodies = []
    for value in equation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            part = getattr(part, "jaxpr", part)
            if isinstance(part, core.Jaxpr):
                bodies.append(part)
    return bodies


def _is_var(var: Any) -> bool:
    return isinstance(var, core.Var)


def _bytes(var: Any) -> int:
    aval = var.aval
    size = math.prod(getattr(aval, "shape", ()))
    return size * getattr(getattr(aval, "dtype", None), "itemsize", 4)
