"""A user's Python file: loaded, and one of its functions called."""

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from robust_manifold.attacks.contract import first_line
from robust_manifold.core.errors import UsageError


class UserFile:
    """A Python file of a user, as a module.

    What lies beside it can be imported by it, as beside any script.
    """

    def __init__(self, path: Path):
        """Loads the file.

        Raises:
          UsageError: if there is none, or it fails.
        """
        if path.suffix != ".py" or not path.is_file():
            raise UsageError(
                f"FILE.py is {str(path)!r}; allowed: an existing Python file."
            )
        self.path = path
        sys.path.append(str(path.parent.resolve()))
        self._module = self._guarded(_loaded, path)

    def function(self, name: str) -> Callable[..., Any] | None:
        """Returns a function of the file, or None if it defines none of this name."""
        found = getattr(self._module, name, None)
        return found if callable(found) else None

    def called(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what a function of the file returns.

        Raises:
          UsageError: if it fails, which says where.
        """
        return self._guarded(function, *arguments)

    def _guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except UsageError:
            raise
        # Whatever the user's file raises.
        except (Exception, SystemExit) as error:
            raise UsageError(f"{self.path} fails{_line(self.path, error)}.") from None


def _loaded(path: Path) -> ModuleType:
    """Returns a file as a module, under a name that hides no other one."""
    spec = importlib.util.spec_from_file_location("__evaluation__", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Classes look themselves up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _line(path: Path, error: BaseException) -> str:
    """Returns where a file fails, and of what."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == path.resolve()
    ]
    if isinstance(error, SyntaxError):
        lines.append(error.lineno)
    where = f" in line {lines[-1]}" if lines else ""
    return f"{where} ({first_line(error)})"
