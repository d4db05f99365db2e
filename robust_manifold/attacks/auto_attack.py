"""AutoAttack: a fixed series of attacks without parameters to tune."""

import dataclasses
from typing import Any, ClassVar, Literal

from robust_manifold.attacks.apgd import APGD
from robust_manifold.attacks.base import (
    Ensemble,
    Family,
    SteppedAttack,
    check_epsilon,
    registry,
)
from robust_manifold.attacks.fast_adaptive_boundary import FAB
from robust_manifold.attacks.square import Square
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole


@registry.register("auto_attack")
@dataclasses.dataclass(frozen=True)
class AutoAttack(Ensemble):
    """AutoAttack (Croce and Hein 2020), each member on what the last ones left.

    `standard`: Auto-PGD on cross-entropy, Auto-PGD on the targeted difference of
    logits ratio, targeted FAB, and Square.  `rand`, for random classifiers: Auto-PGD on
    cross-entropy and on the difference of logits ratio; hand `craft` the classifier as
    `Expectation(apply, samples=20)` for the paper's expectation over 20 draws.

    The cross-entropy is climbed as the margin in log-sum-exp form.  It is softplus of
    that margin and Auto-PGD uses no more than a loss's order and its gradient's
    direction, so both are one attack, except that the cross-entropy underflows for
    large logits: the verdict does not depend on their scale.

    With three classes the ratio has no target, with two there is none: that member is
    then untargeted, or left out as the equal of the first.  A targeted attack has only
    one class to go for; members that come to the same are made once.
    """

    family: ClassVar[Family] = "ensemble"
    title: ClassVar[str] = "AutoAttack"
    source: ClassVar[str] = "Croce and Hein 2020"

    epsilon: float
    """Radius of the ball, in the plain norm, on pixels in [0, 1]."""
    norm: Norm = "linf"
    """`linf`, `l2` or `l1`."""
    version: Literal["standard", "rand"] = "standard"
    steps: int = 100
    """Of each run of Auto-PGD and FAB."""
    queries: int = 5000
    """Of Square."""
    targets: int = 9
    """Classes that the targeted members go for, at most."""

    @property
    def suits_random(self) -> bool:  # type: ignore[override]
        """Only the version that is made for random classifiers does."""
        return self.version == "rand"

    def __post_init__(self):
        check_epsilon(self)
        check(self.norm in ("linf", "l2", "l1"), self, "norm", "linf, l2 or l1")
        known = self.version in ("standard", "rand")
        check(known, self, "version", "standard or rand")
        for field in ("steps", "queries", "targets"):
            whole = is_whole(getattr(self, field), 1)
            check(whole, self, field, "a whole number, 1 or more")

    def members(self, classes: int) -> tuple[SteppedAttack[Any], ...]:
        """Returns the attacks in their order."""
        if self.version == "rand":
            # A success on one draw may be none on the next: the search goes on.
            first, untargeted = self._apgd("margin", False), self._apgd("dlr", False)
            return (first, untargeted) if classes > 2 else (first,)
        # FAB needs two classes: with one output it is left out.
        targets = max(1, min(self.targets, classes - 1))
        fab = FAB(self.norm, steps=self.steps, targets=targets, epsilon=self.epsilon)
        square = Square(self.epsilon, self.norm, queries=self.queries, rescale=False)
        return (self._apgd("margin"), *self._ratio(classes), fab, square)

    def _ratio(self, classes: int) -> tuple[APGD, ...]:
        """Returns Auto-PGD on the difference of logits ratio, if it is another one."""
        if classes > 3:
            return (self._apgd("targeted_dlr", targets=min(self.targets, classes - 1)),)
        return (self._apgd("dlr"),) if classes == 3 else ()

    def _apgd(self, loss: Any, stop: bool = True, **options: int) -> APGD:
        return APGD(
            self.epsilon, self.norm, loss, steps=self.steps, stop=stop, **options
        )
