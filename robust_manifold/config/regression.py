"""What a config may ask for in a regression, and what needs classes."""

from typing import Any

from robust_manifold import defenses
from robust_manifold.attacks import Attack, Ensemble, HopSkipJump, Patch
from robust_manifold.core.criterion import MISCLASSIFIED, Farthest
from robust_manifold.core.errors import UsageError
from robust_manifold.training import classifier_trainings

_STAGES = ("measure", "diagnose", "audit", "convergence")
"""Stages that look at classes, or at no image."""

_ADVERSARIES = (defenses.Latent, defenses.Substitute)
"""Those who aim at classes, or learn them."""


def check_task(experiment: Any) -> None:
    """Refuses what classes need in a regression, and what a regression alone needs.

    Args:
      experiment: a `config.Experiment`.

    Raises:
      UsageError: for the first of them; the sentence names the key.
    """
    _check_trainings(experiment)
    block = experiment.evaluation
    if not experiment.regression:
        if block.criterion is not None:
            raise UsageError(
                f"config.evaluation.criterion is {block.criterion!r}; allowed: empty "
                "where config.data.target is, since classes have one of their own."
            )
        return
    for stage in _STAGES:
        _refuse(stage in experiment.stages, "stages", repr(stage), f"without {stage}")
    for column in block.columns:
        _refuse(
            column.defence.criterion != MISCLASSIFIED
            or isinstance(
                column.defence, (defenses.AnalysisBySynthesis, defenses.Voting)
            ),
            "evaluation.defences",
            repr(column.text),
            "defences that hand another image, or the same, to the network",
        )
    for text in block.adversaries:
        spec = defenses.adversaries.build(text)
        _refuse(
            isinstance(spec, _ADVERSARIES),
            "evaluation.adversaries",
            repr(text),
            "adversaries that differentiate the network, such as 'oblivious'",
        )
    for attack in block.attacks:
        _check_attack(attack)
    for name in ("given", "smoothing", "exchange", "unions"):
        value = getattr(block, name)
        _refuse(bool(value), f"evaluation.{name}", repr(value), "none")
    _refuse(
        any(budget.norm == "l0" for budget in block.budgets),
        "evaluation.worst_case",
        "a ball of l0",
        "balls of linf, l2 and l1",
    )
    tolerance = getattr(block.criterion, "tolerance", None)
    if tolerance is not None and tolerance < block.bound:
        raise UsageError(
            f"config.evaluation.criterion stops attacks at an error of {tolerance:g}, "
            f"and config.evaluation.bound counts those above {block.bound:g}; allowed: "
            "a bound of at most the tolerance."
        )
    if getattr(block.criterion, "period", None):
        raise UsageError(
            "config.evaluation.criterion has a period, which training and pictures do "
            "not follow; allowed: without one."
        )
    sign = experiment.stickers.sign
    _refuse(bool(sign), "stickers.sign", repr(sign), "empty")
    pairs = experiment.overpowered.pairs
    _refuse(bool(pairs), "overpowered.pairs", str(pairs), "0")


def _check_attack(attack: Attack) -> None:
    """Refuses an attack that cannot be made for numbers."""
    if isinstance(attack, Patch):
        raise UsageError(
            f"config.evaluation.attacks: {attack!r} counts views that are "
            "misclassified; allowed where config.data.target is given: other attacks."
        )
    try:
        attack.fitting(Farthest(), 1)
    except UsageError as error:
        raise UsageError(f"config.evaluation.attacks: {error}") from None
    if attack.budget is None or isinstance(attack, Ensemble | HopSkipJump):
        raise UsageError(
            f"config.evaluation.attacks: {attack!r} looks for a first success, which "
            "there is none of among numbers; allowed where config.data.target is "
            "given: attacks with a budget that climb a loss, such as apgd."
        )


def _check_trainings(experiment: Any) -> None:
    """Refuses trainings of classes in a regression, and of numbers elsewhere."""
    blocks = {"classifier": experiment.classifier}
    blocks |= {f"classifiers.{n}": b for n, b in experiment.classifiers.items()}
    for place, block in blocks.items():
        if block.training.numbers == experiment.regression or block.taken_over:
            continue
        kinds: dict[str, Any] = {
            name: classifier_trainings[name] for name in classifier_trainings.names
        }
        fitting = [
            name
            for name, kind in kinds.items()
            if kind.numbers == experiment.regression
        ]
        given = "is given" if experiment.regression else "is empty"
        text = classifier_trainings.to_string(block.training)
        raise UsageError(
            f"config.{place}.training is {text!r}; allowed where config.data.target "
            f"{given}: {', '.join(fitting)}."
        )


def _refuse(wrong: bool, place: str, value: str, allowed: str) -> None:
    if wrong:
        raise UsageError(
            f"config.{place} has {value}, which needs classes; allowed where "
            f"config.data.target is given: {allowed}."
        )
