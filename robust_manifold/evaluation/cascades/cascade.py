"""The members in turn, budget after budget, each on what still stands."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from robust_manifold import defenses
from robust_manifold.core import batching, keys
from robust_manifold.core.checks import checked_images, checked_key
from robust_manifold.core.errors import NoGradientError, UsageError
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import PRNGKey
from robust_manifold.evaluation.cascades.effort import Effort, effort_of
from robust_manifold.evaluation.cascades.judged import Judged, Verdict, views_of
from robust_manifold.evaluation.cascades.members import (
    Donor,
    Handed,
    Made,
    Member,
    Trial,
    ascent,
)
from robust_manifold.evaluation.cascades.pilot import Tried, ranked, tried
from robust_manifold.evaluation.results import sizes
from robust_manifold.evaluation.worst_case import Budget

CLEAN, CARRIED = "clean", "another budget"
"""Who breaks an image that falls untouched, or by what was made at another budget."""


class Share(NamedTuple):
    """What one member did at one budget.

    Attributes:
      member: its name.
      images: that it was given.
      broken: that it broke, and no member before it.
      forwards: outputs that it asked of what it sees, in all.
      backwards: gradients that it asked, in all.
      seconds: that it took.
    """

    member: str
    images: int
    broken: int
    forwards: float
    backwards: float
    seconds: float


class AtBudget(NamedTuple):
    """What a cascade came to at one budget.

    Attributes:
      budget: the ball.
      images: the worst of each that was made.
      rate: share of the keys under which each is misclassified.
      margin: the largest other logit less the label's; what is left of a survivor is
        how far it is below 0.
      member: the place in `shares` of the member that made each of `images`.
      shares: what each member did, in their order.
    """

    budget: Budget
    images: Float[np.ndarray, "n height width channels"]
    rate: Float[np.ndarray, " n"]
    margin: Float[np.ndarray, " n"]
    member: Int[np.ndarray, " n"]
    shares: tuple[Share, ...]

    @property
    def broken(self) -> Bool[np.ndarray, " n"]:
        """Which images are misclassified under every key."""
        return self.rate >= 1

    @property
    def accuracy(self) -> float:
        """The share that is left, a mean over keys where these are fresh."""
        return float(1 - self.rate.mean())

    @property
    def backwards(self) -> float:
        """The gradients of all members."""
        return float(sum(share.backwards for share in self.shares))


class Found(NamedTuple):
    """What a cascade came to.

    Attributes:
      budgets: one entry each, by norm and then rising.
      tried: what the pilot made of the ways to differentiate the defence, best first;
        empty where there was no choice, or no pilot.
    """

    budgets: tuple[AtBudget, ...]
    tried: tuple[Tried, ...]


def cascade(
    judged: Judged,
    images: Any,
    labels: Any,
    budgets: Iterable[Budget],
    *,
    key: PRNGKey,
    effort: str | Effort = "standard",
    donors: Sequence[Donor] = (),
    pilot: tuple[Any, Any] | None = None,
    views: Sequence[defenses.Adversary] | None = None,
    ids: Any = None,
    on_share: Callable[[Budget, Share], None] | None = None,
) -> Found:
    """Returns the worst image of each ball that the members of a cascade find.

    Args:
      judged: the defended classifier, with the keys of these images.
      images: [n, height, width, channels], floats in [0, 1].
      labels: [n], the true classes; or the targets of `judged.wants`.
      budgets: the balls; an image that falls in one has fallen in all that come after
        it and hold it.
      key: the root of all randomness of the attack.
      effort: "quick", "standard", "thorough", or one's own.
      donors: whose images the members begin from, too.
      pilot: other images and their labels, on which the ways to differentiate the
        defence are tried, and from which starts of another class are taken; by default
        `images` themselves, so that an image's result depends on the others.
      views: these ways as they are known, best first: no pilot is made.
      ids: global ids [n] of the images; 0..n-1 by default.
      on_share: called after each member at each budget.

    Raises:
      UsageError: for images, labels or an effort that is none.
    """
    budgets = tuple(budgets)
    if not budgets:
        raise UsageError("budgets are empty; allowed: one ball or more.")
    run = _prepared(
        judged, images, labels, key, effort, tuple(donors), pilot, ids, on_share
    )
    by_norm: dict[Norm, list[Budget]] = {}
    for budget in budgets:
        by_norm.setdefault(budget.norm, []).append(budget)
    rising = [
        sorted(own, key=lambda budget: budget.epsilon) for own in by_norm.values()
    ]
    trials: tuple[Tried, ...] = ()
    if views is None:
        # Which ways lead on hardly depends on the ball: one pilot is for all of them.
        views, trials = run.pilot(rising[0][len(rising[0]) // 2])
    found: list[AtBudget] = []
    for budget in itertools.chain(*rising):
        found.append(run.at(budget, views, found))
    return Found(tuple(found), trials)


def exchange(
    judged: Judged,
    images: Any,
    labels: Any,
    budget: Budget,
    offered: Mapping[str, np.ndarray],
    *,
    key: PRNGKey,
    view: defenses.Adversary,
    effort: str | Effort = "standard",
    ids: Any = None,
    on_share: Callable[[Budget, Share], None] | None = None,
) -> AtBudget:
    """Returns what images made against others do here: as they are, and as starts.

    Args:
      judged: the defended classifier, with the keys of these images.
      images: [n, height, width, channels], floats in [0, 1].
      labels: [n], the true classes.
      budget: the ball.
      offered: images of its balls, like `images`, by what they were made against.
      key: the root of all randomness of the attack.
      view: the way to differentiate the defence in a climb from the worst of them.
      effort: as for `cascade`.
      ids: global ids [n] of the images; 0..n-1 by default.
      on_share: called after each member.

    Raises:
      UsageError: for images, labels or an effort that is none.
    """
    run = _prepared(judged, images, labels, key, effort, (), None, ids, on_share)
    return run.exchange(budget, offered, view)


def _prepared(
    judged: Judged,
    images: Any,
    labels: Any,
    key: PRNGKey,
    effort: str | Effort,
    donors: tuple[Donor, ...],
    pilot: tuple[Any, Any] | None,
    ids: Any,
    on_share: Callable[[Budget, Share], None] | None,
) -> "_Cascade":
    """Returns a cascade on images that were looked at."""
    checked_key(key)
    images = checked_images(images)
    classes = judged.classes(images)
    labels = judged.checked(images, labels)
    ids = batching.checked_ids(ids, len(images))
    if judged.bare and judged.keys is None:
        # Nothing is drawn: any key is as good as another.
        judged = dataclasses.replace(judged, keys=keys.per_example(key, ids))
    images_of_pilot, labels_of_pilot = pilot or (images, labels)
    return _Cascade(
        judged,
        images,
        labels,
        classes,
        ids,
        key,
        effort_of(effort),
        donors,
        (np.asarray(images_of_pilot), np.asarray(labels_of_pilot)),
        on_share,
    )


@dataclasses.dataclass
class _Standing:
    """The worst image of each so far."""

    images: np.ndarray
    rate: np.ndarray
    margin: np.ndarray
    member: np.ndarray

    def take(self, places: np.ndarray, images, verdict: Verdict, member: int) -> int:
        """Keeps what is worse than before, and returns how many fall by it."""
        before = self.rate[places] >= 1
        worse = verdict.rate > self.rate[places]
        level = verdict.rate == self.rate[places]
        worse |= level & (verdict.margin > self.margin[places])
        chosen = places[worse]
        self.images[chosen] = images[worse]
        self.rate[chosen] = verdict.rate[worse]
        self.margin[chosen] = verdict.margin[worse]
        self.member[chosen] = member
        return int(np.sum(~before & (self.rate[places] >= 1)))


@dataclasses.dataclass
class _Cascade:
    """A cascade at work on some images."""

    judged: Judged
    images: np.ndarray
    labels: np.ndarray
    classes: int
    ids: np.ndarray
    key: PRNGKey
    effort: Effort
    donors: tuple[Donor, ...]
    pool: tuple[np.ndarray, np.ndarray]
    on_share: Callable[[Budget, Share], None] | None

    def __post_init__(self):
        self._effort = self.effort.against(self.judged.defence)
        key = keys.stream(self.key, "clean")
        self._clean = self.judged.judge(self.images, self.labels, self.ids, key)
        self._basins = None
        if self.judged.criterion.classes:
            self._basins = nearest_of_another_class(
                self.images, self.labels, *self.pool
            )

    def pilot(
        self, budget: Budget
    ) -> tuple[Sequence[defenses.Adversary], tuple[Tried, ...]]:
        """Returns the ways to differentiate the defence, best first, as they did."""
        views = views_of(self.judged.defence, self.effort.dampings)
        if len(views) == 1:
            return views, ()
        images, labels = (part[: self.effort.pilot] for part in self.pool)
        places = np.arange(len(labels))
        judged, key = self.judged, keys.stream(self.key, "pilot")
        if judged.keys is not None:
            # Not those of the images to come: what is learned holds for any key.
            judged = dataclasses.replace(judged, keys=keys.per_example(key, places))
        trial = Trial(
            judged=judged,
            images=images,
            labels=labels,
            classes=self.classes,
            ids=places,
            budget=budget,
            best=images,
            donated={},
            basins=None,
            samples=self.effort.samples,
            key=key,
        )
        steps = self.effort.steps
        found, refused = [], None
        for adversary in views:
            try:
                found.append(tried(adversary, steps, judged, trial))
            except NoGradientError as error:
                refused = error
        if not found:
            assert refused is not None
            raise refused
        order = ranked(found)
        return [each.adversary for each in order], tuple(order)

    def at(
        self,
        budget: Budget,
        views: Sequence[defenses.Adversary],
        before: Sequence[AtBudget],
    ) -> AtBudget:
        """Returns what comes of it at a budget."""
        standing, shares = self._begun()
        shares.append(self._carried(budget, before, standing))
        donated: dict[str, np.ndarray] = {}
        for donor in self.donors:
            shares.append(self._ask(donor, budget, standing, donated))
        for member in self._effort.members(views, self.donors, budget.norm):
            self._work(member, budget, standing, donated, shares)
        return self._ended(budget, standing, shares)

    def exchange(
        self,
        budget: Budget,
        offered: Mapping[str, np.ndarray],
        view: defenses.Adversary,
    ) -> AtBudget:
        """Returns what comes of images that were made against others."""
        standing, shares = self._begun()
        climb = ascent(budget.norm, view, self._effort.steps, "best")
        for member in (*map(Handed, offered), climb):
            self._work(member, budget, standing, offered, shares)
        return self._ended(budget, standing, shares)

    def _begun(self) -> tuple[_Standing, list[Share]]:
        """Returns the clean images, and who has fallen already."""
        n = len(self.labels)
        standing = _Standing(
            self.images.copy(),
            self._clean.rate.copy(),
            self._clean.margin.copy(),
            np.zeros(n, int),
        )
        return standing, [Share(CLEAN, n, int(np.sum(standing.rate >= 1)), 0, 0, 0.0)]

    def _ended(
        self, budget: Budget, standing: _Standing, shares: Sequence[Share]
    ) -> AtBudget:
        """Returns what it has come to."""
        if self.judged.keys is None:
            # The keys by which images were chosen flatter the attack.
            key = keys.stream(self.key, f"last look {budget}")
            found = self.judged.judge(standing.images, self.labels, self.ids, key)
            standing.rate, standing.margin = found
        return AtBudget(
            budget,
            standing.images,
            standing.rate,
            standing.margin,
            standing.member,
            tuple(shares),
        )

    def _carried(
        self, budget: Budget, before: Sequence[AtBudget], standing: _Standing
    ) -> Share:
        """Takes over what was made at other budgets and lies inside this one."""
        broken = 0
        for other in before:
            inside = _inside(other, self.images, budget)
            places = np.flatnonzero(inside & (other.member > 0))
            verdict = Verdict(other.rate[places], other.margin[places])
            broken += standing.take(places, other.images[places], verdict, 1)
        return Share(CARRIED, len(self.labels), broken, 0, 0, 0.0)

    def _ask(
        self,
        donor: Donor,
        budget: Budget,
        standing: _Standing,
        donated: dict[str, np.ndarray],
    ) -> Share:
        """Has a donor attacked, on the images that still stand."""
        start = time.perf_counter()
        left = np.flatnonzero(standing.rate < 1)
        images = self.images.copy()
        donated[donor.name] = images
        forwards = backwards = 0.0
        if left.size:
            key = keys.stream(self.key, f"donor {donor.name} {budget}")
            trial = self._trial(budget, standing, {}, left, key)
            judged = donor.judged
            if judged.keys is None:
                own = keys.stream(self.key, f"keys of {donor.name}")
                judged = dataclasses.replace(
                    judged, keys=keys.per_example(own, self.ids)
                )
            made = _given(donor, trial._replace(judged=judged.take(left)), self.effort)
            images[left] = made.images
            forwards, backwards = made.forwards, made.backwards
        seconds = time.perf_counter() - start
        return self._told(
            budget,
            Share(
                f"attack on {donor.name}", left.size, 0, forwards, backwards, seconds
            ),
        )

    def _work(
        self,
        member: Member,
        budget: Budget,
        standing: _Standing,
        donated: Mapping[str, np.ndarray],
        shares: list[Share],
    ) -> None:
        """Has a member work on what still stands."""
        left = np.flatnonzero(standing.rate < 1)
        key = keys.stream(self.key, f"{budget.norm} {member.name}")
        if not left.size:
            return
        trial = self._trial(budget, standing, donated, left, key)
        if not member.suits(trial):
            return
        start = time.perf_counter()
        made = member.make(trial)
        broken = standing.take(left, made.images, made.verdict, len(shares))
        seconds = time.perf_counter() - start
        name = member.shown(self.judged)
        share = Share(name, left.size, broken, made.forwards, made.backwards, seconds)
        shares.append(self._told(budget, share))

    def _told(self, budget: Budget, share: Share) -> Share:
        if self.on_share is not None:
            self.on_share(budget, share)
        return share

    def _trial(self, budget, standing, donated, left, key) -> Trial:
        return Trial(
            judged=self.judged,
            images=self.images,
            labels=self.labels,
            classes=self.classes,
            ids=self.ids,
            budget=budget,
            best=standing.images,
            donated=donated,
            basins=self._basins,
            samples=self.effort.samples,
            key=key,
        ).take(left)


def _given(donor: Donor, trial: Trial, effort: Effort) -> Made:
    """Returns what a donor's images come to, just beyond its boundary.

    On validation digits these carry over at least as well as those of highest loss,
    and take a fraction of the steps.
    """
    climb = ascent(trial.budget.norm, donor.adversary, effort.steps, "random")
    return climb.make(trial)


def nearest_of_another_class(
    images: np.ndarray,
    labels: np.ndarray,
    pool: np.ndarray,
    pool_labels: np.ndarray,
) -> np.ndarray | None:
    """Returns for each image the nearest of a pool that has another label.

    Args:
      images: [n, height, width, channels].
      labels: [n].
      pool: images of the same shape.
      pool_labels: theirs.

    Returns:
      Images, or None where the pool has one class alone.
    """
    if len(np.unique(pool_labels)) < 2:
        return None
    flat, others = images.reshape(len(images), -1), pool.reshape(len(pool), -1)
    squares = (others**2).sum(1)[None] - 2 * flat @ others.T
    squares = np.where(pool_labels[None] == labels[:, None], np.inf, squares)
    return pool[squares.argmin(1)].astype(images.dtype)


def _inside(other: AtBudget, images: np.ndarray, budget: Budget) -> np.ndarray:
    """Returns which images of another budget lie in the balls of this one."""
    if other.budget.norm == budget.norm:
        return np.full(len(images), other.budget.epsilon <= budget.epsilon)
    return sizes(images, other.images, budget.norm) <= budget.epsilon
