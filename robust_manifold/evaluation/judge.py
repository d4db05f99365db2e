"""Class-change judges: do two images still read as one class?

Near images that a classifier tells apart are its mistake only where they show the same
thing.  Judges that know nothing of the classifier say so: others that were trained
apart, and nearest neighbours.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Int

from robust_manifold.attacks.contract import classes_of
from robust_manifold.core import batching
from robust_manifold.core.checks import checked_images
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import with_checked_fields
from robust_manifold.core.types import Params
from robust_manifold.evaluation.intervals import Interval, wilson_interval
from robust_manifold.evaluation.neighbours import nearest_neighbours

UNSURE = -1
"""The class of an image that a judge does not commit itself on."""

UNCHANGED, CHANGED, UNDECIDED = "unchanged", "changed", "undecided"
VERDICTS = (UNCHANGED, CHANGED, UNDECIDED)

TOGETHER = "all judges"
"""The name of the line on which the judges agree."""


@runtime_checkable
class Judge(Protocol):
    """Anything that reads the class of an image."""

    @property
    def name(self) -> str:
        """As tables and sheets call it."""
        ...

    def read(
        self, images: Float[np.ndarray, "n height width channels"]
    ) -> Int[np.ndarray, " n"]:
        """Returns the class of each image, or `UNSURE`."""
        ...


@with_checked_fields
@dataclasses.dataclass(frozen=True)
class ClassifierJudge:
    """A classifier trained apart from the attacked one.

    Attributes:
      name: as tables and sheets call it.
      apply: `apply(params, image) -> logits`, for one image.
      params: of `apply`.
      certainty: the least probability of a class that it commits itself on.
    """

    name: str
    apply: Callable[[Params, Any], Any]
    params: Params
    certainty: float = 0.5

    def __post_init__(self):
        _check_share(self.name, "certainty", self.certainty)

    def read(
        self, images: Float[np.ndarray, "n height width channels"]
    ) -> Int[np.ndarray, " n"]:
        """Returns the likeliest class of each image, or `UNSURE`."""
        image = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
        try:
            classes_of(self.apply, self.params, image)
        except UsageError as error:
            raise UsageError(f"judge {self.name!r}: {error}") from error
        logits = batching.apply_examples(self.apply, self.params, images)
        probabilities = np.asarray(jax.nn.softmax(logits, axis=-1))
        # A NaN is not sure of anything.
        sure = probabilities.max(axis=-1) >= self.certainty
        return np.where(sure, probabilities.argmax(axis=-1), UNSURE)


@with_checked_fields
@dataclasses.dataclass(frozen=True, eq=False)
class NeighbourJudge:
    """The class of the nearest labelled image, by the Euclidean norm over all pixels.

    Attributes:
      name: as tables and sheets call it.
      images: [n, height, width, channels], floats in [0, 1] or uint8.
      labels: [n], their classes.
      lead: by what share the nearest image of any other class must be farther away
        than the nearest of all, or the judge is unsure.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    lead: float = 0.02

    def __post_init__(self):
        _check_share(self.name, "lead", self.lead)
        object.__setattr__(self, "images", np.asarray(self.images))
        labels, n = np.asarray(self.labels), len(np.atleast_1d(self.images))
        if labels.shape != (n,) or len(np.unique(labels)) < 2:
            shown = len(labels) if labels.ndim == 1 else f"an array {labels.shape}"
            raise UsageError(
                f"labels of {self.name} are {shown} for {n} images; allowed: one an "
                "image, of 2 classes or more."
            )

    def read(
        self, images: Float[np.ndarray, "n height width channels"]
    ) -> Int[np.ndarray, " n"]:
        """Returns the class of each image's nearest neighbour, or `UNSURE`."""
        labels = np.asarray(self.labels)
        classes = np.unique(labels)
        distances = np.stack(
            [
                nearest_neighbours(images, self.images[labels == label]).distances
                for label in classes
            ]
        )
        nearest, second = np.sort(distances, axis=0)[:2]
        sure = second > (1 + self.lead) * nearest
        return np.where(sure, classes[distances.argmin(axis=0)], UNSURE)


