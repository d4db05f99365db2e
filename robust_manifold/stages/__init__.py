"""The stages of an experiment: each reads artefacts and writes artefacts."""

from collections.abc import Callable, Sequence

from robust_manifold.stages import (
    attack,
    audit,
    convergence,
    diagnose,
    evaluate,
    fit_classifier,
    fit_classifiers,
    fit_encoder,
    fit_generator,
    measure,
    report,
    roles,
    trained,
)
from robust_manifold.stages.context import Context

RUNS: dict[str, Callable[[Context], Sequence[str]]] = {
    "convergence": convergence.run,
    "fit_classifier": fit_classifier.run,
    "fit_generator": fit_generator.run,
    "fit_encoder": fit_encoder.run,
    "fit_classifiers": fit_classifiers.run,
    "measure": measure.run,
    "diagnose": diagnose.run,
    "attack": attack.run,
    "evaluate": evaluate.run,
    "audit": audit.run,
    "report": report.run,
}
"""What runs each of `config.STAGES`.

Each returns its outputs, relative to the run folder, without which it runs again.
"""

ALWAYS = ("report",)
"""Stages that run again although they have finished: cheap, and wanted fresh."""

__all__ = ["ALWAYS", "RUNS", "Context", "roles", "trained"]
