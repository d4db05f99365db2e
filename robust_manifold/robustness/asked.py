"""What a worst case is taken over: a cascade, or rows as a config lists them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from robust_manifold import attacks, defenses
from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.evaluation import Budget
from robust_manifold.evaluation.cascades import NORMS, Cascade, Effort, registry
from robust_manifold.evaluation.cascades.effort import effort_of

EPSILONS: Mapping[str, Sequence[float]] = {"linf": (0.1, 0.2)}

_ALLOWED = (
    "None, a text such as \"cascade(effort='quick', linf=(0.1,))\", or "
    "{'attacks': [...], 'adversaries': [...]} as in a config"
)


class Rows(NamedTuple):
    """Attacks by adversaries, each as a row of a table.

    Attributes:
      attacks: the specs.
      adversaries: what they may differentiate.
      classifier: what a config calls the classifier; empty for the run's own.
    """

    attacks: tuple[attacks.Attack, ...]
    adversaries: tuple[defenses.Adversary, ...]
    classifier: str = ""

    def __str__(self) -> str:
        made = [attacks.registry.to_string(each) for each in self.attacks]
        by = [defenses.adversaries.to_string(each) for each in self.adversaries]
        on = f" on {self.classifier}" if self.classifier else ""
        return f"{', '.join(made)} by {', '.join(by)}{on}"


def asked(
    worst_case: Any, epsilons: Any, effort: str | Effort, defence: defenses.Defense
) -> Cascade | Rows:
    """Returns what is to be made; arguments as for `evaluate`, and the defence.

    Raises:
      UsageError: for budgets, an effort or rows that are none.
    """
    effort_of(effort)
    if isinstance(worst_case, Mapping):
        return _rows(worst_case, defence)
    if worst_case is None:
        return _with_balls(Cascade(effort, keys="fresh"), epsilons)
    if isinstance(worst_case, str):
        worst_case = registry.build(worst_case)
    if not isinstance(worst_case, Cascade):
        raise UsageError(f"worst_case is {worst_case!r}; allowed: {_ALLOWED}.")
    if worst_case.keys == "both":
        raise UsageError(
            "worst_case has keys='both'; allowed: 'fixed' or 'fresh', an evaluation "
            "each."
        )
    balls = worst_case.budgets
    return worst_case if balls else _with_balls(worst_case, epsilons)


def budgets_of(wanted: Cascade | Rows) -> tuple[Budget, ...]:
    """Returns the balls, by norm and then rising."""
    if isinstance(wanted, Cascade):
        return wanted.budgets
    known: dict[Any, set[float]] = {}
    for attack in wanted.attacks:
        if attack.budget is not None:
            known.setdefault(attack.norm, set()).add(float(attack.budget))
    return tuple(
        Budget(norm, e) for norm, radii in known.items() for e in sorted(radii)
    )


def _with_balls(spec: Cascade, epsilons: Any) -> Cascade:
    if not isinstance(epsilons, Mapping) or not epsilons:
        raise UsageError(
            f"epsilons is {epsilons!r}; allowed: radii by norm, such as "
            "{'linf': (0.1, 0.2), 'l2': (1.5,)}."
        )
    for norm in epsilons:
        if norm not in NORMS:
            raise unknown_name("norm of epsilons:", norm, NORMS)
    radii = {
        norm: tuple(given) if isinstance(given, Sequence) else given
        for norm, given in epsilons.items()
    }
    try:
        built = dataclasses.replace(spec, **radii)
    except UsageError as error:
        raise UsageError(str(error).replace("Cascade.", "epsilons of ", 1)) from None
    if not built.budgets:
        raise UsageError(f"epsilons is {epsilons!r}; allowed: with one radius or more.")
    return built


def _rows(given: Mapping[str, Any], defence: defenses.Defense) -> Rows:
    """Returns the rows of a mapping with the names of a config's block."""
    for name in given:
        if name not in Rows._fields:
            raise unknown_name("field of worst_case:", name, Rows._fields)
    made = tuple(_built(each, attacks.registry) for each in _listed(given, "attacks"))
    by = tuple(
        _built(each, defenses.adversaries) for each in _listed(given, "adversaries")
    )
    if not made or not by or all(attack.budget is None for attack in made):
        raise UsageError(
            f"worst_case is {dict(given)!r}; allowed: with adversaries, and an attack "
            "that has a budget."
        )
    for adversary in by:
        name = defenses.adversaries.to_string(adversary)
        if isinstance(adversary, defenses.Substitute):
            raise UsageError(
                "worst_case has the adversary 'substitute', which trains a network; "
                "allowed: in a run, or attacks.transfer."
            )
        if isinstance(adversary, defenses.Latent) and not isinstance(
            defence, defenses.ProjectionDefense
        ):
            raise UsageError(
                f"worst_case has the adversary {name!r}; allowed with a defence that "
                "projects."
            )
        adversary.check_meets(defence)
        if not any(adversary.suits(attack.threat_model) for attack in made):
            raise UsageError(
                f"worst_case: the adversary {name!r} can make none of the attacks; "
                f"allowed: with one that sees {' or '.join(adversary.threat_models)}."
            )
    for attack in made:
        if not any(adversary.suits(attack.threat_model) for adversary in by):
            raise UsageError(
                f"worst_case: {attacks.registry.to_string(attack)!r} sees "
                f"{attack.threat_model}, and none of the adversaries can make it."
            )
    return Rows(made, by, given.get("classifier", ""))


def _listed(given: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = given.get(name, ())
    return (value,) if isinstance(value, str) or not _is_sequence(value) else value


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence)


def _built(given: Any, known: Any) -> Any:
    return known.build(given) if isinstance(given, str) else given
