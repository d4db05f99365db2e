"""Whose framework is there, and how a model is called in inference mode."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from robust_manifold.core.errors import UsageError

_INFERENCE = {
    "train": False,
    "training": False,
    "is_training": False,
    "is_train": False,
    "deterministic": True,
    "use_running_average": True,
    "inference": True,
}
"""What arguments that tell training from inference are called, and are for it."""


def framework(module: str, package: str) -> Any:
    """Returns a module of a framework.

    Args:
      module: its name, as in `import`.
      package: what pip installs it by.

    Raises:
      UsageError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise UsageError(
            f"{module} is not installed; allowed: this adapter after pip install "
            f"{package}."
        ) from error


def check_kind(name: str, model: Any, kind: Any, allowed: str) -> None:
    """Raises a `UsageError` unless a model is of a class of its framework."""
    if not isinstance(model, kind):
        raise UsageError(
            f"{name} is of type {type(model).__name__}; allowed: {allowed}."
        )


def inference_arguments(
    call: Callable[..., Any], given: dict[str, Any], **more: Any
) -> tuple[tuple[str, Any], ...]:
    """Returns the arguments that a model is called with beside its images.

    Args:
      call: the model, or what calls it.
      given: arguments of the user's, which are left as they are.
      **more: arguments that are set, too, if the model has them.
    """
    try:
        known = inspect.signature(call).parameters
    # Some callables have none.
    except (TypeError, ValueError):
        known = {}
    ours = _INFERENCE | more
    return tuple(({name: ours[name] for name in ours if name in known} | given).items())
