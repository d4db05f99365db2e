"""Specs: frozen dataclasses that check their own fields, named in a registry.

A component is written in a config as a call with literal arguments, for instance
``"pgd(epsilon=0.3, steps=40)"``; an argument may be a component of another kind, as
in ``"invert_and_classify(solver=adam(steps=100))"``.  `Registry.build` turns the text
into its spec and `to_string` turns a spec back.  `stream_name` is the same text with
the first names of the class and its fields: random streams are named by it.  Equal
specs hash alike, so that a compiled function taking one as a static argument is
compiled once.
"""

import ast
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from robust_manifold.core.errors import (
    FieldError,
    UsageError,
    nearest,
    unknown_name,
)

T = TypeVar("T")
C = TypeVar("C", bound=type)


_LONGEST = 10_000
_DEEPEST = 32
"""A text that is longer, or whose brackets are nested deeper, is no spec."""

_LONGEST_SHOWN = 200
"""Characters of a text that an error quotes."""

_REGISTRIES: dict[Any, "Registry[Any]"] = {}
"""The registry of every registered class: specs may hold specs of another kind."""


class _FirstNames(NamedTuple):
    """The names that a class and its fields had at first; see `Registry.register`."""

    name: str
    fields: Mapping[str, str]


class Registry(Generic[T]):
    """The specs of one kind, by the names that configs use.

    >>> attacks = Registry("attack")
    >>> @attacks.register("noise")
    ... @dataclasses.dataclass(frozen=True)
    ... class Noise:
    ...     epsilon: float
    >>> attacks.build("noise(epsilon=0.1)")
    Noise(epsilon=0.1)
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._classes: dict[str, Callable[..., T]] = {}
        self._names: dict[Any, str] = {}
        self._first_names: dict[Any, _FirstNames] = {}

    @property
    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self._classes)

    def __getitem__(self, name: str) -> Callable[..., T]:
        if name not in self._classes:
            raise unknown_name(self.kind, name, self._classes)
        return self._classes[name]

    def register(
        self,
        name: str,
        *,
        first_name: str | None = None,
        first_fields: Mapping[str, str] | None = None,
    ) -> Callable[[C], C]:
        """Returns the decorator that enters a frozen dataclass under `name`.

        Args:
          name: what configs write.
          first_name: the first name it was registered under, if it has been renamed.
          first_fields: the first names of those fields that have been renamed, by the
            names that they have now.
        """
        first = _FirstNames(first_name or name, first_fields or {})

        def enter(cls: C) -> C:
            if name in self._classes:
                raise ValueError(f"The {self.kind} {name!r} is registered twice.")
            for field in first.fields:
                if field not in {f.name for f in dataclasses.fields(cls)}:
                    raise ValueError(f"{cls.__name__} has no field {field!r}.")
            self._first_names[cls] = first
            self._classes[name] = with_checked_fields(cls)
            self._names[cls] = name
            _REGISTRIES[cls] = self
            return cls

        return enter

    def build(self, text: str) -> T:
        """Returns the spec that `text` describes.

        Args:
          text: a registered name, or a call of it with literal arguments.  An argument
            that is a name or a call itself is handed on as a text.

        Raises:
          UsageError: for an unknown name or field, an argument that is none of these
            or has another type than the field, or a value that the spec itself
            refuses.
        """
        name, args, kwargs = _parse(self.kind, text)
        cls = self[name]
        fields = [f for f in dataclasses.fields(cls) if f.init]  # type: ignore[arg-type]
        positional = [f.name for f in fields if not f.kw_only]
        if len(args) > len(positional):
            raise UsageError(
                f"{self.kind} {text!r} has {len(args)} arguments; "
                f"{name} takes at most {len(positional)} without their names."
            )
        given = dict(zip(positional, args, strict=False))
        for key, value in kwargs.items():
            if key not in {f.name for f in fields}:
                raise unknown_name(
                    f"argument of the {self.kind} {name!r}:",
                    key,
                    [f.name for f in fields],
                )
            if key in given:
                raise UsageError(f"{self.kind} {text!r} gives {key!r} twice.")
            given[key] = value
        hints = typing.get_type_hints(cls)
        for field in fields:
            if field.name in given:
                given[field.name] = _typed(
                    f"{name}.{field.name}", given[field.name], hints[field.name]
                )
            elif (
                field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            ):
                raise UsageError(
                    f"{self.kind} {text!r} lacks the argument {field.name!r}."
                )
        return cls(**given)

    def name_of(self, spec: T) -> str:
        """Returns the registered name of a spec's class."""
        return self._names[type(spec)]

    def to_string(self, spec: T) -> str:
        """Returns the shortest text that `build` turns into `spec`."""
        return self._written(spec, _FirstNames(self.name_of(spec), {}), "to_string")

    def stream_name(self, spec: T) -> str:
        """Returns what random streams of `spec` are named by.

        That is its text with the first names of its class and its fields, so that a
        class or a field can be renamed, and every random number stays what it was.

        >>> attacks = Registry("attack")
        >>> @attacks.register("blur", first_name="soften", first_fields={"width": "w"})
        ... @dataclasses.dataclass(frozen=True)
        ... class Blur:
        ...     width: float
        >>> attacks.to_string(Blur(2.0)), attacks.stream_name(Blur(2.0))
        ('blur(width=2.0)', 'soften(w=2.0)')
        """
        return self._written(spec, self._first_names[type(spec)], "stream_name")

    def _written(self, spec: T, names: "_FirstNames", method: str) -> str:
        """Returns the text of a spec; those in its fields are written by `method`."""
        arguments = []
        for field in dataclasses.fields(spec):  # type: ignore[arg-type]
            value = getattr(spec, field.name)
            if field.init and value != field.default:
                nested = _REGISTRIES.get(type(value))
                text = getattr(nested, method)(value) if nested else repr(value)
                arguments.append(f"{names.fields.get(field.name, field.name)}={text}")
        return f"{names.name}({', '.join(arguments)})" if arguments else names.name


