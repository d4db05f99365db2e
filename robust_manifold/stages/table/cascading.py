"""How the rows of a cascade are made, a round at a time."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robust_manifold import data, defenses, evaluation
from robust_manifold.config import Column
from robust_manifold.evaluation import cascades
from robust_manifold.evaluation.cascades import AtBudget, Tried
from robust_manifold.evaluation.worst_case import Budget
from robust_manifold.runtime import devices
from robust_manifold.stages.context import Context
from robust_manifold.stages.table.defended import keys_of
from robust_manifold.stages.table.donors import donors_of
from robust_manifold.stages.table.judged import judged_of
from robust_manifold.stages.table.pace import asked_passes
from robust_manifold.stages.table.rows import (
    CASCADE,
    InBall,
    Row,
    adversarial_folder,
    kind_of,
    rows,
)

_POOL = 500
"""Validation images, the last of them: for the pilot, and starts of another class."""


def pilot_file(row: Row) -> str:
    """Returns where it is stored which ways to differentiate a column were tried."""
    return f"{adversarial_folder(row).rpartition('/')[0]}/pilot.json"


def pool_of(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Returns validation images and their labels, as a cascade is handed them."""
    pool = context.data.dataset.validation.take(slice(-_POOL, None))
    return data.to_float(pool.images), pool.labels


def cascaded(context: Context) -> list[Row]:
    """Returns the rows of the run's cascade."""
    every = rows(context.experiment.evaluation)
    return [row for row in every if kind_of(row.adversary) == CASCADE]


def piloted(context: Context, column: Column) -> list[Any]:
    """Returns the ways to differentiate a column that its pilot ranked, best first.

    Of a column with one way alone there is no pilot.
    """
    return _ranked(context, next(r for r in cascaded(context) if r.target == column))


def _ranked(context: Context, row: Row) -> list[Any]:
    lines = context.folder.read_json(pilot_file(row))
    return [defenses.adversaries.build(line["adversary"]) for line in lines]


class Cascading:
    """The making of a cascade's images in one run."""

    def __init__(self, context: Context):
        self._context = context
        self._donors: dict[Column, tuple[cascades.Donor, ...]] = {}
        self._judged: dict[Column, cascades.Judged] = {}
        self._views: dict[tuple[Column, str], list[Any]] = {}

    def craft(
        self,
        group: Sequence[Row],
        part: data.Split,
        tell: Callable[[int, int], None],
        tell_cost: Callable[[Row, float], None],
    ) -> list[dict[str, np.ndarray]]:
        """Returns what is stored of one round at each budget; see `Crafting.craft`."""
        context, row, column = self._context, group[0], group[0].target
        spec: cascades.Cascade = row.spec
        if column not in self._judged:
            self._judged[column] = judged_of(context, column, None)
            self._donors[column] = donors_of(context, column)
        judged, donors = self._judged[column], self._donors[column]
        if spec.keys == "fixed":
            keys = keys_of(context, column, part.ids)
            judged = dataclasses.replace(judged, keys=keys)
        clean = data.to_float(part.images)
        views = self._known_views(row)
        told = _Told(tell, part.size, spec, column, donors)
        found = cascades.cascade(
            judged,
            clean,
            part.labels,
            [_ball(each) for each in group],
            key=context.stream(f"attack {_stream_of(row)}"),
            effort=spec.size,
            donors=donors,
            pilot=pool_of(context),
            views=views,
            ids=part.ids,
            on_share=told.share,
        )
        if (column, row.adversary) not in self._views:
            self._store_pilot(row, found.tried)
        at = {each.budget: each for each in found.budgets}
        made = []
        for each in group:
            here = at[_ball(each)]
            tell_cost(each, _passes(context, each, here))
            made.append(_stored(here, clean))
        return made

    def _known_views(self, row: Row) -> list[Any] | None:
        """Returns the ways that the pilot has ranked; None before it."""
        place = row.target, row.adversary
        if place not in self._views:
            if not devices.agreed(self._context.folder.has(pilot_file(row))):
                return None
            self._views[place] = _ranked(self._context, row)
        # Of a single way there is no pilot.
        return self._views[place] or None

    def _store_pilot(self, row: Row, tried: Sequence[Tried]) -> None:
        """Stores it: the rounds that follow go by what it has found."""
        self._context.folder.write_json(pilot_file(row), [*map(_line, tried)])
        self._views[row.target, row.adversary] = [each.adversary for each in tried]


class _Told:
    """Tells of the shares of a round as of images that are ready at each budget."""

    def __init__(
        self,
        tell: Callable[[int, int], None],
        n: int,
        spec: cascades.Cascade,
        column: Column,
        donors: Sequence[cascades.Donor],
    ):
        self._most = spec.most_shares(column.defence, donors)
        self._tell, self._n = tell, n
        self._budget: Budget | None = None
        self._shares = 0

    def share(self, budget: Budget, share: cascades.Share) -> None:
        """Is called after each member at each budget."""
        del share
        if budget != self._budget:
            self._budget, self._shares = budget, 0
            self._tell(0, self._n)
        self._shares += 1
        # Members leave out what others have broken, so that the last may not come.
        self._tell(self._n * min(self._shares, self._most) // self._most, self._n)


def _ball(row: Row) -> Budget:
    assert isinstance(row.attack, InBall)
    return Budget(row.attack.norm, row.attack.epsilon)


def _passes(context: Context, row: Row, found: AtBudget) -> float:
    forwards, backwards = _asked(found)
    return asked_passes(context, row, forwards, backwards)


def _asked(found: AtBudget) -> tuple[float, float]:
    """Returns the outputs and the gradients that an image took, means."""
    n = len(found.rate)
    forwards = sum(share.forwards for share in found.shares) / n
    return forwards, sum(share.backwards for share in found.shares) / n


def _stream_of(row: Row) -> str:
    """Returns what the random stream of a column's cascade is named by.

    At no budget does it depend on which others there are.
    """
    return row.stream_name.rpartition("/")[0]


def _stored(found: AtBudget, clean: np.ndarray) -> dict[str, np.ndarray]:
    n = len(found.rate)
    distance = evaluation.sizes(clean, found.images, found.budget.norm)
    forwards, backwards = _asked(found)
    names = [share.member for share in found.shares]
    return {
        "images": found.images,
        "success": np.asarray(found.broken),
        "distance": distance.astype(np.float32),
        # Means: members work on what is left, and do not tell of each image.
        "forwards": np.full(n, forwards, np.float32),
        "backwards": np.full(n, backwards, np.float32),
        "rate": found.rate,
        "margin": found.margin,
        "member": np.array([names[place] for place in found.member]),
        # One a round.
        "shares": np.array([json.dumps([each._asdict() for each in found.shares])]),
    }


def _line(tried: Tried) -> dict[str, Any]:
    margin = np.minimum(tried.margin, 0)
    return {
        "adversary": defenses.adversaries.to_string(tried.adversary),
        "n": len(tried.rate),
        "rate": float(np.mean(tried.rate)),
        "margin": float(np.mean(margin)),
        "passes": float(tried.passes),
    }
