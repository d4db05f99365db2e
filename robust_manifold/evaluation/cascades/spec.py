"""A worst case as a config writes it: the effort, the balls, and whose keys."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import Registry, check
from robust_manifold.defenses import Adversary, Defense
from robust_manifold.evaluation.cascades.effort import Effort, effort_of
from robust_manifold.evaluation.cascades.judged import views_of
from robust_manifold.evaluation.cascades.members import Donor
from robust_manifold.evaluation.worst_case import Budget

registry: Registry["Cascade"] = Registry("worst case")

efforts: Registry[Effort] = Registry("effort")
efforts.register("effort")(Effort)

NORMS: tuple[Norm, ...] = ("linf", "l2", "l0", "l1")
"""Of the balls that a cascade goes into, in this order: what it finds in one is carried
over to another that holds it, as an l1 ball holds the l0 ball of the same radius."""


@registry.register("cascade")
@dataclasses.dataclass(frozen=True)
class Cascade:
    """A cascade on every column of a table.

    Attributes:
      effort: "quick", "standard", "thorough", or one's own as in
        "effort(steps=10, ...)" with every field of `Effort`.
      linf: radii of balls in this norm, on pixels in [0, 1].
      l2: likewise.
      l1: likewise.
      l0: likewise; how many values may change.
      keys: "fixed" attacks a random defence under the keys by which it is judged;
        "fresh" under others, as its user has them; "both" makes rows of each.
    """

    effort: str | Effort = "standard"
    linf: float | tuple[Any, ...] = ()
    l2: float | tuple[Any, ...] = ()
    l1: float | tuple[Any, ...] = ()
    keys: Literal["fixed", "fresh", "both"] = "fixed"
    l0: float | tuple[Any, ...] = ()

    def __post_init__(self):
        if isinstance(self.effort, str) and "(" in self.effort:
            object.__setattr__(self, "effort", efforts.build(self.effort))
        effort_of(self.effort)
        for norm in NORMS:
            given = getattr(self, norm)
            radii = given if isinstance(given, tuple) else (given,)
            fits = all(map(_is_radius, radii)) and len(set(radii)) == len(radii)
            check(fits, self, norm, "finite radii above 0, each once, as in (0.1, 0.2)")
            if norm == "l0":
                whole = all(float(radius).is_integer() for radius in radii)
                check(whole, self, norm, "whole numbers, 1 or more, as in (12,)")
            object.__setattr__(self, norm, tuple(map(float, radii)))
        check(self.keys in ("fixed", "fresh", "both"), self, "keys", _KEYS)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The balls, by norm and then rising."""
        return tuple(
            Budget(norm, epsilon)
            for norm in NORMS
            for epsilon in sorted(getattr(self, norm))
        )

    @property
    def size(self) -> Effort:
        """The effort in numbers."""
        return effort_of(self.effort)

    def views_of(self, defence: Defense) -> tuple[Adversary, ...]:
        """Returns the adversaries that are tried on a defence."""
        return views_of(defence, self.size.dampings)

    def most_shares(self, defence: Defense, donors: Sequence[Donor]) -> int:
        """Returns how many times a cascade tells of its work at a budget, at most."""
        effort, views = self.size.against(defence), self.views_of(defence)
        norms: set[Norm] = {budget.norm for budget in self.budgets} or {"linf"}
        counts = (sum(1 for _ in effort.members(views, donors, norm)) for norm in norms)
        return len(donors) + max(counts)

    @property
    def each(self) -> tuple["Cascade", ...]:
        """The spec by the kinds of keys that it asks for, without its balls."""
        kinds = ("fixed", "fresh") if self.keys == "both" else (self.keys,)
        return tuple(
            dataclasses.replace(self, linf=(), l2=(), l1=(), l0=(), keys=kind)
            for kind in kinds
        )


_KEYS = "'fixed', 'fresh' or 'both'"


def _is_radius(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf
