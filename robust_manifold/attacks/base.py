"""What an attack is: a frozen spec that attacks ONE image, step by step."""

import abc
import contextlib
import copy
import dataclasses
import functools
import math
import numbers
import sys
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks.losses import Loss, Objective
from robust_manifold.core import loops
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion, Targeted
from robust_manifold.core.errors import UsageError
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import (
    Classify,
    Image,
    Logits,
    Output,
    PRNGKey,
    Scalar,
    Target,
)

State = TypeVar("State")

Images: TypeAlias = Float[Array, "*stack height width channels"]
"""One image, or a stack of them, one a restart for instance."""

Family: TypeAlias = Literal[
    "budgeted", "minimum norm", "black box", "ensemble", "physical"
]
"""The kinds of attacks, as docs/attacks.md groups them."""

ThreatModel: TypeAlias = Literal["white box", "scores", "labels"]
"""What an attack is told by the classifier: gradients, logits, or the prediction."""


class AttackWarning(UserWarning):
    """What a reader of an attack's result should know."""


_PACKAGE = __file__.rpartition("attacks")[0]


def warn(text: str) -> None:
    """Warns of an attack's result, at the line of the user that called the package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, AttackWarning, stacklevel=level - 1)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Hides the warnings of attacks, where what they tell is itself looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)
        yield


class Queries(NamedTuple):
    """What an attack asked of the classifier, per image; scoring not included."""

    forwards: Int[Array, "*n"] | int
    """Evaluations of the classifier, those inside a gradient included."""
    backwards: Int[Array, "*n"] | int
    """Gradients of one output (or loss) of the classifier."""


class Passes(NamedTuple):
    """What an attack on one image costs: at first, a step, and at the end."""

    begin: Queries = Queries(0, 0)
    step: Queries = Queries(0, 0)
    finish: Queries = Queries(0, 0)


class Attempt(NamedTuple):
    """What an attack made of one image, and what that cost."""

    image: Image
    forwards: Int[Array, ""]
    backwards: Int[Array, ""]


class LogitsAndJacobian(NamedTuple):
    """The logits of one image, and the gradient of each of them."""

    logits: Logits
    jacobian: Float[Array, "classes height width channels"]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One image to be attacked.

    Attributes:
      classify: image -> output, what the attack may differentiate.
      image: pixels in [0, 1].
      label: what the criterion compares the output with: the class to get away from;
        in a targeted attack the class to reach.
      epsilon: the radius of the ball, a traced scalar; 0 for attacks without a budget.
      criterion: what the attack wants of the output.
      start: where an attack that iterates begins; None: where it begins by itself.
    """

    classify: Classify
    image: Image
    label: Target
    epsilon: Scalar
    criterion: Criterion = MISCLASSIFIED
    start: Image | None = None

    def __post_init__(self):
        classify, criterion = self.criterion.reduced(self.classify, self.label)
        object.__setattr__(self, "classify", classify)
        object.__setattr__(self, "criterion", criterion)

    @property
    def targeted(self) -> bool:
        """Whether `label` is a class to be reached."""
        return isinstance(self.criterion, Targeted)

    @property
    def begins_at(self) -> Image:
        """The given start; the image itself where none is given."""
        return self.image if self.start is None else self.start

    def objective(self, loss: Loss = "margin") -> Objective:
        """Returns what an attack climbs: a loss, and whether it has succeeded."""
        return Objective(self.classify, self.label, loss, self.criterion)

    def succeeds(self, logits: Output) -> Bool[Array, ""]:
        """Returns whether an output is what the attack wants; never where it is NaN."""
        return self.criterion.succeeds(logits, self.label)

    def logits_and_jacobian(self, image: Image) -> LogitsAndJacobian:
        """Returns all logits and their gradients: a forward, `classes` backwards."""
        logits, pull_back = jax.vjp(self.classify, image)
        (jacobian,) = jax.vmap(pull_back)(jnp.eye(logits.size, dtype=logits.dtype))
        return LogitsAndJacobian(logits, jacobian)