class VerdictLine(NamedTuple):
    """How many pairs a judge, or all together, decided one way."""

    judge: str
    """Its name, or `TOGETHER`."""
    verdict: str
    """One of `VERDICTS`."""
    pairs: int
    n: int
    share: float
    interval: Interval
    """Wilson's, of the share."""


class Judgement(NamedTuple):
    """What judges say of n pairs."""

    reads: dict[str, Int[np.ndarray, "n 2"]]
    """By the name of a judge, the classes of both images, or `UNSURE`."""
    verdicts: dict[str, np.ndarray]
    """By the name of a judge or `TOGETHER`, one of `VERDICTS` for each pair."""
    lines: list[VerdictLine]
    """Of every judge and of all together, each verdict in turn."""


def judge_pairs(
    judges: Sequence[Judge],
    first: Any,
    second: Any,
    *,
    confidence: float = 0.95,
) -> Judgement:
    """Returns whether the images of each pair read as one class.

    A judge calls a pair unchanged where both images read as one class, changed where
    they read as two, and undecided where it is unsure of either.  All together call it
    what every one of them calls it, and undecided where they do not agree.

    Args:
      judges: with different names.
      first: [n, height, width, channels], floats in [0, 1].
      second: of the same shape, for instance what an attack made of `first`.
      confidence: coverage of the intervals.

    Raises:
      UsageError: without judges, for a name that occurs twice, and for images that
        are not allowed or not paired.
    """
    judges = (judges,) if isinstance(judges, Judge) else tuple(judges)
    for judge in judges:
        if not isinstance(judge, Judge):
            raise UsageError(
                f"a judge is {judge!r}; allowed: what has a name and a method read, "
                "such as a ClassifierJudge."
            )
    names = [judge.name for judge in judges]
    if not names or len({*names, TOGETHER}) != len(names) + 1:
        raise UsageError(
            f"judges are called {names}; allowed: 1 or more, each by a name of its "
            f"own, none {TOGETHER!r}."
        )
    first, second = checked_images(first), checked_images(second)
    if first.shape != second.shape:
        raise UsageError(
            f"second has the shape {second.shape}; allowed: {first.shape}, as first."
        )
    both = np.concatenate([first, second])
    reads, verdicts = {}, {}
    for judge in judges:
        classes = np.asarray(judge.read(both))
        if classes.shape != (len(both),):
            raise UsageError(
                f"{judge.name!r} reads {len(both)} images as an array "
                f"{classes.shape}; allowed: one class an image."
            )
        reads[judge.name] = classes.reshape(2, len(first)).T
        verdicts[judge.name] = _verdicts(reads[judge.name])
    agreed = np.stack([verdicts[name] for name in names])
    unanimous = (agreed == agreed[:1]).all(axis=0)
    verdicts[TOGETHER] = np.where(unanimous, agreed[0], UNDECIDED)
    lines = [
        line
        for name, of_judge in verdicts.items()
        for line in summarise_verdicts(name, of_judge, confidence=confidence)
    ]
    return Judgement(reads, verdicts, lines)


def summarise_verdicts(
    judge: str, verdicts: np.ndarray, *, confidence: float = 0.95
) -> list[VerdictLine]:
    """Returns one line for each of `VERDICTS`: counts, shares, Wilson intervals.

    Raises:
      UsageError: if there are no verdicts.
    """
    n = len(verdicts)
    lines = []
    for verdict in VERDICTS:
        count = int(np.sum(verdicts == verdict))
        interval = wilson_interval(count, n, confidence)
        lines.append(VerdictLine(judge, verdict, count, n, count / n, interval))
    return lines


def _verdicts(reads: Int[np.ndarray, "n 2"]) -> np.ndarray:
    """Returns the verdict on each pair of classes."""
    same = np.where(reads[:, 0] == reads[:, 1], UNCHANGED, CHANGED)
    return np.where((reads == UNSURE).any(axis=1), UNDECIDED, same)


def _check_share(name: str, field: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UsageError(f"{field} of {name} is {value}; allowed: 0 to below 1.")
