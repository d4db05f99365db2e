"""What a cascade attacks, and how it judges the images that come of it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from robust_manifold import defenses
from robust_manifold.attacks import Expectation
from robust_manifold.attacks.contract import output_of
from robust_manifold.attacks.random import outputs_of
from robust_manifold.core import keys
from robust_manifold.core.checks import checked_labels
from robust_manifold.core.criterion import Criterion
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import GENERATOR, Networks
from robust_manifold.core.types import Params, PRNGKey
from robust_manifold.defenses import DefenseParams
from robust_manifold.evaluation.results import predictions_of

_NOISY = tuple(defenses.Oblivious(noise, draws=4) for noise in (0.125, 0.25, 0.5))
"""Stand in for a random defence; the levels are about those of Cohen et al. 2019."""

_KEYS = 8
"""Fresh keys by which images against a random defence are compared."""


class Verdict(NamedTuple):
    """What the defended classifier makes of images.

    Attributes:
      rate: share of the keys under which each image is misclassified, and accepted
        where the defence may reject; 0 or 1 where it has one known key, or draws
        nothing.  Of a criterion without classes: under which it is met.
      margin: the largest other logit less the label's, or less that of the rejection
        where this is larger; a mean over the keys.  Of a criterion without classes: its
        loss.
    """

    rate: Float[np.ndarray, " n"]
    margin: Float[np.ndarray, " n"]

    @property
    def broken(self) -> Bool[np.ndarray, " n"]:
        """Which images are misclassified under every key."""
        return self.rate >= 1


@dataclasses.dataclass(frozen=True)
class Judged:
    """A classifier behind a defence.

    Attributes:
      defence: the spec; `defenses.NoDefense()` for a bare classifier.
      networks: that it uses, by role.
      classify: `classify(params, image) -> logits`, the bare classifier of one image.
      params: of all of them.
      keys: [n], the key that the defence has for each image, known to the attack; None
        for fresh keys, which it does not know.
      wants: what an attack has to come to, in place of the defence's own criterion: in
        a regression, which no defence knows of.
    """

    defence: defenses.Defense
    networks: Networks
    classify: Callable[[Params, Array], Array]
    params: DefenseParams
    keys: Any = None
    wants: Criterion | None = None

    @property
    def bare(self) -> bool:
        """Whether there is no defence."""
        return isinstance(self.defence, defenses.NoDefense)

    @property
    def criterion(self) -> Criterion:
        """What an attack has to come to."""
        return self.defence.criterion if self.wants is None else self.wants

    @property
    def apply(self) -> Expectation:
        """The true defended classifier."""
        return Expectation(
            defenses.defended_apply(self.defence, self.networks, self.classify)
        )

    @property
    def latent_size(self) -> int:
        """Of the generator; 0 without one."""
        generator: Any = self.networks.get(GENERATOR)
        return generator.latent_shape[0] if generator else 0

    def classes(self, images: np.ndarray) -> int:
        """Returns the number of classes of an image; 0 without classes."""
        if not self.criterion.classes:
            return 0
        return self.criterion.classes_among(self._output(images).size)

    def checked(self, images: np.ndarray, labels: Any) -> np.ndarray:
        """Returns the labels of images, or their targets, checked.

        Raises:
          UsageError: for those that the criterion has no use for.
        """
        if self.criterion.classes:
            return checked_labels(labels, len(images), self.classes(images))
        return self.criterion.check(self._output(images), labels, len(images))

    def _output(self, images: np.ndarray) -> jax.ShapeDtypeStruct:
        image = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
        return output_of(self.apply, self.params, image, self.criterion)

    def view(self, adversary: defenses.Adversary, samples: int) -> Expectation:
        """Returns what an adversary differentiates.

        Args:
          adversary: its spec.
          samples: keys over which it takes the mean.

        Raises:
          UsageError: if the defence cannot be differentiated so.
        """
        view = adversary.view(self.defence, self.networks, self.classify)
        return Expectation(view or self.apply.apply, samples)

    def take(self, places: np.ndarray) -> "Judged":
        """Returns it for some of the images."""
        if self.keys is None:
            return self
        return dataclasses.replace(self, keys=self.keys[places])

    def judge(
        self, images: np.ndarray, labels: np.ndarray, ids: np.ndarray, key: PRNGKey
    ) -> Verdict:
        """Returns the verdict on images.

        Args:
          images: [n, height, width, channels] in [0, 1].
          labels: [n].
          ids: global ids [n].
          key: of the fresh keys, where the attack has no others.
        """
        if self.keys is not None:
            return self.verdict([self._logits(images, ids, key)], labels)
        streams = [keys.stream(key, f"key {number}") for number in range(_KEYS)]
        told = [self._logits(images, ids, each) for each in streams]
        return self.verdict(told, labels)

    def verdict(self, outputs: list[np.ndarray], labels: np.ndarray) -> Verdict:
        """Returns the verdict of the defended classifier's outputs under some keys."""
        if not self.criterion.classes:
            return _verdict_of(self.criterion, outputs, labels)
        seen = [np.asarray(self.criterion.seen(each, labels)) for each in outputs]
        return verdict(seen, labels)

    def _logits(self, images: np.ndarray, ids: np.ndarray, key: PRNGKey) -> np.ndarray:
        return outputs_of(
            self.apply,
            self.params,
            images,
            key=key,
            fixed_keys=self.keys,
            ids=ids,
            tiled=self.defence.tiled,
        )


