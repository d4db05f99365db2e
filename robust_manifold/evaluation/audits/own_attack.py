"""A user's own attack function, and a recorder of what it asks the classifier."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from robust_manifold.attacks.base import check_epsilon
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, with_checked_fields
from robust_manifold.evaluation.audits.budgets import perturbation_sizes


@with_checked_fields
@dataclasses.dataclass(frozen=True)
class OwnAttack:
    """A user's attack function, to be audited as it is.

    Attributes:
      run: `run(classify, images, labels, epsilon) -> adversarial images`, with
        `classify(images) -> logits [n, classes]`, a JAX function of a batch that may be
        differentiated, compiled and called at will, and images [n, height, width,
        channels] in [0, 1].
      epsilon: the budget in pixels; `run` is called with others, too.
      norm: of the budget.
    """

    run: Callable[[Callable[[Any], Any], Any, Any, float], Any]
    epsilon: float
    norm: Norm = "linf"

    def __post_init__(self):
        check(callable(self.run), self, "run", "a function")
        check_epsilon(self)
        check(self.norm in ("linf", "l2", "l1"), self, "norm", "linf, l2 or l1")

    @property
    def budget(self) -> float:
        """The attack's `epsilon`, as `Attack.budget`."""
        return self.epsilon


class Recorder:
    """A classifier of a batch that remembers what it was asked about.

    Only whole batches can be told image by image: of others the number alone counts.

    Attributes:
      met: per image, whether an adversarial image in the budget was asked about.
      asked: number of images asked about.
      losses: of each whole batch, the criterion's losses of its images; NaN out of the
        budget.
    """

    def __init__(
        self,
        classify: Callable[[Any], Any],
        images: np.ndarray,
        labels: Any,
        attack: OwnAttack,
        epsilon: float,
        criterion: Criterion = MISCLASSIFIED,
    ):
        self._classify = classify
        self._images, self._labels = images, labels
        self._criterion = criterion
        self._norm: Norm = attack.norm
        self._epsilon = epsilon
        self.met = np.zeros(len(images), bool)
        self.asked = 0
        self.losses: list[np.ndarray] = []

    def __call__(self, candidates: Any) -> Any:
        """Returns the logits of a batch."""
        logits = self._classify(candidates)
        losses = None
        if np.shape(candidates) == self._images.shape:
            losses = jax.vmap(self._criterion.loss)(logits, self._labels)
        jax.debug.callback(self._note, candidates, losses)
        return logits

    def _note(self, candidates: Any, losses: Any) -> None:
        candidates = np.asarray(candidates)
        self.asked += len(candidates)
        if losses is None:
            return
        sizes = perturbation_sizes(self._images, candidates, self._norm)
        allowed = sizes <= self._epsilon * (1 + 1e-6) + 1e-6
        allowed &= ((candidates >= 0) & (candidates <= 1)).all(axis=(1, 2, 3))
        losses = np.asarray(losses, np.float64)
        self.met |= allowed & (losses > 0)
        self.losses.append(np.where(allowed, losses, np.nan))
