"""How hard a cascade tries, and the members that this means."""

import dataclasses
from collections.abc import Iterator, Sequence

from robust_manifold import defenses
from robust_manifold.core.errors import unknown_name
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.evaluation.cascades.members import (
    NEAREST,
    PATIENCE,
    Boundary,
    Climb,
    Corners,
    Donor,
    Fewest,
    Handed,
    Member,
    Scores,
)

_QUERIES = 5000
"""Of AutoAttack's random search."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """The size of a cascade.

    Attributes:
      steps: of a climb.
      aimed_steps: of a climb aimed at one of the nearest classes; 0 for none.
      views: how many ways to differentiate the defence are used.
      all_steps: of a climb aimed at each other class; 0 for none.
      queries: of random search on the scores; 0 for none.
      dampings: of the implicit derivatives that are tried.
      pilot: images that the ways to differentiate are tried on.
      samples: keys a step, against a defence whose keys are fresh.
      boundary_steps: of a search for the boundary of each other class; 0 for none.
      corner_queries: of local search among the corners of an linf ball; 0 for none.
    """

    steps: int
    aimed_steps: int
    views: int
    all_steps: int
    queries: int
    dampings: tuple[float, ...]
    pilot: int
    samples: int
    boundary_steps: int = 0
    corner_queries: int = 0

    def __post_init__(self):
        for field in ("steps", "views", "pilot", "samples"):
            whole = is_whole(getattr(self, field), 1)
            check(whole, self, field, "a whole number, 1 or more")
        for field in ("aimed_steps", "all_steps", "queries", "boundary_steps"):
            whole = is_whole(getattr(self, field), 0)
            check(whole, self, field, "a whole number, 0 or more")
        some = self.corner_queries == 0 or is_whole(self.corner_queries, 3)
        check(some, self, "corner_queries", "a whole number, 3 or more; or 0")
        fits = bool(self.dampings) and all(0 < each < 1 for each in self.dampings)
        check(fits, self, "dampings", "shares above 0 and below 1, as in (0.001,)")

    @property
    def climbs(self) -> int:
        """Runs by the best way: away from the label, and at the nearest classes."""
        return 1 + (NEAREST if self.aimed_steps else 0)

    def against(self, defence: defenses.Defense) -> "Effort":
        """Returns the effort against a defence.

        The passes of a classifier without one are the cheapest that there are: it gets
        more of them, about those of AutoAttack.
        """
        if defence.tiled:
            # Each query is a search, and its gradients lead on.
            return dataclasses.replace(self, corner_queries=0)
        if not isinstance(defence, defenses.NoDefense):
            return self
        aimed = 2 * self.aimed_steps
        return dataclasses.replace(
            self,
            steps=2 * self.steps,
            aimed_steps=aimed,
            all_steps=aimed if self.all_steps else 0,
            boundary_steps=aimed if self.all_steps else self.boundary_steps,
            # Where its gradients are masked, a short random search finds little.
            queries=max(self.queries, _QUERIES) if self.all_steps else self.queries,
            # All that corners add is beside gradients that are no guide.
            corner_queries=0,
        )

    def members(
        self,
        views: Sequence[defenses.Adversary],
        donors: Sequence[Donor],
        norm: Norm = "linf",
    ) -> Iterator[Member]:
        """Yields the members in their order: first what breaks most for its cost.

        Args:
          views: the ways to differentiate the defence, best first.
          donors: whose images are handed over; those of a defence are starts, too.
          norm: of the ball.
        """
        if norm == "l0":
            yield from self._of_few_values(views, donors)
            return
        first, *others = views[: self.views]
        for donor in donors:
            yield Handed(donor.name)
        yield Climb(first, self.steps)
        if self.aimed_steps:
            yield Climb(first, self.aimed_steps, "nearest")
        for other in others:
            yield Climb(other, self.steps, start="random")
        for donor in donors:
            if not donor.judged.bare:
                yield Climb(first, self.steps, start=donor.name)
        yield Climb(first, self.steps, start="basin")
        if self.all_steps:
            yield Climb(first, self.all_steps, "all", "random")
        if self.boundary_steps:
            yield Boundary(first, self.boundary_steps)
        if self.queries:
            yield Scores(self.queries)
        if self.corner_queries:
            yield Corners(self.corner_queries)

    def _of_few_values(
        self, views: Sequence[defenses.Adversary], donors: Sequence[Donor]
    ) -> Iterator[Member]:
        """Yields the members of an l0 ball; nothing there is aimed."""
        first, *others = views[: self.views]
        steps = PATIENCE * self.steps
        for donor in donors:
            yield Handed(donor.name)
        yield Fewest(first, steps)
        for other in others:
            yield Fewest(other, steps, start="random")
        for donor in donors:
            if not donor.judged.bare:
                yield Fewest(first, steps, start=donor.name)
        yield Fewest(first, steps, start="basin")
        if self.queries:
            yield Scores(self.queries, sparse=True)


EFFORTS = {
    "quick": Effort(20, 20, 1, 0, 200, (1e-3,), 16, 2),
    "standard": Effort(50, 50, 2, 20, 500, (1e-3, 1e-1), 32, 4, corner_queries=1500),
    "thorough": Effort(
        *(100, 100, 3, 100, 5000, (1e-3, 1e-4, 1e-2, 1e-1), 64, 8), corner_queries=5000
    ),
}
"""The efforts by their names."""


def effort_of(effort: str | Effort) -> Effort:
    """Returns an effort, given as such or by its name.

    Raises:
      UsageError: for the name of none.
    """
    if isinstance(effort, Effort):
        return effort
    if effort not in EFFORTS:
        raise unknown_name("effort", effort, EFFORTS)
    return EFFORTS[effort]
