"""Registers a user's defences for one test."""

import importlib.util
import pathlib
import sys
from types import ModuleType

import pytest

from robust_manifold import defenses, models

MEDIAN = pathlib.Path(__file__).parent / "median_filter.py"


def register_median(monkeypatch: pytest.MonkeyPatch) -> type:
    """Runs the user's file, and returns the median filter of it."""
    return register(monkeypatch, "median_filter").MedianFilter


def register(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """Runs a user's file beside this one; what it registers is gone after the test."""
    for registry in (defenses.registry, models.registry):
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
        monkeypatch.setattr(registry, "_names", dict(registry._names))
    path = pathlib.Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up the module of their class.
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
