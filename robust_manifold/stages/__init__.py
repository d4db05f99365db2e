"""The stages of an experiment: each reads artefacts and writes artefacts."""

from collections.abc import Callable, Sequence

from robust_manifold.stages import roles
from robust_manifold.stages.context import Context
from robust_manifold.stages.fitting import (
    fit_classifier,
    fit_classifiers,
    fit_encoder,
    fit_generator,
    fit_networks,
)
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table import attack, evaluate

RUNS: dict[str, Callable[[Context], Sequence[str]]] = {
    "fit_classifier": fit_classifier.run,
    "fit_generator": fit_generator.run,
    "fit_encoder": fit_encoder.run,
    "fit_classifiers": fit_classifiers.run,
    "fit_networks": fit_networks.run,
    "attack": attack.run,
    "evaluate": evaluate.run,
}
"""What runs each stage but findings and the report.

Each returns its outputs, relative to the run folder, without which it runs again.
"""

__all__ = ["RUNS", "Context", "roles", "trained"]
