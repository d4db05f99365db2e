"""Adversaries: what an attack on a defence may differentiate."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, Literal, TypeAlias, get_args

from jaxtyping import Array

from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner
from robust_manifold.core.spec import Registry, check, is_whole
from robust_manifold.core.types import Params
from robust_manifold.defenses import views
from robust_manifold.defenses.base import Defense, NoDefense
from robust_manifold.defenses.invert_and_classify import ProjectionDefense
from robust_manifold.defenses.views import DefendedApply, RandomApply
from robust_manifold.inversion import (
    GradientDescent,
    ImplicitDerivative,
    Restarts,
    Search,
    Solver,
    as_restarts,
    as_solver,
)
from robust_manifold.inversion.implicit import Hessian, Linear

Keys: TypeAlias = Literal["fixed", "fresh"]

_ALL = ("white box", "scores", "labels")
"""The threat models of attacks: what a classifier tells them."""


class Adversary(abc.ABC):
    """Base class of all adversaries: subclasses are frozen dataclasses.

    What is evaluated is always the true defended classifier; an adversary says what
    the attack sees in its place.
    """

    title: ClassVar[str]
    """The adversary's name in prose."""
    source: ClassVar[str]
    """Authors and year, or where the idea comes from."""
    threat_models: ClassVar[tuple[str, ...]]
    """Of the attacks that can be made so."""

    def suits(self, threat_model: str) -> bool:
        """Returns whether attacks that are told so much can be made so.

        Args:
          threat_model: of the attack: "white box", "scores" or "labels".
        """
        return threat_model in self.threat_models

    def check_meets(self, defence: Defense) -> None:
        """Raises a `UsageError` for a defence that this adversary cannot meet."""
        del defence

    def view(
        self,
        defence: Defense,
        spanner: Spanner,
        classify: Callable[[Params, Array], Array],
    ) -> RandomApply | None:
        """Returns what the attack differentiates, hashed by value.

        None is for adversaries without a view: `decision` asks the defended classifier
        itself, `latent` and `substitute` are attacks of their own.

        Args:
          defence: the spec.
          spanner: the generator, and its encoder if it has one.
          classify: `classify(params, image) -> logits`, for one image.

        Raises:
          UsageError: for a defence that cannot be differentiated so.
        """
        del defence, spanner, classify
        return None


adversaries: Registry[Adversary] = Registry("adversary")
"""The adversaries by the names that configs use."""


@adversaries.register("oblivious")
@dataclasses.dataclass(frozen=True)
class Oblivious(Adversary):
    """The attack is made on the bare classifier and knows of no defence."""

    title = "oblivious"
    source = "Samangouei et al. 2018"
    threat_models = _ALL

    def view(self, defence, spanner, classify) -> RandomApply:
        """Returns the classifier without the defence."""
        del defence, spanner
        return views.BareApply(classify)


@dataclasses.dataclass(frozen=True)
class KeyedAdversary(Adversary):
    """An adversary that meets a defence which draws from a key.

    Attributes:
      samples: keys over which the attack takes the mean logits in each step ("EOT",
        Athalye et al. 2018).
      keys: "fixed" gives each image one key for the whole attack and for its
        evaluation, which the attack knows; "fresh" gives another in each step, and
        one that the attack does not know in the evaluation.
    """

    samples: int = dataclasses.field(default=1, kw_only=True)
    keys: Keys = dataclasses.field(default="fixed", kw_only=True)

    def __post_init__(self):
        check(is_whole(self.samples, 1), self, "samples", "a whole number, 1 or more")
        check(self.keys in get_args(Keys), self, "keys", "fixed or fresh")


class ProjectionAdversary(KeyedAdversary):
    """An adversary that differentiates the projection: subclasses say how."""

    threat_models = ("white box",)

    @property
    @abc.abstractmethod
    def derivative(self) -> views.Derivative:
        """How the projection is differentiated."""

    def check_meets(self, defence: Defense) -> None:
        """Raises a `UsageError` for a defence that does not project."""
        if not isinstance(defence, NoDefense):
            _projecting(self, defence)

    def view(self, defence, spanner, classify) -> RandomApply:
        """Returns the defended classifier with this derivative of its projection."""
        if isinstance(defence, NoDefense):
            return defended_apply(defence, spanner, classify)
        projecting = _projecting(self, defence)
        return views.ProjectionView(self.derivative, projecting, spanner, classify)


@adversaries.register("straight_through")
@dataclasses.dataclass(frozen=True)
class StraightThrough(ProjectionAdversary):
    """BPDA: forwards the projection, backwards the identity."""

    title = "straight-through"
    source = "Athalye et al. 2018"

    @property
    def derivative(self) -> views.Derivative:
        """See `views.Identity`."""
        return views.Identity()


