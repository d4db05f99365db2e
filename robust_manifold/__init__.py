"""Manifold defences against adversarial examples, and the attacks that test them."""

import importlib
from typing import TYPE_CHECKING, Any

from robust_manifold.compilation_cache import enable_compilation_cache
from robust_manifold.version import __version__

if TYPE_CHECKING:
    from robust_manifold import adapters
    from robust_manifold.robustness import Evaluation, evaluate

__all__ = [
    "Evaluation",
    "__version__",
    "adapters",
    "enable_compilation_cache",
    "evaluate",
]


def __getattr__(name: str) -> Any:
    """Imports a part of the package when it is first asked for."""
    if name == "adapters":
        return importlib.import_module("robust_manifold.adapters")
    if name in ("Evaluation", "evaluate"):
        return getattr(importlib.import_module("robust_manifold.robustness"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
