"""How far a stage has come, and how long the rest takes, where images differ in cost.

A part of a stage is some images that cost the same each: a row of the table that an
attack makes, a cell that is classified.  What an image costs is declared beforehand, in
passes through networks; where a stage learns what it really took, as of an attack that
ends early, the rest of the part is weighed by that.  What an earlier process stored is
counted from the beginning, and tells nothing of the time.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from types import TracebackType
from typing import Any

from robust_manifold import attacks, defenses
from robust_manifold.config import Column
from robust_manifold.evaluation import cascades
from robust_manifold.runtime import Progress, Work
from robust_manifold.stages.context import Context
from robust_manifold.stages.table.rows import LATENT, Row, kind_of

Told = Callable[[int, bool], None]
"""What rounds tell: the number of their images, and whether these were stored."""


@dataclasses.dataclass
class Part:
    """Some of a stage's images.

    Attributes:
      count: how many they are.
      cost: of one of them, in passes: as declared, and then as it was met.
      stored: how many an earlier process has left.
      computed: how many are ready beside these.
    """

    count: int
    cost: float = 1.0
    stored: int = 0
    computed: int = 0


class Pace:
    """Reports on a stage part by part.

        parts = {row.name: Part(100, cost_of_row(context, row)) for row in rows}
        with Pace("attack", "images", parts) as pace:
            for row in rows:
                ...
                pace.advance(row.name, 100)

    `show` is a name and its value beside the counts, as in `show=("row", row.name)`.
    """

    def __init__(
        self, stage: str, unit: str, parts: Mapping[Any, Part], **options: Any
    ):
        """Prepares the report; `with` starts it.

        Args:
          stage: its name.
          unit: what is counted, in the plural.
          parts: by names of the caller's, in the order in which they are done.
          **options: of `Progress`.
        """
        self._parts = {name: dataclasses.replace(part) for name, part in parts.items()}
        total = sum(part.count for part in parts.values())
        self._start = sum(part.stored for part in parts.values())
        self._before = sum(part.stored * part.cost for part in parts.values())
        self._spent = 0.0
        self._progress = Progress(total, stage, unit, start=self._start, **options)

    def advance(
        self,
        name: Hashable,
        images: int,
        stored: bool = False,
        *,
        cost: float | None = None,
        show: tuple[str, str] | None = None,
    ) -> None:
        """Reports that images of a part are ready.

        Args:
          name: of the part.
          images: how many.
          stored: whether they are among those that were stored before.
          cost: what one of them really took, in passes.
          show: what is shown beside the counts.
        """
        part = self._parts[name]
        part.cost = part.cost if cost is None else cost
        if not stored:
            part.computed += images
            self._spent += images * part.cost
        self._tell(show)

    def within(
        self,
        ready: Mapping[Any, int],
        *,
        show: tuple[str, str] | None = None,
    ) -> None:
        """Reports images that are ready in a round that is not.

        Args:
          ready: how many of each part, until `advance` tells of the whole round.
          show: what is shown beside the counts.
        """
        self._tell(show, ready)

    def teller(self, name: Hashable, *, show: tuple[str, str] | None = None) -> Told:
        """Returns what rounds tell of a part; see `advance`."""
        return lambda images, stored: self.advance(name, images, stored, show=show)

    def _tell(
        self,
        show: tuple[str, str] | None,
        ready: Mapping[Any, int] | None = None,
    ) -> None:
        ready = ready or {}
        within = sum(n * self._parts[name].cost for name, n in ready.items())
        left, done = -within, self._start + sum(ready.values())
        for part in self._parts.values():
            left += (part.count - part.stored - part.computed) * part.cost
            done += part.computed
        work = Work(self._spent + within, left, self._before)
        self._progress.update(done, work=work, **dict([show] if show else []))

    def __enter__(self) -> "Pace":
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.__exit__(kind, error, traceback)


def cost_of_column(context: Context, column: Column) -> float:
    """Returns the passes in which a column classifies one image."""
    return defenses.classifying_passes(column.defence, _latent_size(context))


def cost_of_row(context: Context, row: Row) -> float:
    """Returns the passes that the making of one image of a row takes at most."""
    size, defence, spec = _latent_size(context), row.target.defence, None
    if row.attack is None:
        return 0.0
    if kind_of(row.adversary) == LATENT:
        spec = row.spec
        assert isinstance(spec, defenses.Latent)
        # The clean images are projected first.
        projected = defenses.classifying_passes(defence, size)
        return projected + defenses.latent_search_passes(spec, defence, size)
    if isinstance(row.spec, cascades.Cascade):
        effort = row.spec.size.against(row.target.defence)
        # Away from the label from two starts, and to three classes: most fall sooner.
        asked = 2 * effort.steps + 3 * effort.aimed_steps
        asked *= effort.samples if row.spec.keys == "fresh" else 1
        return asked_passes(context, row, asked, asked)
    assert isinstance(row.attack, attacks.Attack)
    # A regression has none, and attacks that need some are refused.
    classes = len(context.data.dataset.class_names) or 2
    forwards, backwards = map(int, row.attack.cost(classes))
    return asked_passes(context, row, forwards, backwards)


def asked_passes(
    context: Context, row: Row, forwards: float | int, backwards: float | int
) -> float:
    """Returns the passes that an attack's questions are worth.

    Args:
      context: the run.
      row: that the attack is made for.
      forwards: logits asked for, an image.
      backwards: gradients asked for.
    """
    size, spec = _latent_size(context), row.spec
    if isinstance(spec, cascades.Cascade):
        # Of those that it may try the one that always can be.
        spec = spec.views_of(row.target.defence)[0]
    view = defenses.view_passes(spec, row.target.defence, size)
    return float(forwards) * view.forward + float(backwards) * view.backward


def _latent_size(context: Context) -> int:
    """Returns the size of the generator's latents; 0 where there need be none."""
    networks = context.networks
    return networks.generator.input_shape[0] if "generator" in networks.roles else 0
