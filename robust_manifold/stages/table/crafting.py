"""How each adversary makes its images, a round at a time."""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from robust_manifold import attacks, data, defenses
from robust_manifold.config import Column
from robust_manifold.core.types import Params
from robust_manifold.evaluation import attacked, cascades
from robust_manifold.evaluation.attacked import OnManifold
from robust_manifold.inversion import Inversion
from robust_manifold.runtime import console
from robust_manifold.stages.context import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.cascading import Cascading
from robust_manifold.stages.table.defended import defend, keys_of
from robust_manifold.stages.table.pace import asked_passes
from robust_manifold.stages.table.rows import (
    CASCADE,
    LATENT,
    OBLIVIOUS,
    SUBSTITUTE,
    InBall,
    Row,
    kind_of,
)


def together(rows: Iterable[Row]) -> list[tuple[Row, ...]]:
    """Returns the rows in groups that are made in one go, budgets rising.

    Where the attack meets a defence, the rows that differ in its budget alone are: an
    image that falls at one is carried over to the larger ones, and costs no more.  A
    cascade goes over to the balls of other norms, too, that hold the image.  The
    rows of the other adversaries are each what its name says, as in the published
    tables.
    """
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        whole: Any = row.attack
        if _meets_defence(row):
            whole = attacked.sort_of(whole)
        if isinstance(whole, InBall):
            whole = InBall
        groups.setdefault((whole, row.adversary, row.target), []).append(row)
    return [tuple(sorted(group, key=_budget)) for group in groups.values()]


@dataclasses.dataclass
class Crafting:
    """The making of the images of a run.

    Attributes:
      context: the run.
      taught: the parameters of the substitutes.
    """

    context: Context
    taught: dict[Column, Params]

    def __post_init__(self):
        self._loaded: dict[Column, defenses.DefenseParams] = {}
        self._cascading = Cascading(self.context)

    def craft(
        self,
        group: Sequence[Row],
        part: data.Split,
        tell: Callable[[int, int], None],
        tell_cost: Callable[[Row, float], None],
    ) -> list[dict[str, np.ndarray]]:
        """Returns what is stored of one round of each row of a group.

        Args:
          group: of `together`.
          part: the images of the round.
          tell: called with (images ready, n) whenever some are.
          tell_cost: called with each row and what an image of it has taken in passes,
            where that is known.
        """
        context, row = self.context, group[0]
        if kind_of(row.adversary) == CASCADE:
            return self._cascading.craft(group, part, tell, tell_cost)
        options = {
            "key": context.stream(f"attack {row.stream_name}"),
            "ids": part.ids,
            "batch_size": context.data.batch_size,
            "on_chunk": tell,
        }
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", attacks.AttackWarning)
            if not _meets_defence(row):
                crafted = [self._on_network(row, part, options)]
            elif kind_of(row.adversary) == LATENT:
                crafted = [self._on_manifold(row, part, options)]
            else:
                crafted = self._on_view(group, part, options)
        for warning in told:
            console.warning(f"{row.name}: {warning.message}")
        if kind_of(row.adversary) != LATENT:
            # How its queries cost is declared: some of them ask another function.
            for each, made in zip(group, crafted, strict=True):
                asked = (float(np.mean(count)) for count in made.queries)
                tell_cost(each, asked_passes(context, each, *asked))
        return [_stored(made) for made in crafted]

    def _on_network(self, row: Row, part: data.Split, options) -> attacks.Crafted:
        """Returns what an attack makes of a classifier without a defence."""
        context = self.context
        if kind_of(row.adversary) == SUBSTITUTE:
            model, params = context.networks.substitute, self.taught[row.target]
        else:
            name = row.target.classifier
            model = context.networks.classifier_of(name)
            params = self._params(row.target).classifier
        assert isinstance(row.attack, attacks.Attack)
        images = data.to_float(part.images)
        return attacks.craft(
            row.attack,
            model.apply,
            params,
            images,
            part.labels,
            criterion=context.experiment.wants,
            **options,
        )

    def _on_view(
        self, group: Sequence[Row], part: data.Split, options
    ) -> list[attacks.Crafted]:
        """Returns what an attack makes of a defended classifier, at each budget."""
        attack, column = group[0].attack, group[0].target
        assert isinstance(attack, attacks.Attack)
        return attacked.on_view(
            attack,
            [_budget(row) for row in group],
            group[0].spec,
            self._judged(column, part),
            data.to_float(part.images),
            part.labels,
            **options,
        )

    def _on_manifold(self, row: Row, part: data.Split, options) -> attacks.Crafted:
        """Returns what is found in the generator's range."""
        search, column = row.attack, row.target
        assert isinstance(search, OnManifold)
        params, images = self._params(column), data.to_float(part.images)
        # Where the defence itself takes the clean images to.
        found = defend(self.context, column, params, images, part.ids).details
        assert isinstance(found, Inversion)
        return attacked.on_manifold(
            search.norm,
            search.epsilon,
            row.spec,
            self._judged(column, part),
            images,
            part.labels,
            latents=np.asarray(found.latent),
            **options,
        )

    def _judged(self, column: Column, part: data.Split) -> cascades.Judged:
        """Returns a column with the keys of these images."""
        context = self.context
        return cascades.Judged(
            column.defence,
            context.networks.of_defences,
            context.networks.classifier_of(column.classifier).apply,
            self._params(column),
            keys_of(context, column, part.ids),
            context.experiment.wants,
        )

    def _params(self, column: Column) -> defenses.DefenseParams:
        if column not in self._loaded:
            self._loaded[column] = trained.load_column(self.context, column)
        return self._loaded[column]


def _meets_defence(row: Row) -> bool:
    return kind_of(row.adversary) not in (OBLIVIOUS, SUBSTITUTE)


def _budget(row: Row) -> float:
    return row.budget or 0.0


def _stored(crafted: attacks.Crafted) -> dict[str, np.ndarray]:
    return {
        "images": np.asarray(crafted.images),
        "logits": np.asarray(crafted.logits),
        "success": np.asarray(crafted.success),
        "distance": np.asarray(crafted.distance),
        "forwards": np.asarray(crafted.queries.forwards),
        "backwards": np.asarray(crafted.queries.backwards),
    }
