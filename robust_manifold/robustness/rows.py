"""The worst case over rows: attacks by adversaries, each as a run makes it."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from robust_manifold import attacks, defenses
from robust_manifold.core import keys
from robust_manifold.core.norms import NORMS
from robust_manifold.evaluation import Budget, Outcome, sizes
from robust_manifold.evaluation.attacked import (
    OnManifold,
    on_manifold,
    on_view,
    row_stream,
    sort_of,
)
from robust_manifold.evaluation.cascades import AtBudget, Share
from robust_manifold.evaluation.cascades.cascade import CLEAN as UNTOUCHED
from robust_manifold.evaluation.cascades.judged import Verdict
from robust_manifold.evaluation.results import predictions_of
from robust_manifold.evaluation.worst_case import CLEAN, broken_by, inside
from robust_manifold.robustness.asked import Rows, budgets_of
from robust_manifold.robustness.subject import Part, Subject, Tell


class _Row(NamedTuple):
    """One attack by one adversary on the images of a round."""

    name: str
    outcome: Outcome
    images: np.ndarray
    verdict: Verdict
    forwards: float
    backwards: float
    seconds: float


def by_rows(
    subject: Subject, wanted: Rows, part: Part, tell: Tell
) -> tuple[np.ndarray, tuple[AtBudget, ...]]:
    """Returns which clean images are wrong, and the worst of all rows.

    Args:
      subject: what is attacked.
      wanted: the rows.
      part: the images.
      tell: told after each group of rows.

    Returns:
      Whether each image is misclassified, 0 or 1; and an entry for each budget.
    """
    outputs = subject.outputs(part.images, part.ids)
    clean = predictions_of(outputs) != part.labels
    untouched = subject.judged.verdict([outputs], part.labels)
    found: list[_Row] = []
    groups = _groups(wanted)
    for place, (adversary, group) in enumerate(groups):
        found += _made_rows(subject, wanted, adversary, group, part)
        tell((place + 1) / len(groups), found[-1].name)
    first = Outcome("", "", "none", CLEAN, ~clean)
    rows = [_Row(UNTOUCHED, first, part.images, untouched, 0, 0, 0.0), *found]
    balls = budgets_of(wanted)
    budgets = tuple(_worst(rows, ball, part, ball == balls[0]) for ball in balls)
    return clean.astype(float), budgets


def _groups(wanted: Rows) -> list[tuple[Any, list[Any]]]:
    """Returns the attacks of each adversary, those that differ in budget together."""
    groups: list[tuple[Any, list[Any]]] = []
    for adversary in wanted.adversaries:
        fitting = [a for a in wanted.attacks if adversary.suits(a.threat_model)]
        if isinstance(adversary, defenses.Oblivious):
            groups += [(adversary, [attack]) for attack in fitting]
        elif isinstance(adversary, defenses.Latent):
            balls = dict.fromkeys(
                OnManifold(attack.budget, attack.norm)
                for attack in fitting
                if attack.norm in ("linf", "l2") and attack.budget is not None
            )
            groups += [(adversary, [ball]) for ball in balls]
        else:
            sorts: dict[Any, list[Any]] = {}
            for attack in fitting:
                sorts.setdefault(sort_of(attack), []).append(attack)
            groups += [
                (adversary, sorted(group, key=lambda each: each.budget or 0.0))
                for group in sorts.values()
            ]
    return groups


def _made_rows(
    subject: Subject, wanted: Rows, adversary: Any, group: list[Any], part: Part
) -> list[_Row]:
    """Returns what one adversary makes of a group of attacks."""
    start = time.perf_counter()
    crafted = _crafted(subject, wanted, adversary, group, part)
    seconds = (time.perf_counter() - start) / len(group)
    rows = []
    for attack, each in zip(group, crafted, strict=True):
        norm, epsilon = attack.norm, attack.budget
        images = np.asarray(each.images)
        outputs = subject.outputs(images, part.ids)
        found = subject.judged.verdict([outputs], part.labels)
        by = defenses.adversaries.to_string(adversary)
        name = f"{by}, {_text(attack)}"
        measured = {n: sizes(part.images, images, n) for n in NORMS}
        outcome = Outcome("", "", by, name, ~found.broken, norm, epsilon, measured)
        forwards, backwards = (float(np.sum(count)) for count in each.queries)
        rows.append(_Row(name, outcome, images, found, forwards, backwards, seconds))
    return rows


def _text(attack: Any) -> str:
    if isinstance(attack, OnManifold):
        return f"{attack.norm} {attack.epsilon:g}"
    return attacks.registry.to_string(attack)


def _crafted(
    subject: Subject, wanted: Rows, adversary: Any, group: list[Any], part: Part
) -> list[attacks.Crafted]:
    """Returns what is crafted, with the random streams that a run has for it."""
    judged, first = subject.known(part.ids), group[0]
    oblivious = isinstance(adversary, defenses.Oblivious)
    target = "none" if oblivious or judged.bare else _target(subject)
    if wanted.classifier:
        target = f"{target} on {wanted.classifier}"
    by = defenses.adversaries.stream_name(adversary)
    options = {
        "key": keys.stream(
            subject.key, f"attack {row_stream(target, by, _stream(first))}"
        ),
        "ids": part.ids,
    }
    with attacks.without_warnings():
        if oblivious:
            bare = judged.params.classifier
            return [
                attacks.craft(
                    first, judged.classify, bare, part.images, part.labels, **options
                )
            ]
        if isinstance(adversary, defenses.Latent):
            found: Any = subject.defended(part.images, part.ids).details
            return [
                on_manifold(
                    first.norm,
                    first.epsilon,
                    adversary,
                    judged,
                    part.images,
                    part.labels,
                    latents=np.asarray(found.latent),
                    **options,
                )
            ]
        budgets = [each.budget or 0.0 for each in group]
        return on_view(
            first, budgets, adversary, judged, part.images, part.labels, **options
        )


def _target(subject: Subject) -> str:
    try:
        return defenses.registry.stream_name(subject.judged.defence)
    except KeyError:
        return subject.name


def _stream(attack: Any) -> str:
    """Returns what a run calls the stream of an attack, or of a search in a ball."""
    if isinstance(attack, OnManifold):
        return attack.text
    return attacks.registry.stream_name(attack)


def _worst(rows: Sequence[_Row], budget: Budget, part: Part, first: bool) -> AtBudget:
    """Returns the worst of all rows at a budget: who came first is who broke it.

    Args:
      rows: the untouched images, then those of each attack.
      budget: the ball.
      part: the images.
      first: whether the ball is the first of all.
    """
    outcomes = [row.outcome for row in rows]
    broken = broken_by(outcomes, budget)
    within = np.array([inside(outcome, budget) for outcome in outcomes])
    n = len(part.labels)
    images = part.images.copy()
    rate, member = np.zeros(n), np.zeros(n, int)
    margin = np.full(n, -np.inf)
    shares = []
    for place, row in enumerate(rows):
        if place and not within[place].any():
            continue
        left = rate < 1
        gained = left & broken[place]
        better = left & within[place] & (row.verdict.margin > margin) | gained
        images[better], margin[better] = row.images[better], row.verdict.margin[better]
        member[better] = len(shares)
        rate[gained] = 1
        cost = row[4:] if _is_own(row.outcome, budget, first) else (0, 0, 0.0)
        shares.append(Share(row.name, int(left.sum()), int(gained.sum()), *cost))
    return AtBudget(budget, images, rate, margin, member, tuple(shares))


def _is_own(outcome: Outcome, budget: Budget, first: bool) -> bool:
    """Returns whether what a row has cost is told at a budget: it is at one alone."""
    if outcome.epsilon is None:
        return first
    return (outcome.norm, outcome.epsilon) == budget
