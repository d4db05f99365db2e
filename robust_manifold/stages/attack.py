"""Stage `attack`: crafts the adversarial images of every row of the table."""

from robust_manifold.runtime import Progress
from robust_manifold.stages import substitutes
from robust_manifold.stages.context import Context
from robust_manifold.stages.crafting import Crafting, together
from robust_manifold.stages.rounds import compute_rounds_together, round_paths
from robust_manifold.stages.rows import adversarial_folder, rows


def run(context: Context) -> list[str]:
    """Writes `adversarial/<target>/<adversary>/<attack>/round-NNN.npz`.

    Where an adversary trains substitutes, these come first.
    """
    todo = [row for row in rows(context.experiment.evaluation) if row.attack]
    if not todo:
        return []
    targets = substitutes.targets(context)
    taught = {target: substitutes.fit(context, target) for target in targets}
    crafting = Crafting(context, taught)
    with Progress(len(todo) * context.test.size, "attack", "images") as progress:
        told = _Told(progress)
        for group in together(todo):
            told.row = group[0].name
            compute_rounds_together(
                context,
                [adversarial_folder(row) for row in group],
                lambda _, part, group=group: crafting.craft(group, part, told.within),
                told.after,
            )
    rounds = round_paths(context, [adversarial_folder(row) for row in todo])
    return [*substitutes.outputs(context, targets), *rounds]


class _Told:
    """Tells how far the stage has come, within a round and after it."""

    def __init__(self, progress: Progress):
        self.row = ""
        self._progress, self._done = progress, 0
        self._before, self._last = 0, 0

    def within(self, images: int, of: int) -> None:
        """Is told the images ready; at each budget of a group it counts from 0."""
        if images < self._last:
            self._before += of
        self._last = images
        ready = self._done + self._before + images
        self._progress.update(ready, row=self.row)

    def after(self, images: int) -> None:
        """Is told the images of a whole round."""
        self._done += images
        self._before = self._last = 0
        self._progress.update(self._done, row=self.row)