def _misfit(cls: Any, args: tuple, kwargs: dict[str, Any]) -> FieldError | None:
    """Returns the error for arguments that are not the fields of a dataclass."""
    fields = [field for field in dataclasses.fields(cls) if field.init]
    names = [field.name for field in fields]
    allowed = ", ".join(names) if names else "none"
    positional = [field.name for field in fields if not field.kw_only]
    for name in kwargs:
        if name in positional[: len(args)]:
            return FieldError(f"{cls.__name__} is given the field {name!r} twice.")
        if name not in names:
            near = nearest(name, names)
            hint = f" Did you mean {near!r}?" if near else ""
            return FieldError(
                f"{cls.__name__} has no field {name!r}; allowed: {allowed}.{hint}"
            )
    if len(args) > len(positional):
        return FieldError(
            f"{cls.__name__} is given {len(args)} values without their names; "
            f"allowed: at most {len(positional)}, {', '.join(positional)}."
        )
    given = {*positional[: len(args)], *kwargs}
    for field in fields:
        free = field.default is field.default_factory is dataclasses.MISSING
        if free and field.name not in given:
            return FieldError(
                f"{cls.__name__} lacks the field {field.name!r}; allowed: {allowed}."
            )
    return None


def _parse(kind: str, text: Any) -> tuple[str, list[Any], dict[str, Any]]:
    """Splits 'name(1, a=2)' into its name and its arguments; see `_argument`."""
    if not isinstance(text, str):
        raise UsageError(
            f"{kind} is {text!r}; allowed: a text such as 'name(argument=1)'."
        )
    try:
        if len(text) > _LONGEST or _depth(text) > _DEEPEST:
            raise ValueError
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, [], {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            args = [_argument(arg) for arg in node.args]
            kwargs = {k.arg: _argument(k.value) for k in node.keywords}
            if None not in kwargs and len(kwargs) == len(node.keywords):
                return node.func.id, args, kwargs  # type: ignore[return-value]
    # Python's parser raises the last two for many signs in a row.
    except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
        pass
    shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
    raise UsageError(
        f"{kind} {shown!r} cannot be read; allowed: a name, or a call with plain "
        "values such as 'name(argument=1)'."
    )


def _depth(text: str) -> int:
    """Returns how deep the brackets of a text are nested."""
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _argument(node: ast.expr) -> Any:
    """Returns a literal's value, and a name or a call as its text, never run."""
    if isinstance(node, ast.Name | ast.Call):
        return ast.unparse(node)
    return ast.literal_eval(node)


def _typed(field: str, value: Any, hint: Any) -> Any:
    """Returns `value` as the type `hint`; integers pass for floats, nothing else."""
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value not in choices:
            raise unknown_name(f"value of {field}:", value, map(str, choices))
        return value
    if origin in (typing.Union, types.UnionType):
        for choice in choices:
            try:
                return _typed(field, value, choice)
            except UsageError:
                continue
        allowed = " or ".join(_type_name(choice) for choice in choices)
        raise UsageError(f"{field} is {value!r}; allowed: {allowed}.")
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UsageError(f"{field} is too large; allowed: {hint}.") from None
    expected = origin or hint
    wrong_bool = isinstance(value, bool) and expected is not bool
    if wrong_bool or not isinstance(value, expected):
        raise UsageError(f"{field} is {value!r}; allowed: {_type_name(hint)}.")
    return value


def _type_name(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "a bool"}
    names |= {type(None): "None", tuple: "a tuple"}
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    return names.get(hint) or names.get(typing.get_origin(hint)) or name


def is_whole(value: Any, least: int) -> bool:
    """Returns whether a value is a whole number of at least `least`, and no bool.

    NumPy's and JAX's scalars are numbers, too.
    """
    value = plain(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and value >= least


def plain(value: Any) -> Any:
    """Returns NumPy's and JAX's scalars as Python's, anything else as it is.

    >>> plain(np.int64(3)), plain(jnp.asarray(0.5)), plain((np.float64(1.0), None))
    (3, 0.5, (1.0, None))
    """
    if type(value) is tuple:
        return tuple(map(plain, value))
    if isinstance(value, Tracer) or not isinstance(
        value, np.generic | np.ndarray | jax.Array
    ):
        return value
    scalar = value.ndim == 0 and not jnp.issubdtype(value.dtype, jax.dtypes.extended)
    return value.item() if scalar else value


def with_checked_fields(cls: C) -> C:
    """Returns a dataclass that names its fields where it is built with others.

    What it is made with passes through `plain`: equal specs are equal, and written
    alike, whatever library their numbers come from.  A bool is no number, and 5.0 is
    no whole one.  Then come the checks of its own, then that all numbers are some.

    >>> @with_checked_fields
    ... @dataclasses.dataclass(frozen=True)
    ... class Noise:
    ...     epsilon: float
    >>> Noise(eps=0.1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    robust_manifold.core.errors.FieldError: Noise has no field 'eps'; allowed...
    """
    make = cls.__init__
    signature = inspect.signature(make)

    @functools.wraps(make)
    def init(self, *args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise _misfit(cls, args, kwargs) or error from error
        own, *_ = signature.parameters
        given = {k: plain(v) for k, v in bound.arguments.items() if k != own}
        # The class's own checks would say how large a number it wants, not which kind.
        kinds = {k: v for k, v in given.items() if isinstance(v, bool | float)}
        _check_numbers(type(self), kinds)
        try:
            make(self, **given)
        except TypeError:
            # A text cannot be compared with a number.
            _check_numbers(type(self), vars(self))
            raise
        _check_numbers(type(self), vars(self))

    cls.__init__ = init  # type: ignore[misc]
    return cls


def _check_numbers(cls: type, values: Mapping[str, Any]) -> None:
    """Raises a `UsageError` for a number field whose value is no number."""
    for name, hint in _number_hints(cls).items():
        if name in values:
            _typed(f"{cls.__name__}.{name}", values[name], hint)


@functools.cache
def _number_hints(cls: type) -> dict[str, Any]:
    """Returns the fields of a dataclass that hold a number, or a number or None."""
    try:
        hints = typing.get_type_hints(cls)
    # The hints name what only type checkers know, or a function's own variable.
    except NameError:
        return {}
    names = [f.name for f in dataclasses.fields(cls) if f.init]  # type: ignore[arg-type]
    numbers = (int, float, type(None))
    return {
        name: hints[name]
        for name in names
        if all(
            choice in numbers
            for choice in typing.get_args(hints[name]) or (hints[name],)
        )
    }


def check(holds: bool, spec: Any, field: str, allowed: str) -> None:
    """Raises a `UsageError` that names the field of `spec`, unless `holds`.

    Args:
      holds: the condition on the field.
      spec: the dataclass instance being checked, usually in `__post_init__`.
      field: the field's name.
      allowed: what is allowed, to end the sentence "...; allowed: ...".
    """
    if not holds:
        value = getattr(spec, field)
        raise UsageError(
            f"{type(spec).__name__}.{field} is {value!r}; allowed: {allowed}."
        )
