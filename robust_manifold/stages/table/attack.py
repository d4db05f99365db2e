"""Stage `attack`: crafts the adversarial images of every row of the table."""

from collections.abc import Sequence

from robust_manifold.stages.context import Context
from robust_manifold.stages.table import substitutes, thresholds
from robust_manifold.stages.table.cascading import cascaded, pilot_file
from robust_manifold.stages.table.crafting import Crafting, together
from robust_manifold.stages.table.pace import Pace, Part, cost_of_row
from robust_manifold.stages.table.rounds import (
    compute_rounds_together,
    round_paths,
    stored_images,
)
from robust_manifold.stages.table.rows import Row, adversarial_folder, rows


def run(context: Context) -> list[str]:
    """Writes `adversarial/<target>/<adversary>/<attack>/round-NNN.npz`.

    Where an adversary trains substitutes, these come first.
    """
    todo = [row for row in rows(context.experiment.evaluation) if row.attack]
    if not todo:
        return []
    thresholds_of = thresholds.find(context, {row.target for row in todo})
    targets = substitutes.targets(context.experiment)
    taught = {target: substitutes.fit(context, target) for target in targets}
    crafting = Crafting(context, taught)
    groups = together(todo)
    with Pace("attack", "images", _parts(context, groups)) as pace:
        for group in groups:
            told = _Told(pace, group)
            compute_rounds_together(
                context,
                [adversarial_folder(row) for row in group],
                lambda _, part, group=group, told=told: crafting.craft(
                    group, part, told.within, told.cost
                ),
                told.after,
            )
    rounds = round_paths(context, [adversarial_folder(row) for row in todo])
    pilots = dict.fromkeys(map(pilot_file, cascaded(context)))
    taught_by = substitutes.outputs(context, targets)
    return [*thresholds_of, *taught_by, *rounds, *pilots]


def _parts(context: Context, groups: Sequence[Sequence[Row]]) -> dict[Row, Part]:
    """Returns what is to be made, row by row."""
    parts = {}
    for group in groups:
        stored = stored_images(context, [adversarial_folder(row) for row in group])
        for row in group:
            cost = cost_of_row(context, row)
            parts[row] = Part(context.data.test.size, cost, stored)
    return parts


class _Told:
    """Tells how far a group of rows has come, within a round and after it."""

    def __init__(self, pace: Pace, group: Sequence[Row]):
        self._pace, self._group = pace, group
        self._ready = dict.fromkeys(group, 0)
        self._costs: dict[Row, float] = {}
        self._place = 0

    def within(self, images: int, of: int) -> None:
        """Is told the images ready; at each budget of a group it counts from 0."""
        if images < self._ready[self._row] and self._place + 1 < len(self._group):
            self._ready[self._row] = of
            self._place += 1
        self._ready[self._row] = images
        self._pace.within(self._ready, show=("row", self._row.name))

    def cost(self, row: Row, passes: float) -> None:
        """Is told what an image of a row has taken."""
        self._costs[row] = passes

    def after(self, images: int, stored: bool) -> None:
        """Is told the images of a whole round."""
        for row in self._group:
            cost, show = self._costs.get(row), ("row", row.name)
            self._pace.advance(row, images, stored, cost=cost, show=show)
        self._ready = dict.fromkeys(self._group, 0)
        self._place = 0

    @property
    def _row(self) -> Row:
        return self._group[self._place]
