"""Sanity checks of a column by its stored rows and latent pairs alone."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from robust_manifold import attacks, data, evaluation
from robust_manifold.config import Column
from robust_manifold.core import batching
from robust_manifold.evaluation import Check
from robust_manifold.evaluation.audits import budgets, ordering, projections
from robust_manifold.evaluation.audits.check import skipped
from robust_manifold.evaluation.judge import UNSURE
from robust_manifold.findings import pairs as pairs_found
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.defended import predictions_of
from robust_manifold.stages.table.rounds import read_rounds
from robust_manifold.stages.table.rows import (
    OBLIVIOUS,
    SUBSTITUTE,
    Row,
    adversarial_folder,
    kind_of,
    outcome_folder,
    rows_of,
)

_SINGLE_STEPS = (attacks.FGSM, attacks.RandFGSM)


class Stored(NamedTuple):
    """One row of a column, as it is stored.

    Attributes:
      row: which.
      images: the attacked ones.
      broken: whether each is misclassified in this column.
      errors: of the projections; None where the defence makes none.
      logits: of the column.
      norm: of the attack.
      epsilon: its budget; None where it has none.
      forwards: passes an image, a mean.
      backwards: gradients an image, a mean.
    """

    row: Row
    images: np.ndarray
    broken: np.ndarray
    errors: np.ndarray | None
    logits: np.ndarray
    norm: Any
    epsilon: float | None
    forwards: float
    backwards: float

    @property
    def sees(self) -> str:
        """What the attack is told: "white box", "scores" or "labels"."""
        return getattr(self.row.attack, "threat_model", "white box")

    @property
    def text(self) -> str:
        """The row in words."""
        return f"{self.row.name} by {self.row.adversary}"


def stored_rows(context: Context, column: Column) -> list[Stored]:
    """Returns the attacked rows that a column meets."""
    found = []
    for row in rows_of(column, context.experiment.evaluation):
        if row.attack is None:
            continue
        crafted = read_rounds(context, adversarial_folder(row))
        outcomes = read_rounds(context, outcome_folder(column, row))
        found.append(
            Stored(
                row=row,
                images=crafted["images"],
                broken=predictions_of(column, outcomes, attacked=True)
                != outcomes["labels"],
                errors=outcomes.get("error"),
                logits=outcomes["logits"],
                norm=row.attack.norm,
                epsilon=row.budget,
                forwards=float(np.mean(crafted["forwards"])),
                backwards=float(np.mean(crafted["backwards"])),
            )
        )
    return found


def checks_of_rows(
    context: Context, column: Column, rows: list[Stored]
) -> Iterator[Check]:
    """Yields what the stored rows of a column say of each other."""
    if not rows:
        yield skipped(budgets.WITHIN_BUDGET, "the run has no attacks")
        return
    clean = data.to_float(context.data.test.images)
    within = [
        budgets.within_budget(clean, row.images, row.norm, row.epsilon) for row in rows
    ]
    yield _joined(zip(rows, within, strict=True))
    yield from _growing(rows)
    yield from _orders(rows, bare=column.bare)
    if column.projects:
        yield _errors(context, column, strongest(rows))


def strongest(rows: list[Stored]) -> Stored:
    """Returns the row that breaks most images; of equals, the one that asked most."""
    return max(rows, key=lambda row: (row.broken.sum(), row.forwards))


def _growing(rows: list[Stored]) -> Iterator[Check]:
    """Yields whether accuracy falls with the budget, over all curves together."""
    curves: dict[Any, list[Stored]] = {}
    for stored in rows:
        if stored.epsilon:
            spec: Any = stored.row.attack
            at_one = dataclasses.replace(spec, epsilon=1.0)
            curve = at_one, stored.row.adversary, stored.row.target
            curves.setdefault(curve, []).append(stored)
    made = []
    for curve in curves.values():
        curve.sort(key=lambda stored: stored.epsilon or 0)
        if len(curve) > 1:
            epsilons = [stored.epsilon or 0 for stored in curve]
            broken = np.stack([stored.broken for stored in curve])
            made.append((curve[0], budgets.growing_budget(epsilons, broken)))
    if made:
        yield _joined(made)


def _orders(rows: list[Stored], *, bare: bool) -> Iterator[Check]:
    """Yields whether those who know more break no fewer, at each budget."""
    compared: dict[str, list[tuple[Stored, Check]]] = {}
    for place in dict.fromkeys((stored.norm, stored.epsilon) for stored in rows):
        here = [s for s in rows if (s.norm, s.epsilon) == place]
        if place[1] is None:
            continue
        for name, strong, weak in _pairs(here, bare):
            if not (strong and weak):
                continue
            check = ordering.ordered(
                name,
                _any(strong),
                _any(weak),
                stronger=_told(strong),
                weaker=_told(weak).lower(),
            )
            compared.setdefault(name, []).append((weak[0], check))
    for checks in compared.values():
        yield _joined(checks)


def _pairs(
    rows: list[Stored], bare: bool
) -> Iterator[tuple[str, list[Stored], list[Stored]]]:
    """Yields who should break more, and whom: of one norm and budget."""

    def those(holds: Callable[[Stored], bool]) -> list[Stored]:
        return [stored for stored in rows if holds(stored)]

    def is_adaptive(stored: Stored) -> bool:
        kind = kind_of(stored.row.adversary)
        return kind != SUBSTITUTE and (bare or kind != OBLIVIOUS)

    adaptive = those(is_adaptive)
    white = [stored for stored in adaptive if stored.sees == "white box"]
    single = [s for s in white if isinstance(s.row.attack, _SINGLE_STEPS)]
    iterative = [s for s in white if s not in single]
    told = [stored for stored in adaptive if stored.sees != "white box"]
    transferred = those(lambda stored: not is_adaptive(stored))
    yield ordering.SINGLE_STEP, iterative, single
    yield ordering.SCORES, white, told
    yield ordering.TRANSFER, adaptive, transferred


def _errors(context: Context, column: Column, stored: Stored) -> Check:
    """Returns how the errors of clean images compare with those of the worst row."""
    clean_row = rows_of(column, context.experiment.evaluation)[0]
    clean = read_rounds(context, outcome_folder(column, clean_row))["error"]
    assert stored.errors is not None
    check = projections.projection_errors(clean, stored.errors)
    return check._replace(sentence=f"{stored.text}: {check.sentence}")


def _any(rows: list[Stored]) -> np.ndarray:
    return np.any([stored.broken for stored in rows], axis=0)


def _told(rows: list[Stored]) -> str:
    """Returns some rows as the sentence says them."""
    if len(rows) == 1:
        return rows[0].text
    return f"The better of {' and '.join(stored.text for stored in rows)}"


def _joined(made: Iterable[tuple[Stored, Check]]) -> Check:
    """Returns one check for several rows: the first that is flagged speaks for all."""
    every = list(made)
    flagged = [pair for pair in every if pair[1].verdict == "FLAG"]
    stored, check = (flagged or every)[0]
    sentence = f"{stored.text}: {check.sentence}"
    if len(flagged) > 1:
        sentence += f" So it is with {len(flagged) - 1} more rows."
    elif not flagged and len(every) > 1:
        sentence += f" No fault in {len(every) - 1} more rows either."
    return check._replace(sentence=sentence)


def checks_of_pairs(context: Context, column: Column) -> Iterator[Check]:
    """Yields whether the pairs of each search hold, and still read as one class.

    The classifier is asked again about the images as they are stored, and the nearest
    training image is the judge, where it is sure of both.
    """
    for name, spec in pairs_found.searched(context):
        if not column.projects or name != column.classifier:
            continue
        pairs = pairs_found.stored_pairs(context, (name, spec))
        file = pairs_found.verdicts_file(name, spec)
        reads = context.folder.read_npz(file)["reads"]
        sure = reads[(reads != UNSURE).all(axis=-1)]
        text = pairs_found.text_of(spec)
        judged = projections.judged_as_one(sure)
        if len(reads) and not len(sure):
            judged = skipped(projections.JUDGE, "the judge is unsure of every pair")
        for check in (
            projections.pairs_hold(_again(context, name, pairs), spec.eta, spec.norm),
            judged,
        ):
            yield check._replace(sentence=f"{text}: {check.sentence}")


def _again(
    context: Context, name: str, pairs: dict[str, np.ndarray]
) -> evaluation.LatentPairs:
    """Returns the stored pairs with what the classifier says of them now."""
    images = pairs["images"]
    logits = batching.apply_examples(
        context.networks.classifier_of(name).apply,
        trained.load_classifier(context, name),
        images.reshape(-1, *images.shape[2:]),
    )
    logits = np.asarray(logits).reshape(pairs["logits"].shape)
    # A tie may be broken otherwise where rounding is: that is no other answer.
    close = np.isclose(logits, pairs["logits"], rtol=1e-3, atol=1e-3)
    same = np.asarray(close.all(axis=(1, 2)))
    logits = np.where(same[:, None, None], pairs["logits"], logits)
    return evaluation.LatentPairs(images, logits, pairs["found"])