@adversaries.register("unrolled")
@dataclasses.dataclass(frozen=True)
class Unrolled(ProjectionAdversary):
    """The gradient through every step of the inversion's best restart.

    Attributes:
      rematerialise: compute a step's values again rather than store them: memory then
        grows as the square root of the steps.
    """

    title = "unrolled"
    source = "automatic differentiation"

    rematerialise: bool = True

    @property
    def derivative(self) -> views.Derivative:
        """See `views.Unrolling`."""
        return views.Unrolling(self.rematerialise)


@adversaries.register("implicit")
@dataclasses.dataclass(frozen=True)
class Implicit(ProjectionAdversary):
    """The gradient of a minimum, by the implicit function theorem.

    The fields are those of `inversion.ImplicitDerivative`.  Where a generator hardly
    moves along some directions of its latent, as one of many dimensions may, the
    gradient is mostly that along them: try a `damping` of 0.001, too.
    """

    title = "implicit"
    source = "implicit function theorem"

    hessian: Hessian = "exact"
    linear: Linear = "auto"
    damping: float = 1e-6
    iterations: int = 100

    def __post_init__(self):
        super().__post_init__()
        # The solver checks its own fields.
        _ = self.solver

    @property
    def solver(self) -> ImplicitDerivative:
        """What the fields describe."""
        return ImplicitDerivative(
            self.hessian, self.linear, self.damping, self.iterations
        )

    @property
    def derivative(self) -> views.Derivative:
        """See `views.Implicit`."""
        return views.Implicit(self.solver)

    def report(self, defence: Defense, spanner: Spanner) -> views.ImplicitReport:
        """Returns the function that tells whether the theorem holds at an image.

        `core.batching.map_examples` makes it one of many images.

        Raises:
          UsageError: for a defence without a projection.
        """
        projecting = _projecting(self, defence)
        return views.ImplicitReport(self.solver, projecting, spanner)


@adversaries.register("bpda")
@dataclasses.dataclass(frozen=True)
class BPDA(ProjectionAdversary):
    """BPDA with a short inversion in place of the defence's own, backwards only.

    The derivative of a long unrolled inversion can grow without bound; that of a few
    plain steps does not, but it is the derivative of another projection.

    Attributes:
      solver: of the short inversion, or its text as in a config.
      restarts: of it; their text as in a config, or their number.  By default one,
        from the encoder's guess if there is an encoder.
    """

    title = "BPDA"
    source = "Athalye et al. 2018"

    # Adam's first steps have all but no derivative: they are of one length, whatever
    # the gradient.
    solver: Solver | str = GradientDescent(steps=10)
    restarts: Restarts | str | int = Restarts(count=1)

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "solver", as_solver(self.solver))
        object.__setattr__(self, "restarts", as_restarts(self.restarts))

    @property
    def derivative(self) -> views.Derivative:
        """See `views.StandIn`."""
        return views.StandIn(Search(as_solver(self.solver), as_restarts(self.restarts)))


@adversaries.register("decision")
@dataclasses.dataclass(frozen=True)
class Decision(KeyedAdversary):
    """The attack asks the defended classifier itself, for scores or labels."""

    title = "decision"
    source = "Brendel et al. 2018"
    threat_models = ("scores", "labels")


@adversaries.register("latent")
@dataclasses.dataclass(frozen=True)
class Latent(Adversary):
    """The overpowered attack from a real image: it moves the latent, not the pixels.

    One search serves each norm and budget, whatever attack has them.

    Attributes:
      steps: of Adam from each start.
      restarts: starts of an image.
      learning_rate: Adam's first, in latent units.
    """

    title = "latent"
    source = "Ilyas et al. 2017"
    threat_models = ("white box",)

    steps: int = 500
    restarts: int = 10
    learning_rate: float = 0.05

    def __post_init__(self):
        for field in ("steps", "restarts"):
            whole = is_whole(getattr(self, field), 1)
            check(whole, self, field, "a whole number, 1 or more")
        finite = 0 < self.learning_rate < math.inf
        check(finite, self, "learning_rate", "a finite number above 0")


@adversaries.register("substitute")
@dataclasses.dataclass(frozen=True)
class Substitute(Adversary):
    """The attack is made on a network taught by the defended classifier's labels."""

    title = "substitute"
    source = "Papernot et al. 2017"
    threat_models = _ALL


def defended_apply(
    defence: Defense, spanner: Spanner, classify: Callable[[Params, Array], Array]
) -> DefendedApply:
    """Returns the true defended classifier; arguments as for `Adversary.view`."""
    return DefendedApply(defence, spanner, classify)


def _projecting(adversary: Adversary, defence: Defense) -> ProjectionDefense:
    if not isinstance(defence, ProjectionDefense):
        raise UsageError(
            f"defence is {defence!r}; allowed with the adversary "
            f"{adversaries.name_of(adversary)!r}: none, or one that projects."
        )
    return defence
