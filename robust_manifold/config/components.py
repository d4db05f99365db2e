"""How the texts of a config become components, and what components there are."""

from collections.abc import Callable
from typing import Any, TypeVar

from robust_manifold import (
    attacks,
    certification,
    defenses,
    inversion,
    models,
    training,
)
from robust_manifold.core.criterion import Criterion, criteria
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry
from robust_manifold.data import Targets, attacked_registry, targets
from robust_manifold.evaluation import cascades
from robust_manifold.one_dimensional import densities

T = TypeVar("T")

REGISTRIES: tuple[Registry[Any], ...] = (
    attacks.registry,
    attacks.masks_registry,
    attacks.overpowered_registry,
    attacks.transformations_registry,
    defenses.registry,
    defenses.adversaries,
    inversion.registry,
    inversion.restarts_registry,
    inversion.constraints_registry,
    models.registry,
    training.classifier_trainings,
    training.generator_trainings,
    training.encoder_trainings,
    training.network_trainings,
    training.optimizers,
    training.substitutes,
    densities.registry,
    attacked_registry,
    cascades.registry,
    cascades.efforts,
    certification.smoothings,
    targets,
    criteria,
)
"""Every component that a config can name."""


def each(registry: Registry[T]) -> Callable[[tuple[str, ...]], tuple[T, ...]]:
    """Returns the function that builds the components of a tuple of texts."""
    return lambda texts: tuple(registry.build(text) for text in texts)


def model(role: type) -> Callable[[str], Any]:
    """Returns the function that builds a model, which has to be of one role."""

    def build(text: str) -> Any:
        spec = models.registry.build(text)
        if not isinstance(spec, role):
            fitting = [n for n in models.registry.names if _has_role(n, role)]
            raise UsageError(
                f"{text!r} is no {role.__name__.removesuffix('Spec').lower()}; "
                f"allowed: {', '.join(fitting)}."
            )
        return spec

    return build


def encoder(text: str) -> models.EncoderSpec | None:
    """Returns the encoder of a text; None for "auto"."""
    return None if text == "auto" else model(models.EncoderSpec)(text)


def network_training(text: str) -> training.NetworkTraining | None:
    """Returns the training of a text; None for an empty one."""
    return training.network_trainings.build(text) if text else None


def target(text: str) -> Targets | None:
    """Returns the targets of a text; None for an empty one."""
    return targets.build(text) if text else None


def wanted(text: str) -> Criterion | None:
    """Returns the criterion of a regression; None for an empty text."""
    built = criteria.build(text) if text else None
    if built is not None and (built.classes or not hasattr(built, "period")):
        raise UsageError(
            f"{text!r} is no criterion on numbers; allowed: 'farthest', or "
            "'deviates(tolerance=10.0)' with a tolerance of your own."
        )
    return built


def gan(text: str) -> training.GanTraining:
    """Returns the training of a text, which has to be a GAN's."""
    built = training.generator_trainings.build(text)
    if not isinstance(built, training.GanTraining):
        raise UsageError(f"{text!r} is no gan; allowed: 'gan(...)'.")
    return built


def worst_case(text: str) -> cascades.Cascade | None:
    """Returns the cascade of a text; None for an empty one."""
    return cascades.registry.build(text) if text else None


def effort(text: str) -> str | cascades.Effort:
    """Returns the effort of a text, which may be empty."""
    return cascades.Cascade(text).effort if text else ""


def adversaries(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the texts of adversaries, each in its shortest form."""
    registry = defenses.adversaries
    return tuple(registry.to_string(registry.build(text)) for text in texts)


def _has_role(name: str, role: type) -> bool:
    cls = models.registry[name]
    return isinstance(cls, type) and issubclass(cls, role)
