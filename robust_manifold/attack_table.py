"""The table of all attacks in docs/attacks.md, made from the registry.

  python -m robust_manifold.attack_table [docs/attacks.md]

rewrites what stands between the file's two markers.
"""

import dataclasses
import pathlib
import sys
from typing import Any, get_args

from robust_manifold import attacks
from robust_manifold.attacks import Attack
from robust_manifold.attacks.base import Family
from robust_manifold.core.errors import UsageError
from robust_manifold.core.norms import NORMS

BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"
CLASSES = 10
"""Of the costs, which depend on it where an attack goes for one class after another."""

_EPSILON = 0.1
_HEADER = (
    "in configs",
    "class",
    "what it is",
    "threat model",
    "norms",
    "parameters",
    "forwards",
    "backwards",
)


def rendered(text: str) -> str:
    """Returns a page with the tables of the registry between its markers.

    Raises:
      UsageError: unless both markers stand in the text, in their order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"The page lacks the lines {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def tables() -> str:
    """Returns one Markdown table for each family of attacks."""
    registry = attacks.registry
    classes: dict[str, Any] = {name: registry[name] for name in registry.names}
    parts = []
    for family in get_args(Family):
        rows = [
            _row(name, cls) for name, cls in classes.items() if cls.family == family
        ]
        if rows:
            parts.append(f"\n### {family.capitalize()}\n\n{_markdown(rows)}\n")
    return "".join(parts)


def _row(name: str, cls: type[Attack]) -> tuple[str, ...]:
    cost = _build(cls).cost(CLASSES)
    return (
        f"`{name}`",
        f"`{cls.__name__}`",
        f"{cls.title} ({cls.source})",
        cls.threat_model,
        ", ".join(_norms(cls)),
        ", ".join(_parameters(cls)),
        f"{cost.forwards:,}",
        f"{cost.backwards:,}",
    )


def _build(cls: type[Attack], **given: Any) -> Attack:
    """Returns the attack with its defaults; what it cannot do without is made up."""
    needed = [
        field.name
        for field in _fields(cls)
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    made_up = {"epsilon": _EPSILON, "mask": attacks.SquareMask(size=0.2)}
    return cls(**{name: made_up[name] for name in needed}, **given)


def _norms(cls: type[Attack]) -> list[str]:
    """Returns the norms that the attack takes, by asking it."""
    if "norm" not in {field.name for field in _fields(cls)}:
        return [_build(cls).norm]
    found = []
    for norm in NORMS:
        try:
            found.append(_build(cls, norm=norm).norm)
        except UsageError:
            continue
    return found


def _parameters(cls: type[Attack]) -> list[str]:
    parameters = []
    for field in _fields(cls):
        if field.name == "norm":
            continue
        default = field.default
        if default is dataclasses.MISSING:
            parameters.append(f"`{field.name}`")
        else:
            parameters.append(f"`{field.name}={_text(default)}`")
    return parameters


def _text(value: Any) -> str:
    """Returns a default as a config writes it, a component by its name alone."""
    if not dataclasses.is_dataclass(value):
        return repr(value)
    registries: list[Any] = [attacks.masks_registry, attacks.transformations_registry]
    for registry in registries:
        if type(value) in map(registry.__getitem__, registry.names):
            return registry.name_of(value)
    return type(value).__name__


def _fields(cls: Any) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(cls) if field.init]


def _markdown(rows: list[tuple[str, ...]]) -> str:
    header, *body = ["| " + " | ".join(row) + " |" for row in (_HEADER, *rows)]
    rule = "|" + " --- |" * (len(_HEADER) - 2) + " ---: | ---: |"
    return "\n".join([header, rule, *body])


def main(arguments: list[str]) -> None:
    """Rewrites a page; by default docs/attacks.md of the current folder."""
    path = pathlib.Path(arguments[0] if arguments else "docs/attacks.md")
    try:
        path.write_text(rendered(path.read_text()))
    except (OSError, UsageError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