class Attack(abc.ABC):
    """Base class of all attacks: subclasses are frozen dataclasses.

    Their fields are static, so Python control flow on them is fine; control flow on
    arrays must be JAX's.  The image that an attack returns lies in [0, 1] and, where
    the attack has a budget, in its ball.
    """

    family: ClassVar[Family]
    title: ClassVar[str]
    """The attack's name in prose."""
    source: ClassVar[str]
    """Authors and year of the paper."""
    threat_model: ClassVar[ThreatModel] = "white box"

    suits_random: ClassVar[bool] = True
    """Whether the attack is made for random classifiers, too."""
    needs_classes: ClassVar[bool] = False
    """Whether the attack looks at the logits of classes, and takes no other output."""
    takes_start: ClassVar[bool] = False
    """Whether the attack can begin at a given image."""

    norm: Norm
    """The norm in which the attack measures its perturbation."""

    @abc.abstractmethod
    def run(
        self,
        key: PRNGKey,
        classify: Classify,
        image: Image,
        label: Target,
        *,
        criterion: Criterion = MISCLASSIFIED,
    ) -> Attempt:
        """Returns the adversarial image and its cost.

        Args:
          key: the image's own random key.
          classify: image -> logits; what the attack may differentiate.
          image: pixels in [0, 1].
          label: what the criterion compares the output with, such as the class to get
            away from.
          criterion: what the attack wants of the output.
        """

    def __call__(
        self,
        key: PRNGKey,
        classify: Classify,
        image: Image,
        label: Target,
        *,
        criterion: Criterion = MISCLASSIFIED,
    ) -> Image:
        """Returns the adversarial image alone; arguments as for `run`."""
        return self.run(key, classify, image, label, criterion=criterion).image

    def for_classes(self, classes: int, targeted: bool = False) -> Any:
        """Returns the attack as it is made for so many classes.

        A loss that needs more classes is replaced by the margin; `craft` tells so.
        """
        del classes, targeted
        return self

    def takes(self, criterion: Criterion) -> bool:
        """Returns whether the attack can be made for a criterion as it is."""
        if criterion.classes:
            return True
        loss = {f.name: f.default for f in dataclasses.fields(self)}.get("loss")  # type: ignore[arg-type]
        return not self.needs_classes and getattr(self, "loss", None) == loss

    def fitting(self, criterion: Criterion, outputs: int) -> Any:
        """Returns the attack as it is made for a criterion.

        Args:
          criterion: what is wanted of the output.
          outputs: entries of one output: logits, of a criterion on classes.

        Raises:
          UsageError: for an attack that needs classes where there are none, and for a
            loss where the criterion brings its own.
        """
        if criterion.classes:
            return self.for_classes(outputs, isinstance(criterion, Targeted))
        if self.takes(criterion):
            return self
        name, wanted = type(self).__name__, type(criterion).__name__
        if self.needs_classes:
            raise UsageError(
                f"attack is {name}, which needs logits of classes; allowed with the "
                f"criterion {wanted}: an attack that climbs any loss, such as PGD, "
                "APGD, Square or CarliniWagner."
            )
        raise UsageError(
            f"{name}.loss is {getattr(self, 'loss', None)!r}; allowed: none, since the "
            f"criterion {wanted} brings its own."
        )

    @property
    def budget(self) -> float | None:
        """The attack's `epsilon`; None for an attack that minimises the distance."""
        return getattr(self, "epsilon", None)

    @abc.abstractmethod
    def cost(self, classes: int) -> Queries:
        """Returns the most that an attack on one image asks of the classifier."""


class SteppedAttack(Attack, Generic[State]):
    """An attack that is a loop: how to begin, one step, and what comes out.

    `craft` runs the loop for many images and drops those that are ready.  No method
    reads `self.epsilon`, which is None there: budgets differ from image to image under
    one compiled program, and `problem.epsilon` has the image's.
    """

    @property
    @abc.abstractmethod
    def iterations(self) -> int:
        """How many steps are taken at most."""

    @abc.abstractmethod
    def begin(self, problem: Problem, key: PRNGKey) -> State:
        """Returns the state before the first step: a tree of arrays, no typed keys."""

    @abc.abstractmethod
    def step(self, problem: Problem, key: PRNGKey, state: State) -> State:
        """Returns the state one step on; `key` is the step's own."""

    @abc.abstractmethod
    def finish(self, problem: Problem, key: PRNGKey, state: State) -> Image:
        """Returns the adversarial image, or the best that was found."""

    def image_of(self, state: State) -> Images | None:
        """Returns the image that the attack has now come to, or a stack of such images.

        It is the one that the attack looks at next or has just looked at; of an attack
        that holds no such image, the best so far.  Audits judge it after every step.

        Args:
          state: of `begin` or `step`.

        Returns:
          By default the state's field `image`; None where there is none.
        """
        return getattr(state, "image", None)

    @abc.abstractmethod
    def passes(self, classes: int) -> Passes:
        """Returns what `begin`, `step` and `finish` ask of the classifier."""

    ends_early: ClassVar[bool] = False
    """Whether `ended` can be true before all steps are taken."""
    ends_at_success: ClassVar[bool] = False
    """Whether it is true at the first success.  `craft` goes on, nevertheless, where
    the success is against another function than the evaluated one."""

    def ended(self, state: State) -> Bool[Array, ""]:
        """Returns whether no further step would change what counts."""
        del state
        return jnp.bool_(False)

    def spent(self, state: State, steps: Int[Array, ""], classes: int) -> Queries:
        """Returns what the attack has asked for, `finish` included.

        Steps of unequal cost are counted in `state` by attacks that have them.
        """
        del state
        passes = self.passes(classes)
        return Queries(
            *(
                jnp.int32(begin + finish) + jnp.int32(step) * steps
                for begin, step, finish in zip(*passes, strict=True)
            )
        )

    def cost(self, classes: int) -> Queries:
        """Returns the most that an attack on one image asks of the classifier."""
        passes = self.passes(classes)
        return Queries(
            *(
                int(begin + self.iterations * step + finish)
                for begin, step, finish in zip(*passes, strict=True)
            )
        )

    def without_budget(self) -> Any:
        """Returns the attack as a part of a program that serves all budgets."""
        if self.budget is None:
            return self
        shared = copy.copy(self)
        object.__setattr__(shared, "epsilon", None)
        return shared

    def run(
        self,
        key: PRNGKey,
        classify: Classify,
        image: Image,
        label: Target,
        *,
        criterion: Criterion = MISCLASSIFIED,
    ) -> Attempt:
        """Returns the adversarial image and its cost; arguments as for `Attack`."""
        classify, criterion = criterion.reduced(classify, label)
        outputs = jax.eval_shape(classify, image).size
        attack = self.fitting(criterion, outputs).without_budget()
        epsilon = jnp.asarray(self.budget or 0, image.dtype)

        def alike(image: Image) -> Output:
            # A search is as precise as its image, whatever the classifier is.
            return classify(image).astype(image.dtype)

        problem = Problem(alike, image, label, epsilon, criterion)

        def finish(params, key, example, state, steps):
            del params, example
            queries = attack.spent(state, steps, outputs)
            made = attack.finish(problem, key, state)
            return Attempt(made, *map(jnp.int32, queries))

        loop = loops.Loop(
            begin=lambda params, key, example: attack.begin(problem, key),
            step=lambda params, key, example, state: attack.step(problem, key, state),
            finish=finish,
            steps=attack.iterations,
            ended=attack.ended if attack.ends_early else None,
        )
        return loops.run(loop, None, key, None)