def verdict(logits: list[np.ndarray], labels: np.ndarray) -> Verdict:
    """Returns the verdict of logits [n, classes] under some keys."""
    # As the tables count: of equal logits the first wins, and NaN is wrong.
    wrong = [predictions_of(each) != labels for each in logits]
    found = [_margin(each, labels) for each in logits]
    return Verdict(np.mean(wrong, axis=0), np.mean(found, axis=0))


def _verdict_of(
    criterion: Criterion, outputs: list[np.ndarray], targets: np.ndarray
) -> Verdict:
    """Returns the verdict of outputs under some keys by a criterion without classes."""
    met = [np.asarray(jax.vmap(criterion.succeeds)(each, targets)) for each in outputs]
    losses = [np.asarray(jax.vmap(criterion.loss)(each, targets)) for each in outputs]
    # As the tables count: an output that is not a number is farthest from all.
    losses = [np.where(np.isnan(each), np.inf, each) for each in losses]
    return Verdict(np.mean(met, axis=0), np.mean(losses, axis=0))


def _margin(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the largest other logit less the label's; above all where one is NaN."""
    rows = np.arange(len(labels))
    others = np.array(logits, copy=True)
    others[rows, labels] = -np.inf
    with np.errstate(invalid="ignore"):
        margin = others.max(axis=1) - logits[rows, labels]
    return np.where(np.isnan(logits).any(axis=1), np.inf, margin)


@functools.cache
def views_of(
    defence: defenses.Defense, dampings: tuple[float, ...]
) -> tuple[defenses.Adversary, ...]:
    """Returns the adversaries that a cascade tries on a defence.

    Each is a way to differentiate it; those that it cannot be met with are left out.

    Args:
      defence: the spec.
      dampings: of the implicit derivatives.
    """
    if isinstance(defence, defenses.NoDefense):
        return (defenses.Unrolled(),)
    tried: list[defenses.Adversary] = [
        defenses.StraightThrough(),
        defenses.Unrolled(),
        defenses.Oblivious(),
    ]
    if isinstance(defence, defenses.ProjectionDefense):
        tried += [defenses.Implicit(damping=damping) for damping in dampings]
        tried += [
            defenses.Implicit(damping=dampings[0], hessian="gauss_newton"),
            defenses.BPDA(),
        ]
    if isinstance(defence, defenses.Purifier):
        tried += [defenses.BPDA(stand_in=each) for each in defence.stand_ins]
    else:
        # Where it votes, no gradient leads through it, nor straight through.
        tried += _NOISY
    return tuple(each for each in tried if _meets(each, defence))


def _meets(adversary: defenses.Adversary, defence: defenses.Defense) -> bool:
    try:
        adversary.check_meets(defence)
    except UsageError:
        return False
    return True
