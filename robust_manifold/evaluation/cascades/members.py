"""The members of a cascade: each makes images of those that no other has broken."""

import abc
import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Shaped

from robust_manifold import attacks, defenses
from robust_manifold.attacks import Attack
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import PRNGKey
from robust_manifold.evaluation.cascades.judged import Judged, Verdict
from robust_manifold.evaluation.worst_case import Budget

Aim: TypeAlias = Literal["away", "nearest", "all"]
"""Away from the label; or at other classes, the nearest three or all of them."""

NEAREST, _ALL = 3, 9
"""Classes that aimed members go for; the second is AutoAttack's number."""

_AIMED_FROM = 4
"""Fewest classes with which the aimed loss is another than the margin."""

PATIENCE = 10
"""Steps of a search for few values in place of one step of a climb."""

_DECAY = 0.75
"""Of the gradients of the steps before, where each step draws new keys: the noise of
their sum is that of seven times the draws."""


@dataclasses.dataclass(frozen=True)
class Donor:
    """Another classifier or defence, whose images a cascade begins from.

    Attributes:
      name: in what a member is called.
      judged: the donor, with one known key an image if it draws any.
      adversary: what the donor is attacked by.
    """

    name: str
    judged: Judged
    adversary: defenses.Adversary


class Trial(NamedTuple):
    """The images that a member is given, and what is known of them.

    Attributes:
      judged: what is attacked, for these images.
      images: the clean ones, [n, height, width, channels].
      labels: [n]; of a regression targets [n, outputs].
      classes: how many there are; 0 in a regression.
      ids: global ids [n].
      budget: the ball.
      best: of each image the worst that was made so far.
      donated: images of donors for these, by the donors' names.
      basins: images of another class each, the nearest of a pool; None without one.
      samples: keys over which a member takes the mean, where the defence's are fresh.
      key: of the member.
    """

    judged: Judged
    images: Float[np.ndarray, "n height width channels"]
    labels: Shaped[np.ndarray, "n ..."]
    classes: int
    ids: Int[np.ndarray, " n"]
    budget: Budget
    best: np.ndarray
    donated: Mapping[str, np.ndarray]
    basins: np.ndarray | None
    samples: int
    key: PRNGKey

    def take(self, places: np.ndarray) -> "Trial":
        """Returns the trial of some of the images."""
        return self._replace(
            judged=self.judged.take(places),
            images=self.images[places],
            labels=self.labels[places],
            ids=self.ids[places],
            best=self.best[places],
            donated={name: made[places] for name, made in self.donated.items()},
            basins=None if self.basins is None else self.basins[places],
        )


class Made(NamedTuple):
    """What a member made.

    Attributes:
      images: inside the ball.
      verdict: on them.
      forwards: outputs asked of what it sees, in all.
      backwards: gradients asked, in all.
      steps: that the search of each image took; empty where there is none.
    """

    images: np.ndarray
    verdict: Verdict
    forwards: float
    backwards: float
    steps: np.ndarray = np.zeros(0)

    def with_part(self, places: np.ndarray, part: "Made") -> "Made":
        """Returns it with some of the images made anew; the costs add up."""
        images = self.images.copy()
        rate, margin = (leaf.copy() for leaf in self.verdict)
        images[places] = part.images
        rate[places], margin[places] = part.verdict
        return self._replace(
            images=images,
            verdict=Verdict(rate, margin),
            forwards=self.forwards + part.forwards,
            backwards=self.backwards + part.backwards,
        )


class Member(abc.ABC):
    """One attack of a cascade: a frozen dataclass."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What its random stream hangs on."""

    def shown(self, judged: Judged) -> str:
        """Returns what a table calls it."""
        del judged
        return self.name

    @abc.abstractmethod
    def make(self, trial: Trial) -> Made:
        """Returns what it makes of the images of a trial."""

    def suits(self, trial: Trial) -> bool:
        """Returns whether the trial has what it needs."""
        del trial
        return True


@dataclasses.dataclass(frozen=True)
class Handed(Member):
    """A donor's images as they are."""

    donor: str

    @property
    def name(self) -> str:
        """Whose images they are."""
        return f"images of {self.donor}"

    def make(self, trial: Trial) -> Made:
        """Returns the donor's images, judged."""
        images = trial.donated[self.donor]
        found = trial.judged.judge(images, trial.labels, trial.ids, trial.key)
        # They are no queries of what is judged but for the verdict, as for any attack.
        return Made(images, found, 0, 0)