class Ensemble(Attack):
    """Attacks one after another: each is made on the images that the last ones left.

    What is returned for an image is the first success, or what the first member
    makes of it.
    """

    @abc.abstractmethod
    def members(self, classes: int) -> tuple[SteppedAttack[Any], ...]:
        """Returns the attacks, in their order, for so many classes."""

    def fitting_members(
        self, criterion: Criterion, outputs: int
    ) -> list[SteppedAttack[Any]]:
        """Returns the members as they are made, each of equal ones once.

        Members that need classes are left out where there are none.
        """
        members = self.members(outputs)
        if not criterion.classes:
            members = tuple(m for m in members if m.takes(criterion))
        return list(dict.fromkeys(m.fitting(criterion, outputs) for m in members))

    def fitting(self, criterion: Criterion, outputs: int) -> Any:
        """Returns the ensemble itself: it fits its members when they are made."""
        if criterion.classes:
            return super().fitting(criterion, outputs)
        if not self.fitting_members(criterion, outputs):
            raise UsageError(
                f"attack is {self!r}, all of whose members need classes; allowed with "
                f"the criterion {type(criterion).__name__}: another attack."
            )
        return self

    def cost(self, classes: int) -> Queries:
        """Returns the most that all members together ask of the classifier."""
        costs = [member.cost(classes) for member in self.members(classes)]
        return Queries(*(sum(counts) for counts in zip(*costs, strict=True)))

    def run(
        self,
        key: PRNGKey,
        classify: Classify,
        image: Image,
        label: Target,
        *,
        criterion: Criterion = MISCLASSIFIED,
    ) -> Attempt:
        """Returns the first member's success; arguments as for `Attack`."""
        classify, criterion = criterion.reduced(classify, label)
        outputs = jax.eval_shape(classify, image).size
        epsilon = jnp.zeros((), image.dtype)
        problem = Problem(classify, image, label, epsilon, criterion)
        members = self.fitting_members(criterion, outputs)

        def attack(place: int) -> Attempt:
            member_key = jax.random.fold_in(key, place)
            return members[place].run(
                member_key, classify, image, label, criterion=criterion
            )

        best = attack(0)
        broken = problem.succeeds(classify(best.image))
        for place in range(1, len(members)):
            nothing = Attempt(best.image, jnp.int32(0), jnp.int32(0))
            tried = jax.lax.cond(
                broken,
                lambda nothing=nothing: nothing,
                functools.partial(attack, place),
            )
            gained = ~broken & problem.succeeds(classify(tried.image))
            best = Attempt(
                jnp.where(gained, tried.image, best.image),
                best.forwards + tried.forwards,
                best.backwards + tried.backwards,
            )
            broken |= gained
        return best


registry: Registry[Attack] = Registry("attack")
"""The attacks by the names that configs use."""


def check_epsilon(attack: Any) -> None:
    """Raises a `UsageError` unless the attack's `epsilon` is a budget."""
    number = isinstance(attack.epsilon, numbers.Real)
    number &= not isinstance(attack.epsilon, bool)
    finite = number and 0 <= attack.epsilon < math.inf
    check(finite, attack, "epsilon", "a finite number, 0 or more")
    # 1 and 1.0 are one budget: they must be written alike, too.
    object.__setattr__(attack, "epsilon", float(attack.epsilon))
