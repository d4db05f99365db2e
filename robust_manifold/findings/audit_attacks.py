"""Sanity checks of a column that attack it anew: is what it was attacked by strong?"""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from robust_manifold import attacks, data, defenses, evaluation, models
from robust_manifold.config import Column
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params
from robust_manifold.evaluation import Budget, Check, cascades
from robust_manifold.evaluation.audits import DEFAULT_ATTACK, binarisation, strength
from robust_manifold.evaluation.audits.check import skipped
from robust_manifold.findings.accuracy import cell_of
from robust_manifold.findings.audit_rows import Stored, strongest
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.cascading import piloted, pool_of
from robust_manifold.stages.table.defended import defend, keys_of, predictions_of
from robust_manifold.stages.table.donors import donors_of
from robust_manifold.stages.table.judged import judged_of
from robust_manifold.stages.table.pace import cost_of_column
from robust_manifold.stages.table.rounds import read_rounds
from robust_manifold.stages.table.rows import (
    CASCADE,
    Row,
    kind_of,
    outcome_folder,
    rows_of,
)


class _Test(NamedTuple):
    """How much of an active test a column can bear."""

    examples: int
    inner: int
    plant: int
    closeness: float


_OF_BARE = _Test(48, 256, 200, binarisation.CLOSENESS)
# Behind an inversion the way leads over jumps, and how far a long search goes is partly
# luck.  For 16 validation digits, at linf 0.1 | l2 1.5, four climbs of 50 steps came
# this far for 16 | 16, of 5 steps for 12 | 15; nine tenths for 13 | 15 and 9 | 12.
_OF_DEFENDED = _Test(24, 64, 200, 0.8)


class Attacked(NamedTuple):
    """By what a column is attacked to come to its headline.

    Attributes:
      attack: with steps and a budget, which of a column's white-box attacks breaks
        most; the default one where there is none.
      adversary: what it differentiates; None where no adversary of the run does.
      climbs: how many of its runs the column has met.
    """

    attack: attacks.Attack
    adversary: defenses.GradientAdversary | None
    climbs: int = 1

    @property
    def of_two_classes(self) -> attacks.Attack:
        """The attack with all its runs: without a class to aim at each begins anew."""
        attack: Any = self.attack
        return (
            dataclasses.replace(attack, restarts=self.climbs)
            if self.climbs > 1
            else attack
        )


def attacked_by(context: Context, column: Column, rows: list[Stored]) -> Attacked:
    """Returns what breaks most of a column by its gradient."""
    return _attacked_in(context, column, _worst(context, column, rows))


def _worst(context: Context, column: Column, rows: list[Stored]) -> Stored | None:
    """Returns the row that breaks most by a gradient, if there is one."""
    climbing = [row for row in rows if _climbs(row)]
    seeing = [row for row in climbing if column.bare or _adversary(context, row)]
    return strongest(seeing or climbing) if climbing else None


def half_broken(worst: Stored, rows: list[Stored]) -> Stored:
    """Returns the row of the same attack in the ball that parts the images best.

    Where all images fall, or none does, it is no news what an attack misses.
    """
    alike = [row for row in rows if _at_one(row) == _at_one(worst)]
    return min(alike, key=lambda row: abs(row.broken.mean() - 0.5))


def _at_one(stored: Stored) -> tuple[Any, str]:
    """Returns a row's attack, but for its budget, and its adversary."""
    attack: Any = stored.row.attack
    if stored.epsilon:
        attack = dataclasses.replace(attack, epsilon=1.0)
    return attack, stored.row.adversary


def _attacked_in(context: Context, column: Column, row: Stored | None) -> Attacked:
    """Returns by what a column is attacked in a row; the default where it is None."""
    first = _first_adversary(context, column)
    if row is None:
        return Attacked(DEFAULT_ATTACK, first)
    adversary = _adversary(context, row) or first
    attack: Any = row.row.attack
    if kind_of(row.row.adversary) != CASCADE:
        return Attacked(attack, adversary)
    size = row.row.spec.size
    attack = attacks.APGD(row.epsilon or 0.0, row.norm, steps=size.steps)
    return Attacked(attack, adversary, size.climbs)


def _climbs(stored: Stored) -> bool:
    """Returns whether a row's attack has a budget, and steps along a gradient."""
    if not stored.epsilon or stored.sees != "white box":
        return False
    fields = getattr(stored.row.attack, "__dataclass_fields__", {})
    return "steps" in fields or kind_of(stored.row.adversary) == CASCADE


def _adversary(context: Context, stored: Stored) -> defenses.GradientAdversary | None:
    """Returns what a row's attack differentiates; None if nothing of the defence."""
    row, ways = stored.row, [stored.row.spec]
    if kind_of(row.adversary) == CASCADE:
        ways = piloted(context, row.target) or row.spec.views_of(row.target.defence)
    seeing = (way for way in ways if isinstance(way, defenses.GradientAdversary))
    return next(seeing, None)


def _first_adversary(
    context: Context, column: Column
) -> defenses.GradientAdversary | None:
    """Returns the first adversary of the run that differentiates a column."""
    if column.bare:
        return None
    for text in context.experiment.evaluation.adversaries:
        spec = defenses.adversaries.build(text)
        if isinstance(spec, defenses.GradientAdversary):
            return spec
    return None


def view_of(
    context: Context,
    column: Column,
    adversary: defenses.GradientAdversary | None,
    classify: Callable[[Params, Any], Any],
) -> attacks.Expectation | None:
    """Returns what an adversary sees of a column; None without one.

    Args:
      context: the run.
      column: of its table.
      adversary: of `attacked_by`.
      classify: the network behind the defence, or its features.
    """
    if adversary is None:
        return None
    view = adversary.view(column.defence, context.networks.of_defences, classify)
    return attacks.Expectation(view, adversary.samples)


