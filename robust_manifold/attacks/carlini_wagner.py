"""Carlini and Wagner's attacks: one spec for the searches in three norms."""

import dataclasses
from typing import Any, ClassVar

from jaxtyping import Array, Bool

from robust_manifold.attacks.base import (
    Family,
    Passes,
    Problem,
    SteppedAttack,
    registry,
)
from robust_manifold.attacks.carlini_wagner_l0 import L0Search
from robust_manifold.attacks.carlini_wagner_l2 import L2Search
from robust_manifold.attacks.carlini_wagner_linf import LinfSearch
from robust_manifold.attacks.trade_off import (
    RoundSearch,
    check_search,
    first_constant,
)
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check
from robust_manifold.core.types import Image, PRNGKey

_SEARCHES = {"l2": L2Search, "l0": L0Search, "linf": LinfSearch}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "l2": {"binary_search_steps": 9, "steps": 200, "learning_rate": 0.05},
    "l0": {"binary_search_steps": 120, "steps": 40, "learning_rate": 0.05},
    "linf": {"binary_search_steps": 60, "steps": 50, "learning_rate": 0.01},
}


@registry.register("carlini_wagner")
@dataclasses.dataclass(frozen=True)
class CarliniWagner(SteppedAttack[Any]):
    """Carlini and Wagner's attacks (2017): Adam on a trade of distance for logits.

    All minimise distance + c * shortfall, where the shortfall is
    max(z_y - max_j z_j + confidence, 0), or max(max_j z_j - z_t + confidence, 0) with
    a target, and return the nearest adversarial image met in any round:

    * `l2`: the squared l2 distance, for w in x' = (tanh(w) + 1) / 2.  Every round
      starts from the clean image, or the given start, with another c: ten times the
      last one until an adversarial image is met, then halfway between what fails and
      what succeeds.
    * `l0`: the squared l2 distance, over a set of pixels that shrinks.  On success
      the least worthy 30 % of the pixels, by change times slope, are put back; on
      failure of all c (tenfold, up to 10^4 times the first one) half as many are,
      and a single pixel without which all fail is kept for good.  The original goes
      on while it succeeds and has no way back.
    * `linf`: the sum of `max(|delta_i| - tau, 0)` over pixels, where tau falls to 0.9
      of the distance on success, and goes halfway back on failure of all c (tenfold,
      up to 100 times the first one), which the original does not.

    For `l0` and `linf` a round starts from the best image so far, ends with its first
    success, and moves pixels themselves, clipped to the box: in the original's tanh
    variable a pixel at the box's end, as most of a digit's are, hardly moves.

    With `normalise` the shortfall is measured in units of the clean image's own, so
    that c means the same for every image and the scale of the logits changes nothing.
    With `l2` the distance of the best image then bounds the steps and c, too, and in
    the end ten halvings lead from it towards the clean image, as far as they succeed.
    Without it, `l2` with `steps=1000, learning_rate=0.01` is the published recipe; its
    first c of 0.001 then fits logits of ordinary size only.
    """

    family: ClassVar[Family] = "minimum norm"
    title: ClassVar[str] = "Carlini-Wagner"
    source: ClassVar[str] = "Carlini and Wagner 2017"
    ends_early: ClassVar[bool] = True
    takes_start: ClassVar[bool] = True

    norm: Norm = "l2"
    """`l2`, `l0` or `linf`."""
    binary_search_steps: int | None = None
    """Rounds at most: values of c (`l2`), of c and the set of pixels (`l0`), of c and
    tau (`linf`); by default 9, 120 and 60."""
    steps: int | None = None
    """Steps of a round at most; by default 200, 40 and 50."""
    learning_rate: float | None = None
    """Adam's, of the tanh variable (`l2`) or in pixels; by default 0.05, 0.05, 0.01."""
    initial_const: float | None = None
    """The first round's c; by default 10 (`l2`) or 1 with `normalise`, else 0.001."""
    confidence: float = 0.0
    """The lead in logits that counts as a success."""
    abort_early: bool = True
    """`l2`: end a round when a tenth of its steps brought no gain."""
    normalise: bool = True
    """Make the attack blind to the scale of the logits."""

    def __post_init__(self):
        check(self.norm in _SEARCHES, self, "norm", "l2, l0 or linf")
        check_search(self)

    @property
    def search(self) -> SteppedAttack[Any]:
        """The search in the attack's norm, with that norm's defaults filled in."""
        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(RoundSearch)
        }
        first = 10.0 if self.norm == "l2" and self.normalise else None
        given["initial_const"] = self.initial_const or first or first_constant(self)
        for name, default in _DEFAULTS[self.norm].items():
            given[name] = given[name] or default
        return _SEARCHES[self.norm](**given)

    @property
    def iterations(self) -> int:
        """All steps of all rounds."""
        return self.search.iterations

    def passes(self, classes: int) -> Passes:
        """Returns the cost: the clean image, a gradient a step and, `l2`, the end."""
        return self.search.passes(classes)

    def begin(self, problem: Problem, key: PRNGKey) -> Any:
        """Returns the state before the first step."""
        return self.search.begin(problem, key)

    def step(self, problem: Problem, key: PRNGKey, state: Any) -> Any:
        """Returns the state one step on."""
        return self.search.step(problem, key, state)

    def image_of(self, state: Any) -> Any:
        """Returns the image of the search."""
        return self.search.image_of(state)

    def ended(self, state: Any) -> Bool[Array, ""]:
        """Returns whether the search is over."""
        return self.search.ended(state)

    def finish(self, problem: Problem, key: PRNGKey, state: Any) -> Image:
        """Returns the nearest adversarial image."""
        return self.search.finish(problem, key, state)
