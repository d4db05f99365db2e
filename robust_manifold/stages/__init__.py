"""The stages of an experiment: each reads artefacts and writes artefacts."""

from collections.abc import Callable, Sequence

from robust_manifold.stages import (
    attack,
    evaluate,
    fit_classifier,
    fit_generator,
    report,
    trained,
)
from robust_manifold.stages.context import Context

STAGES: dict[str, Callable[[Context], Sequence[str]]] = {
    "fit_classifier": fit_classifier.run,
    "fit_generator": fit_generator.run,
    "attack": attack.run,
    "evaluate": evaluate.run,
    "report": report.run,
}
"""The stages by name, in the order in which they run.

Each returns its outputs, relative to the run folder, without which it runs again.
"""

ALWAYS = ("report",)
"""Stages that run again although they have finished: cheap, and wanted fresh."""

__all__ = ["ALWAYS", "STAGES", "Context", "trained"]