def active(context: Context, column: Column, rows: list[Stored]) -> Check:
    """Returns whether a column's attack finds an image that is known to be there."""
    worst = _worst(context, column, rows)
    row = worst and half_broken(worst, rows)
    attacked = _attacked_in(context, column, row)
    attack, adversary = attacked.of_two_classes, attacked.adversary
    if not column.bare and adversary is None:
        return skipped(binarisation.ACTIVE, "no adversary differentiates the defence")
    if attack.needs_classes:
        return skipped(binarisation.ACTIVE, "the attack needs the classes there are")
    size = _OF_BARE if column.bare else _OF_DEFENDED
    part = context.data.test.take(slice(size.examples))
    params = trained.load_column(context, column)
    model = context.networks.classifier_of(column.classifier)
    read, features = _features(model, params.classifier)
    seen = attacks.Expectation(
        defenses.defended_apply(column.defence, context.networks.of_defences, features)
    )
    clean = rows_of(column, context.experiment.evaluation)[0]
    logits = read_rounds(context, outcome_folder(column, clean))["logits"]
    view = view_of(context, column, adversary, features)
    with attacks.without_warnings():
        result = evaluation.binarisation_test(
            attack,
            seen,
            params,
            data.to_float(part.images),
            key=context.stream(f"active test {column.stream_name}"),
            fixed_keys=keys_of(context, column, part.ids),
            # With a known key all samples are alike.
            view=view and dataclasses.replace(view, samples=1),
            leads=binarisation.leads_of(logits[: part.size]),
            inner=size.inner,
            plant=size.plant,
            closeness=size.closeness,
        )
    name = attacks.registry.to_string(attack)
    return binarisation.planted_found(result, name, read)


def _features(model: models.Model, params: Params) -> tuple[str, Any]:
    """Returns what a plane is put into: a network's features, or else its logits."""
    image = jax.ShapeDtypeStruct(model.input_shape, np.float32)
    try:
        jax.eval_shape(model.features, params, image)
    except UsageError:
        return "the logits", model.apply
    return "the features", model.features


def stronger(context: Context, column: Column) -> Check:
    """Returns whether a cascade breaks what all rows of a column have left.

    It is made on the images that the worst case calls right, at each budget.
    """
    block = context.experiment.evaluation
    rows = rows_of(column, block)
    if _all_fresh(rows):
        return skipped(strength.STRENGTH, "no adversary of the run knows the keys")
    cascaded = [row for row in rows if kind_of(row.adversary) == CASCADE]
    effort = context.experiment.audit.effort or ("thorough" if cascaded else "standard")
    # A pilot of the table has told the ways apart.
    views = piloted(context, column) if cascaded else []
    outcomes = [cell_of(context, column, row)[1] for row in rows]
    before: dict[Budget, np.ndarray] = {
        budget: ~np.any(evaluation.broken_by(outcomes, budget), axis=0)
        for budget in evaluation.budgets_of(outcomes)
        if budget.norm in cascades.NORMS
    }
    before = {budget: right for budget, right in before.items() if right.any()}
    if not before:
        return skipped(strength.STRENGTH, "nothing is left at any budget")
    most = context.experiment.audit.stronger or context.data.test.size
    asked = np.zeros(context.data.test.size, bool)
    for right in before.values():
        asked[np.flatnonzero(right)[:most]] = True
    found = _cascaded(
        context,
        column,
        np.flatnonzero(asked),
        budgets=[*before],
        effort=effort,
        views=views or None,
    )
    checks = []
    for budget, (broken, members) in found.items():
        after = before[budget].copy()
        after[asked] &= ~broken
        lost = before[budget][asked] & broken
        by = collections.Counter(np.array(members)[lost])
        checks.append(strength.stronger_pass(before[budget], after, budget, by, asked))
    return strength.at_all_budgets(checks)


def _all_fresh(rows: Sequence[Row]) -> bool:
    """Returns whether those who know of the defence all draw other keys than it."""
    specs = [row.spec for row in rows if row.attack is not None]
    kinds = {spec.keys for spec in specs if hasattr(spec, "keys")}
    return kinds == {"fresh"}


def _donors(context: Context, column: Column) -> list[cascades.Donor]:
    """Returns those donors of a column that take no more passes than it does."""
    cost = cost_of_column(context, column)
    return [
        donor
        for donor in (() if column.bare else donors_of(context, column))
        if defenses.classifying_passes(donor.judged.defence, donor.judged.latent_size)
        <= cost
    ]


def _cascaded(
    context: Context,
    column: Column,
    places: np.ndarray,
    **options: Any,
) -> dict[Budget, tuple[np.ndarray, list[str]]]:
    """Returns which images a cascade breaks at each budget, and by which members.

    The column itself judges, as it does in the table.
    """
    part = context.data.test.take(places)

    with attacks.without_warnings():
        found = cascades.cascade(
            judged_of(context, column, part.ids),
            data.to_float(part.images),
            part.labels,
            key=context.stream(f"stronger pass {column.stream_name}"),
            donors=_donors(context, column),
            pilot=pool_of(context),
            ids=part.ids,
            **options,
        )
    made = np.concatenate([each.images for each in found.budgets])
    ids = np.tile(part.ids, len(found.budgets))
    params = trained.load_column(context, column)
    logits = np.asarray(defend(context, column, params, made, ids).output)
    outcomes = {"logits": logits, "labels": np.tile(part.labels, len(found.budgets))}
    wrong = predictions_of(column, outcomes, attacked=True) != outcomes["labels"]
    return {
        each.budget: (broken, [each.shares[place].member for place in each.member])
        for each, broken in zip(
            found.budgets, wrong.reshape(len(found.budgets), -1), strict=True
        )
    }