@dataclasses.dataclass(frozen=True)
class ByGradient(Member):
    """An attack that differentiates a view of the defence.

    Attributes:
      adversary: what is differentiated.
      steps: of each run.
    """

    adversary: defenses.Adversary
    steps: int

    @property
    @abc.abstractmethod
    def manner(self) -> str:
        """What it does with the gradient."""

    @property
    def name(self) -> str:
        """The view as a config writes it, and what is done with its gradient."""
        return f"{defenses.adversaries.to_string(self.adversary)}, {self.manner}"

    def shown(self, judged: Judged) -> str:
        """Returns the name; without a defence there is one gradient, by any view."""
        return f"its gradient, {self.manner}" if judged.bare else self.name


@dataclasses.dataclass(frozen=True)
class Climb(ByGradient):
    """Auto-PGD on a view of the defence, from a start.

    Attributes:
      aim: away from the label, or a run for each of some other classes.
      start: "best", the worst image so far; "random"; "basin", the nearest image of
        another class; or a donor's name.
    """

    aim: Aim = "away"
    start: str = "best"

    _starts: ClassVar[Mapping[str, str]] = {
        "best": "from the worst so far",
        "random": "from noise",
        "basin": "from another class",
    }

    @property
    def manner(self) -> str:
        """The steps, the start and the aim."""
        start = self._starts.get(self.start, f"from images of {self.start}")
        aim = {
            "away": "",
            "nearest": f", aimed at {NEAREST} classes",
            "all": ", aimed at all",
        }[self.aim]
        return f"{self.steps} steps {start}{aim}"

    def suits(self, trial: Trial) -> bool:
        """Returns whether there is a start of this kind, and classes to aim at."""
        if self.aim != "away" and trial.classes < _AIMED_FROM:
            return False
        return _has_start(trial, self.start)

    def make(self, trial: Trial) -> Made:
        """Returns the images: the first success of each, or that of the highest loss.

        A success that the view alone has, by rounding, would end the search of an
        image that still stands: such images take all of the steps.
        """
        starts, fresh = _start_of(trial, self.start), trial.judged.keys is None
        # A projection's keys are starts of its search, no noise on the image.
        projects = isinstance(trial.judged.defence, defenses.ProjectionDefense)
        decay = _DECAY if fresh and not projects else 0.0
        attack = self.attack(trial.budget, stop=not fresh, decay=decay)
        made = crafted(attack, self.adversary, trial, starts)
        if fresh:
            return made
        if trial.classes:
            attack = attack.for_classes(trial.classes)
        whole = attack.iterations
        stuck = np.flatnonzero(~made.verdict.broken & (made.steps < whole))
        if not stuck.size:
            return made
        again = crafted(
            self.attack(trial.budget, stop=False),
            self.adversary,
            trial.take(stuck),
            None if starts is None else starts[stuck],
        )
        return made.with_part(stuck, again)

    def attack(self, budget: Budget, *, stop: bool, decay: float = 0.0) -> attacks.APGD:
        """Returns the attack on each image."""
        own: dict[str, Any] = {"steps": self.steps, "stop": stop, "decay": decay}
        if self.aim != "away":
            targets = NEAREST if self.aim == "nearest" else _ALL
            own |= {"loss": "targeted_dlr", "targets": targets}
        return attacks.APGD(budget.epsilon, budget.norm, **own)


@dataclasses.dataclass(frozen=True)
class Fewest(ByGradient):
    """Sigma-zero on a view of the defence, from a start: a climb's place in l0.

    No point of an l0 ball is near another, so that there is nothing to climb along:
    the attack looks for few changed values itself.  Where it ends with too many, the
    largest changes are kept, and are a start for others.

    Attributes:
      start: as of `Climb`; "random", which counts no values, is the clean image.
    """

    start: str = "best"

    @property
    def manner(self) -> str:
        """The steps and the start."""
        start = {**Climb._starts, "random": "from the clean image"}
        return f"{self.steps} steps to few values " + start.get(
            self.start, f"from images of {self.start}"
        )

    def suits(self, trial: Trial) -> bool:
        """Returns whether there is a start of this kind."""
        return _has_start(trial, self.start)

    def make(self, trial: Trial) -> Made:
        """Returns the images with the fewest changes, or what fits of them."""
        starts = _start_of(trial, self.start)
        made = crafted(
            attacks.SigmaZero(steps=self.steps), self.adversary, trial, starts
        )
        fitting = with_fewer(trial.images, made.images, int(trial.budget.epsilon))
        cut = np.flatnonzero((fitting != made.images).any((1, 2, 3)))
        if not cut.size:
            return made
        part = trial.take(cut)
        found = part.judged.judge(fitting[cut], part.labels, part.ids, part.key)
        return made.with_part(cut, Made(fitting[cut], found, 0, 0))


def ascent(
    norm: Norm, adversary: defenses.Adversary, steps: int, start: str
) -> Climb | Fewest:
    """Returns what takes so many steps along a view's gradient in balls of a norm."""
    if norm == "l0":
        return Fewest(adversary, PATIENCE * steps, start)
    return Climb(adversary, steps, start=start)


