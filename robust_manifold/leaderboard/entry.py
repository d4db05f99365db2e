"""An entry: one Python file, with the weights beside it by their checksums."""

import ast
import contextlib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from robust_manifold.adapters import from_published
from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.leaderboard import rules
from robust_manifold.robustness.user_file import UserFile

FUNCTION, WEIGHTS = "entry", "WEIGHTS"
ARGUMENTS = ("defence", "classifier", "networks")
WORDS = ("title", "source", "claimed")
MARKUP = "|[]<>`"
"""What would change the page that it stands in."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


class Stated(NamedTuple):
    """What a file says without being run.

    Attributes:
      name: of the entry, that of the file.
      text: its docstring, on one line.
      checksum: SHA-256 of the file.
      weights: SHA-256 of each file beside it, by name.
    """

    name: str
    text: str
    checksum: str
    weights: Mapping[str, str]


def stated(path: Path) -> Stated:
    """Returns what an entry's file says, and checks its weights; nothing is run.

    Raises:
      UsageError: if it is no Python file of that form, or a file of its weights is
        missing or another one.
    """
    if not _NAME.fullmatch(path.stem):
        raise UsageError(
            f"FILE.py is {str(path)!r}; allowed: a name of small letters, digits and "
            "'_', such as median_filter.py."
        )
    try:
        source = path.read_bytes()
        tree = ast.parse(source)
    except OSError as error:
        raise UsageError(
            f"FILE.py is {str(path)!r} ({error.strerror}); allowed: an existing Python "
            "file."
        ) from None
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path} is no Python ({error}).") from None
    text = " ".join((ast.get_docstring(tree) or "").split())
    if not text:
        raise UsageError(
            f"{path} has no docstring; allowed: one that says what the entry does."
        )
    weights = _weights(path, tree)
    for name, expected in weights.items():
        _check(path.parent / name, expected)
    return Stated(path.stem, text, hashlib.sha256(source).hexdigest(), weights)


def _weights(path: Path, tree: ast.Module) -> dict[str, str]:
    """Returns the checksums that the file's own dict of them has."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        if isinstance(target, ast.Name) and target.id == WEIGHTS:
            found: dict[Any, Any] = {"": ""}
            with contextlib.suppress(ValueError, TypeError):
                found = dict(ast.literal_eval(value))
            if all(_is_weight(path.stem, *pair) for pair in found.items()):
                return found
            raise UsageError(
                f"{WEIGHTS} of {path} is {ast.unparse(value)}; allowed: a dict of "
                f"texts, names of files beside it that begin with {path.stem}, neither "
                ".py nor .json, and their SHA-256."
            )
    return {}


def _is_weight(entry: str, name: Any, checksum: Any) -> bool:
    # No entry has a "-" in its name: none takes the place of what is another one's.
    own = isinstance(name, str) and re.fullmatch(rf"{entry}(-[\w-]+)?\.[\w.-]+", name)
    data = bool(own) and not name.endswith((".py", ".json"))
    return data and bool(re.fullmatch(r"[0-9a-f]{64}", str(checksum)))


def _check(path: Path, expected: str) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}); allowed: the file with the "
            f"SHA-256 {expected[:8]}..."
        ) from None
    if found != expected:
        raise UsageError(
            f"{path} has the SHA-256 {found[:8]}...; allowed: that of the entry's "
            f"{WEIGHTS}, {expected[:8]}..."
        )


class Loaded(NamedTuple):
    """What an entry's function returns.

    Attributes:
      arguments: classifier, defence and networks, as `evaluate` takes them.
      words: title, source and claimed, as far as they are given.
    """

    arguments: dict[str, Any]
    words: dict[str, Any]


def load(path: Path) -> Loaded:
    """Runs an entry's file and returns what its function entry() returns.

    Raises:
      UsageError: if the file fails, or returns something else.
    """
    file = UserFile(path)
    allowed = (
        "allowed: one that returns a dict with defence, classifier or both, and any of "
        f"networks, {', '.join(WORDS)}."
    )
    if (function := file.function(FUNCTION)) is None:
        raise UsageError(f"{path} defines no function {FUNCTION}(); {allowed}")
    found = file.called(function)
    if not isinstance(found, Mapping) or not {"defence", "classifier"} & set(found):
        shown = sorted(found) if isinstance(found, Mapping) else type(found).__name__
        raise UsageError(f"{FUNCTION}() of {path} returns {shown}; {allowed}")
    for name in found:
        if name not in (*ARGUMENTS, *WORDS):
            raise unknown_name(f"key of {FUNCTION}():", name, (*ARGUMENTS, *WORDS))
    arguments = {name: found[name] for name in ARGUMENTS if name in found}
    if "classifier" not in arguments:
        arguments["classifier"] = from_published(rules.CLASSIFIER)
    words = {name: found[name] for name in WORDS if name in found}
    _check_words(path, words)
    return Loaded(arguments, words)


def _check_words(path: Path, words: Mapping[str, Any]) -> None:
    for name in ("title", "source"):
        value = words.get(name, "")
        if not is_line(value) or len(value) > 120:
            raise UsageError(
                f"{name} of {path} is {value!r}; allowed: a text of one line, 120 "
                f"characters at most, without any of {MARKUP}."
            )
    claimed = words.get("claimed", {})
    known = known_rows()
    pairs: Any = claimed.items() if isinstance(claimed, Mapping) else [("", "")]
    for row, value in pairs:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if row not in known or not (number and 0 <= value <= 100):
            raise UsageError(
                f"claimed of {path} is {claimed!r}; allowed: percent by row, of "
                f"{', '.join(known)}."
            )


def is_line(text: Any) -> bool:
    """Returns whether a text can stand in a page as it is."""
    return isinstance(text, str) and text.isprintable() and not set(text) & set(MARKUP)


def known_rows() -> tuple[str, ...]:
    """Returns the names of the rows: clean, and each ball."""
    balls = ((norm, radius) for norm, radii in rules.BALLS.items() for radius in radii)
    return "clean", *(f"{norm} {radius:g}" for norm, radius in balls)
