"""Adversaries: what an attack on a defence may differentiate."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, Literal, TypeAlias, get_args

from jaxtyping import Array

from robust_manifold.core.criterion import MISCLASSIFIED
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import GENERATOR, Networks
from robust_manifold.core.spec import Registry, check, is_whole
from robust_manifold.core.types import Params
from robust_manifold.defenses import views
from robust_manifold.defenses.apply import named
from robust_manifold.defenses.base import Defense, NoDefense
from robust_manifold.defenses.invert_and_classify import (
    InvertAndClassify,
    ProjectionDefense,
)
from robust_manifold.defenses.purifier import Purifier, as_purifier
from robust_manifold.defenses.views import DefendedApply, RandomApply
from robust_manifold.inversion import (
    GradientDescent,
    ImplicitDerivative,
    Restarts,
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
    """Threat models of the attacks that this adversary can make."""

    def suits(self, threat_model: str) -> bool:
        """Returns whether the adversary can make attacks of a threat model.

        Args:
          threat_model: of the attack: "white box", "scores" or "labels".
        """
        return threat_model in self.threat_models

    def check_meets(self, defence: Defense) -> None:
        """Raises a `UsageError` for a defence that this adversary cannot meet."""
        del defence

    def needs(self, defence: Defense) -> tuple[str, ...]:
        """Returns the roles of networks that it needs beside those of the defence."""
        del defence
        return ()

    def view(
        self,
        defence: Defense,
        networks: Networks,
        classify: Callable[[Params, Array], Array],
    ) -> RandomApply | None:
        """Returns what the attack differentiates, hashed by value.

        None is for adversaries without a view: `decision` asks the defended classifier
        itself, `latent` and `substitute` are attacks of their own.

        Args:
          defence: the spec.
          networks: that the defence and the adversary may use, by role.
          classify: `classify(params, image) -> logits`, for one image.

        Raises:
          UsageError: for a defence that cannot be differentiated so, or a network that
            is missing.
        """
        del defence, networks, classify
        return None


adversaries: Registry[Adversary] = Registry("adversary")
"""The adversaries by the names that configs use."""


@adversaries.register("oblivious")
@dataclasses.dataclass(frozen=True)
class Oblivious(Adversary):
    """The attack is made on the bare classifier and knows of no defence.

    With noise it stands in for a random defence that no gradient leads through, such as
    a vote (Salman et al. 2019).

    Attributes:
      noise: standard deviation of Gaussian noise on the image, drawn anew each time.
      draws: of the noise; the attack sees the mean of their logits.
    """

    title = "oblivious"
    source = "Samangouei et al. 2018"
    threat_models = _ALL

    noise: float = 0.0
    draws: int = 1

    def __post_init__(self):
        finite = 0 <= self.noise < math.inf
        check(finite, self, "noise", "a finite number, 0 or more")
        check(is_whole(self.draws, 1), self, "draws", "a whole number, 1 or more")

    def view(self, defence, networks, classify) -> RandomApply:
        """Returns the classifier without the defence."""
        del networks
        return views.BareApply(classify, defence.criterion, self.noise, self.draws)


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


class GradientAdversary(KeyedAdversary):
    """An adversary that differentiates what the defence does: subclasses say how."""

    threat_models = ("white box",)

    @abc.abstractmethod
    def derivative(self, defence: Purifier) -> views.Derivative:
        """Returns how a purifier is differentiated.

        Raises:
          UsageError: for one that cannot be differentiated so.
        """

    def check_meets(self, defence: Defense) -> None:
        """Raises a `UsageError` for a defence that it cannot differentiate."""
        if isinstance(defence, NoDefense):
            return
        if not isinstance(defence, Purifier):
            raise _refused(self, defence, "none, or one that purifies the image")
        self.derivative(defence)

    def view(self, defence, networks, classify) -> RandomApply:
        """Returns the defended classifier with this derivative of its purifier."""
        self.check_meets(defence)
        if not isinstance(defence, Purifier):
            return defended_apply(defence, networks, classify)
        derivative = self.derivative(defence)
        return views.PurifierView(derivative, defence, networks, classify)


@adversaries.register("straight_through")
@dataclasses.dataclass(frozen=True)
class StraightThrough(GradientAdversary):
    """BPDA: forwards the purifier, backwards the identity."""

    title = "straight-through"
    source = "Athalye et al. 2018"

    def derivative(self, defence) -> views.Derivative:
        """See `views.Identity`."""
        del defence
        return views.Identity()


@adversaries.register("unrolled")
@dataclasses.dataclass(frozen=True)
class Unrolled(GradientAdversary):
    """The gradient through all that the defence does.

    Of an inversion, it is that through every step of the best restart.

    Attributes:
      rematerialise: compute a step's values again rather than store them: memory then
        grows as the square root of the steps.
    """

    title = "unrolled"
    source = "automatic differentiation"

    rematerialise: bool = True

    def check_meets(self, defence) -> None:
        """Raises a `UsageError` for a defence that JAX does not see through."""
        if isinstance(defence, Purifier) and not defence.traceable:
            raise _refused(self, defence, "one that JAX can trace")

    def derivative(self, defence) -> views.Derivative:
        """See `views.Unrolling`."""
        del defence
        return views.Unrolling(self.rematerialise)


@adversaries.register("implicit")
@dataclasses.dataclass(frozen=True)
class Implicit(GradientAdversary):
    """The gradient of a minimum, by the implicit function theorem.

    The fields are those of `inversion.ImplicitDerivative`, but for the default of
    `damping`.  Where a generator hardly moves along some directions of its latent, as
    one of many dimensions may, the exact gradient is mostly that along them, and an
    attack that follows it goes nowhere.
    """

    title = "implicit"
    source = "implicit function theorem"

    hessian: Hessian = "exact"
    linear: Linear = "auto"
    damping: float = 1e-3
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

    def derivative(self, defence) -> views.Derivative:
        """See `views.ImplicitFunction`."""
        _projecting(self, defence)
        return views.ImplicitFunction(self.solver)

    def report(self, defence: Defense, networks: Networks) -> views.ImplicitReport:
        """Returns the function that tells whether the theorem holds at an image.

        `core.batching.map_examples` makes it one of many images.

        Raises:
          UsageError: for a defence without a projection.
        """
        projecting = _projecting(self, defence)
        return views.ImplicitReport(self.solver, projecting, networks)


@adversaries.register("bpda")
@dataclasses.dataclass(frozen=True)
class BPDA(GradientAdversary):
    """BPDA with another purifier in place of the defence's own, backwards only.

    The derivative of a long unrolled inversion can grow without bound; that of a few
    plain steps does not, but it is the derivative of another projection.  A purifier
    that rounds has none at all; that of a smooth one may lead on.

    Attributes:
      solver: of a short inversion, or its text as in a config.
      restarts: of it; their text as in a config, or their number.  By default one,
        from the encoder's guess if there is an encoder.
      stand_in: another purifier in place of that inversion, or its text as in a
        config, such as "encode_and_generate".  A defence without a generator needs
        one.
    """

    title = "BPDA"
    source = "Athalye et al. 2018"

    # Adam's first steps have almost no derivative: they are of one length, whatever the
    # gradient.
    solver: Solver | str = GradientDescent(steps=10)
    restarts: Restarts | str | int = Restarts(count=1)
    stand_in: Purifier | str | None = None

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "solver", as_solver(self.solver))
        object.__setattr__(self, "restarts", as_restarts(self.restarts))
        if self.stand_in is not None:
            object.__setattr__(self, "stand_in", _as_stand_in(self.stand_in))

    def purifier(self, defence: Defense) -> Purifier:
        """Returns what stands in for a defence.

        Raises:
          UsageError: if `stand_in` is None, and the defence has no generator.
        """
        if self.stand_in is not None:
            return as_purifier(self.stand_in)
        if GENERATOR not in defence.needs:
            raise UsageError(
                f"BPDA.stand_in is None; allowed with {named(defence)}, which has no "
                "generator to invert: a purifier, such as 'invert_and_classify'."
            )
        return InvertAndClassify(self.solver, self.restarts)

    def needs(self, defence) -> tuple[str, ...]:
        """Returns the roles that the stand-in needs."""
        # The short inversion is one of the defence's own generator.
        if self.stand_in is None or isinstance(defence, NoDefense):
            return ()
        return as_purifier(self.stand_in).needs

    def derivative(self, defence) -> views.Derivative:
        """See `views.StandIn`."""
        return views.StandIn(self.purifier(defence))


def _as_stand_in(stand_in: Purifier | str) -> Purifier:
    try:
        return as_purifier(stand_in)
    except UsageError as error:
        raise UsageError(f"BPDA.stand_in: {error}") from None


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

    def check_meets(self, defence) -> None:
        """Raises a `UsageError` for one whose labels are no classes alone."""
        if defence.criterion != MISCLASSIFIED:
            raise _refused(self, defence, "one that gives every image a class")


def defended_apply(
    defence: Defense, networks: Networks, classify: Callable[[Params, Array], Array]
) -> DefendedApply:
    """Returns the true defended classifier; arguments as for `Adversary.view`."""
    return DefendedApply(defence, networks, classify)


def _projecting(adversary: Adversary, defence: Defense) -> ProjectionDefense:
    if not isinstance(defence, ProjectionDefense):
        raise _refused(adversary, defence, "none, or one that inverts a generator")
    return defence


def _refused(adversary: Adversary, defence: Defense, allowed: str) -> UsageError:
    name = adversaries.name_of(adversary)
    return UsageError(
        f"defence is {named(defence)}; allowed with the adversary {name!r}: {allowed}."
    )
