"""How a config's keys are written: as the fields of frozen dataclasses.

A block of a config is a `Block`, and a key of it a field made by `key`, which holds the
default, the meaning, and how the value is read.  The defaults, the flags, the checks of
types and the text of --help all come from these fields.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, get_type_hints

import ml_collections

from robust_manifold.core.errors import UsageError, unknown_name

T = TypeVar("T")
B = TypeVar("B", bound="Block")
_KEY = "key"


class Key(NamedTuple):
    """A key of a config."""

    default: Any
    """As a config holds it: a plain value, the text of a component, or texts."""
    meaning: str
    build: Callable[[Any], Any] | None = None
    """Returns the field's value of the key's; None: it is the same."""
    name: str = ""
    """What a config calls the field; empty: by its own name."""
    block: "type[Block] | None" = None
    """What each value of a mapping by names is; None: the key is no such mapping."""


def key(
    default: Any,
    meaning: str,
    build: Callable[[Any], Any] | None = None,
    *,
    name: str = "",
    block: "type[Block] | None" = None,
) -> Any:
    """Returns the field of a block that a key of the config sets; see `Key`."""
    made = Key(default, meaning, build, name, block)
    return dataclasses.field(metadata={_KEY: made})


class Block:
    """Base class of a config's blocks: subclasses are frozen, keyword-only dataclasses.

    A field that is neither made by `key` nor a block itself is no key of the config.
    """

    @classmethod
    def entries(cls) -> "Iterator[tuple[str, str, Key | type[Block]]]":
        """Yields each field's name, its key's name, and the key or the block."""
        hints = get_type_hints(cls)
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            hint = hints[field.name]
            if (made := field.metadata.get(_KEY)) is not None:
                yield field.name, made.name or field.name, made
            elif isinstance(hint, type) and issubclass(hint, Block):
                yield field.name, field.name, hint

    @classmethod
    def keys(cls, prefix: str = "") -> dict[str, Key]:
        """Returns every key, by its dotted name, in the order of the fields."""
        found: dict[str, Key] = {}
        for _, name, entry in cls.entries():
            if isinstance(entry, Key):
                found[prefix + name] = entry
            else:
                found |= entry.keys(f"{prefix}{name}.")
        return found

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Returns the defaults of all keys as nested dictionaries."""
        return {
            name: _copied(entry.default) if isinstance(entry, Key) else entry.defaults()
            for _, name, entry in cls.entries()
        }

    @classmethod
    def build(cls: type[B], values: Mapping[str, Any], place: str = "") -> B:
        """Returns the block that a config's values describe.

        Args:
          values: of all keys, as plain values.
          place: the block's dotted name, for what is said of a mistake.

        Raises:
          UsageError: for a value that its component or the block refuses; the sentence
            names the place.
        """
        built = {}
        for field, name, entry in cls.entries():
            where = f"{place}.{name}" if place else name
            if not isinstance(entry, Key):
                built[field] = entry.build(values[name], where)
            elif (block := entry.block) is not None:
                built[field] = {
                    named: block.build(value, f"{where}.{named}")
                    for named, value in values[name].items()
                }
            elif entry.build is not None:
                built[field] = _located(where, entry.build, values[name])
            else:
                built[field] = values[name]
        return _located(place, lambda fields: cls(**fields), built)


def _copied(default: Any) -> Any:
    return dict(default) if isinstance(default, dict) else default


def _located(place: str, builder: Callable[[Any], T], value: Any) -> T:
    try:
        return builder(value)
    except UsageError as error:
        if not place:
            raise
        raise UsageError(f"config.{place}: {error}") from None


TYPES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a tuple of texts",
}
"""What a value of each type is called in a sentence for the user."""


def check_types(
    config: ml_collections.ConfigDict, block: type[Block], prefix: str = ""
) -> None:
    """Refuses keys that a block lacks, keys that are missing, and other types.

    Args:
      config: the block's part of a config.
      block: what it is to be.
      prefix: the block's dotted name and a dot; empty for the whole config.

    Raises:
      UsageError: naming the first such key.
    """
    entries = {name: entry for _, name, entry in block.entries()}
    for name in config:
        if name not in entries:
            known = [prefix + known for known in entries]
            raise unknown_name("config key", prefix + name, known)
    for name, entry in entries.items():
        place = prefix + name
        if name not in config:
            raise UsageError(f"The config lacks the key {place!r}.")
        value: Any = config[name]
        if not isinstance(entry, Key):
            _check_block(place, value)
            check_types(value, entry, f"{place}.")
        elif entry.block is not None:
            _check_block(place, value)
            for named in value:
                _check_block(f"{place}.{named}", value[named])
                check_types(value[named], entry.block, f"{place}.{named}.")
        else:
            _check_type(place, value, entry.default)


def _check_block(place: str, value: Any) -> None:
    if not isinstance(value, ml_collections.ConfigDict):
        raise UsageError(f"{place} is {value!r}; allowed: a block of keys.")


def _check_type(place: str, value: Any, default: Any) -> None:
    allowed = (float, int) if isinstance(default, float) else type(default)
    wrong_bool = isinstance(value, bool) and not isinstance(default, bool)
    if wrong_bool or not isinstance(value, allowed):
        raise UsageError(
            f"{place} is {value!r}; allowed: {TYPES[type(default)]} (such as "
            f"{default!r})."
        )
    if isinstance(value, tuple) and not all(isinstance(v, str) for v in value):
        raise UsageError(f"{place} is {value!r}; allowed: a tuple of texts.")
