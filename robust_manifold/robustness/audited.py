"""The audit of an evaluation: can its figures be believed?"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax

from robust_manifold import attacks, defenses
from robust_manifold.attacks import Expectation
from robust_manifold.core import keys
from robust_manifold.core.errors import unknown_name
from robust_manifold.core.types import Image, Logits, Params
from robust_manifold.evaluation import AUDIT_CHECKS, Budget, Check, Network, audit
from robust_manifold.evaluation.audits.projecting import projection_of
from robust_manifold.evaluation.cascades import NORMS, Cascade, Effort
from robust_manifold.evaluation.cascades.effort import effort_of
from robust_manifold.robustness import told
from robust_manifold.robustness.asked import Rows
from robust_manifold.robustness.making import Round
from robust_manifold.robustness.subject import Part, Subject


class _Size(NamedTuple):
    """How much an audit looks at."""

    examples: int
    left_out: tuple[str, ...]


_SLOW = ("stronger pass", "active test", "more restarts", "growing budget")
"""Checks that attack anew as often as all others together."""

_SIZES = {"quick": _Size(32, _SLOW), "thorough": _Size(128, ())}
_STANDARD = _Size(64, ())


@dataclasses.dataclass(frozen=True)
class Keyless:
    """A function of parameters, image and key that draws nothing, without its key."""

    apply: Any

    def __call__(self, params: Params, image: Image) -> Logits:
        """Returns what it gives under any key."""
        return self.apply(params, image, jax.random.key(0))


def checks_of(effort: str | Effort, names: Collection[str] | None) -> list[str]:
    """Returns the checks to make: those asked for, else those of an effort.

    Raises:
      UsageError: for an unknown name.
    """
    if names is None:
        names = set(AUDIT_CHECKS) - {*_size(effort).left_out}
    names = [names] if isinstance(names, str) else names
    for name in names:
        if name not in AUDIT_CHECKS:
            raise unknown_name("check", name, AUDIT_CHECKS)
    return [name for name in AUDIT_CHECKS if name in names]


def _size(effort: str | Effort) -> _Size:
    return _SIZES.get(effort if isinstance(effort, str) else "", _STANDARD)


def audited(
    subject: Subject,
    wanted: Cascade | Rows,
    first: Round,
    part: Part,
    effort: str | Effort,
    names: Sequence[str],
    on_progress: told.OnProgress,
) -> list[Check]:
    """Returns the checks of the attack that broke most, by the way that it took.

    Args:
      subject: what was attacked.
      wanted: by what.
      first: what came of the first images.
      part: all images that were attacked.
      effort: how much is looked at.
      names: the checks to make.
      on_progress: as for `evaluate`.
    """
    size = _size(effort)
    attack, adversary = _strongest(subject, wanted, first, effort_of(effort))
    judged = subject.judged
    samples = effort_of(effort).samples
    key = keys.stream(subject.key, "audit")

    def seen(apply: Any, samples: int = 1) -> Any:
        return Expectation(apply, samples) if subject.random else Keyless(apply)

    view = undefended = None
    if not judged.bare:
        undefended = Network(judged.classify, judged.params.classifier)
        through: Any = adversary.view(judged.defence, judged.networks, judged.classify)
        view = None if through is None else seen(through, samples)
    with (
        told.telling(on_progress, "audit", len(names), "checks") as tell,
        attacks.without_warnings(),
    ):
        checks = audit(
            seen(judged.apply.apply),
            judged.params,
            part.images,
            part.labels,
            key=key,
            attack=attack,
            criterion=judged.criterion,
            view=view,
            undefended=undefended,
            projection=projection_of(
                judged.defence,
                judged.networks,
                judged.params.networks,
                key=key,
                examples=size.examples,
            ),
            checks=names,
            examples=size.examples,
            on_check=lambda done, of: tell(done, "", of),
        )
    return sorted(checks, key=lambda check: check.verdict != "FLAG")


def _strongest(
    subject: Subject, wanted: Cascade | Rows, first: Round, effort: Effort
) -> tuple[attacks.Attack, defenses.Adversary]:
    """Returns the attack that is audited, and what it differentiates."""
    norm, epsilon = _middle([each.budget for each in first.budgets])
    steps = wanted.size.steps if isinstance(wanted, Cascade) else effort.steps
    climb = attacks.APGD(epsilon, norm, steps=steps)
    if isinstance(wanted, Cascade):
        if first.tried:
            return climb, first.tried[0].adversary
        return climb, wanted.views_of(subject.judged.defence)[0]
    climbing = [
        each
        for each in wanted.adversaries
        if isinstance(each, defenses.GradientAdversary)
    ]
    return climb, climbing[0] if climbing else defenses.Oblivious()


def _middle(budgets: Sequence[Budget]) -> Budget:
    """Returns the middle ball of the first norm that has balls a climb can go in."""
    known = [b for b in budgets if b.norm in NORMS and b.norm != "l0"]
    own = [budget for budget in known if budget.norm == known[0].norm]
    return own[len(own) // 2] if own else Budget("linf", 0.1)
