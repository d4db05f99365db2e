"""A look at a classifier's program: which of its operations no gradient passes."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from robust_manifold.evaluation.audits.check import Check, judged

OPERATIONS = "operations"

_CALLBACKS = ("pure_callback", "io_callback", "buffer_callback")

_NOTED = {
    "random_bits": "random_bits",
    "threefry2x32": "random_bits",
    "scan": "scan",
    "while": "while",
    "stop_gradient": "stop_gradient",
    "round": "round",
    "floor": "floor",
    "ceil": "ceil",
    "sign": "sign",
    "argmax": "argmax",
    "argmin": "argmin",
    **dict.fromkeys(_CALLBACKS, "callback"),
}
"""Operations to be told of, by the names of JAX's primitives."""

_BLOCKING = ("stop_gradient", "round", "floor", "ceil", "sign", "while", *_CALLBACKS)
"""Those with float results whose derivative is zero, or missing."""

_UNSEEN = " What a callback computes is not looked into."

_NONE, _DEPENDS, _CARRIES = 0, 1, 2
"""How a value depends on the image: not at all, without a gradient, with one."""


class Program(NamedTuple):
    """What a function's program holds.

    Attributes:
      operations: how often each of the noted operations is written; loops count once.
      carries: whether some path from the image to the result passes a gradient.
      depends: whether the result depends on the image at all.
    """

    operations: dict[str, int]
    carries: bool
    depends: bool


def scan_program(function: Callable[..., Any], image: Any, *more: Any) -> Program:
    """Returns the noted operations of a function, and whether it passes gradients.

    Nothing is computed.

    Args:
      function: of an image first.
      image: an array, or its shape and type.
      *more: further arguments, which count as constants.
    """
    closed = jax.make_jaxpr(function)(image, *more)
    found: Counter[str] = Counter()
    leaves = len(jax.tree.leaves(more))
    levels = _follow(closed.jaxpr, [_CARRIES] + [_NONE] * leaves, found)
    counts = dict(sorted(found.items()))
    return Program(counts, _CARRIES in levels, max(levels, default=_NONE) > _NONE)


def passable(program: Program, what: str) -> Check:
    """Returns whether a gradient comes from the logits to the image.

    Args:
      program: of `scan_program`.
      what: the function, as the sentence says it.
    """
    told = ", ".join(f"{name} ({count})" for name, count in program.operations.items())
    held = f"The program of {what} holds {told}" if told else ""
    blocked = not program.carries
    counted = ("argmax", "callback", *_BLOCKING)
    count = sum(program.operations.get(name, 0) for name in counted)
    if blocked:
        return judged(
            True,
            OPERATIONS,
            float(count),
            f"{held or f'In the program of {what}'}: no path from the image to the "
            "logits passes a gradient. Attack it through a differentiable view, and "
            "without gradients.",
        )
    if not told:
        return judged(
            False,
            OPERATIONS,
            0.0,
            f"The program of {what} holds nothing that stops or blurs a gradient.",
        )
    return judged(
        False,
        OPERATIONS,
        float(count),
        f"{held}; some path from the image to the logits passes a gradient."
        f"{_UNSEEN if 'callback' in program.operations else ''}",
    )


def _follow(jaxpr: Any, levels: Sequence[int], found: Counter[str]) -> list[int]:
    """Returns how the results depend on the image, and counts operations on the way.

    Args:
      jaxpr: a program.
      levels: how its arguments depend on the image.
      found: the counts, added to.
    """
    known = dict(zip(jaxpr.invars, levels, strict=True))

    def level(value: Any) -> int:
        return _NONE if isinstance(value, core.Literal) else known.get(value, _NONE)

    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in _NOTED:
            found[_NOTED[name]] += 1
        given = [level(value) for value in equation.invars]
        for value, result in zip(
            equation.outvars, _results(equation, given, found), strict=True
        ):
            known[value] = result
    return [level(value) for value in jaxpr.outvars]


def _results(equation: Any, given: list[int], found: Counter[str]) -> list[int]:
    """Returns how the results of one operation depend on the image."""
    name, params = equation.primitive.name, equation.params
    if name == "scan":
        levels = _loop(params, given, found)
    elif name == "cond":
        branches = [_follow(b.jaxpr, given[1:], found) for b in params["branches"]]
        levels = [max(each) for each in zip(*branches, strict=True)]
    else:
        inner = _inner(params)
        own_rule = name.startswith("custom_")
        if inner is not None and len(inner.invars) == len(given):
            levels = _follow(inner, given, found)
            if own_rule:
                # Its derivative is the user's, whatever the program inside.
                levels = [max(given, default=_NONE)] * len(equation.outvars)
        else:
            levels = [max(given, default=_NONE)] * len(equation.outvars)
            if inner is not None:
                _follow(inner, [_NONE] * len(inner.invars), found)
    if name in _BLOCKING:
        levels = [min(each, _DEPENDS) for each in levels]
    # What is not a float (a choice, a comparison) passes no gradient on.
    return [
        each if _is_float(value) else min(each, _DEPENDS)
        for each, value in zip(levels, equation.outvars, strict=True)
    ]


def _loop(params: dict[str, Any], given: list[int], found: Counter[str]) -> list[int]:
    """Returns how the results of a scan depend on the image."""
    constants, carried = params["num_consts"], params["num_carry"]
    given = list(given)
    body = params["jaxpr"].jaxpr
    while True:
        counted: Counter[str] = Counter()
        levels = _follow(body, given, counted)
        after = [
            max(old, new)
            for old, new in zip(
                given[constants : constants + carried], levels[:carried], strict=True
            )
        ]
        if after == given[constants : constants + carried]:
            found.update(counted)
            return levels
        given[constants : constants + carried] = after


def _inner(params: dict[str, Any]) -> Any:
    """Returns the program that an operation calls, or None."""
    for value in jax.tree.leaves(params, is_leaf=lambda v: isinstance(v, core.Jaxpr)):
        value = getattr(value, "jaxpr", value)
        if isinstance(value, core.Jaxpr):
            return value
    return None


def _is_float(value: Any) -> bool:
    dtype = getattr(value.aval, "dtype", None)
    return dtype is not None and jax.numpy.issubdtype(dtype, jax.numpy.inexact)