def with_fewer(
    images: Float[np.ndarray, "n height width channels"],
    made: Float[np.ndarray, "n height width channels"],
    most: int,
) -> Float[np.ndarray, "n height width channels"]:
    """Returns `made` with no more than `most` values changed: the largest changes."""
    change = np.abs(made.astype(np.float64) - images).reshape(len(images), -1)
    rank = np.argsort(np.argsort(-change, axis=1, kind="stable"), axis=1)
    kept = (rank < most).reshape(images.shape)
    return np.where(kept, made, images)


def _has_start(trial: Trial, start: str) -> bool:
    if start in ("best", "random"):
        return True
    if start == "basin":
        return trial.basins is not None
    return start in trial.donated


def _start_of(trial: Trial, start: str) -> np.ndarray | None:
    known = {"random": None, "best": trial.best, "basin": trial.basins}
    return known[start] if start in known else trial.donated[start]


@dataclasses.dataclass(frozen=True)
class Boundary(ByGradient):
    """The fast adaptive boundary attack on a view, at the nearest boundaries.

    It goes by the linearised boundaries, not by a loss: on networks whose loss hardly
    rises anywhere it finds what a climb does not.  There is a run for each of some
    other classes.
    """

    @property
    def manner(self) -> str:
        """The steps and where they go."""
        return f"{self.steps} steps to the nearest boundaries"

    def suits(self, trial: Trial) -> bool:
        """Returns whether there are classes, between which boundaries lie."""
        return trial.classes > 1

    def make(self, trial: Trial) -> Made:
        """Returns the first images inside the ball, from the clean ones."""
        norm, epsilon = trial.budget
        targets = min(_ALL, trial.classes - 1)
        attack = attacks.FAB(norm, steps=self.steps, targets=targets, epsilon=epsilon)
        return crafted(attack, self.adversary, trial, None)


@dataclasses.dataclass(frozen=True)
class Scores(Member):
    """The Square attack on the defended classifier: it needs no gradient.

    In l0 it is Sparse-RS, from the worst image so far.
    """

    queries: int
    sparse: bool = False

    @property
    def name(self) -> str:
        """The attack."""
        if self.sparse:
            return f"Sparse-RS, {self.queries} queries from the worst so far"
        return f"Square, {self.queries} queries"

    def make(self, trial: Trial) -> Made:
        """Returns the images of random search."""
        norm, epsilon = trial.budget
        if self.sparse:
            sparse = attacks.SparseRS(epsilon, norm, queries=self.queries)
            return crafted(sparse, None, trial, trial.best)
        attack = attacks.Square(epsilon, norm, queries=self.queries)
        return crafted(attack, None, trial, None)


@dataclasses.dataclass(frozen=True)
class Corners(Member):
    """The parsimonious attack on the defended classifier, from the worst image so far.

    Where a defence rounds, the last values that a search by a gradient, or by random
    squares, cannot tell apart are found by asking about each.
    """

    queries: int

    @property
    def name(self) -> str:
        """The attack."""
        return f"parsimonious, {self.queries} queries from the worst so far"

    def suits(self, trial: Trial) -> bool:
        """Returns whether the ball has corners, and one image has one output."""
        return trial.budget.norm == "linf" and trial.judged.keys is not None

    def make(self, trial: Trial) -> Made:
        """Returns the images of local search."""
        attack = attacks.Parsimonious(trial.budget.epsilon, self.queries)
        return crafted(attack, None, trial, trial.best)


def crafted(
    attack: Attack,
    adversary: defenses.Adversary | None,
    trial: Trial,
    starts: np.ndarray | None,
) -> Made:
    """Returns what an attack makes of the images of a trial.

    Args:
      attack: with the trial's budget.
      adversary: what it differentiates; None for the defended classifier itself.
      trial: the images.
      starts: where it begins.
    """
    judged = trial.judged
    # Scores are asked under one key at a time.
    samples = trial.samples if judged.keys is None and adversary is not None else 1
    view = None if adversary is None else judged.view(adversary, samples)
    # Some ways to differentiate a defence lead nowhere: that is what is tried.
    with attacks.without_warnings() if view else contextlib.nullcontext():
        made = attacks.craft(
            attack,
            judged.apply,
            judged.params,
            trial.images,
            trial.labels,
            key=trial.key,
            criterion=judged.criterion,
            view=view,
            fixed_keys=judged.keys,
            starts=starts,
            ids=trial.ids,
        )
    images = np.asarray(made.images)
    if judged.keys is None:
        found = judged.judge(images, trial.labels, trial.ids, trial.key)
    else:
        found = judged.verdict([np.asarray(made.logits)], trial.labels)
    forwards, backwards = (samples * float(np.sum(each)) for each in made.queries)
    return Made(images, found, forwards, backwards, np.asarray(made.queries.backwards))
