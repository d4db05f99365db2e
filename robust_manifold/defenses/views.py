"""The defended classifier, and differentiable views of it, as functions of parameters.

All hash by value, so that equal ones are compiled once.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float

from robust_manifold.core.manifold import Manifold, Spanner
from robust_manifold.core.types import Image, Logits, Params, PRNGKey
from robust_manifold.defenses.apply import DefenseParams
from robust_manifold.defenses.base import Defense
from robust_manifold.defenses.invert_and_classify import ProjectionDefense
from robust_manifold.inversion import (
    ImplicitDerivative,
    Inversion,
    Report,
    Search,
    unrolled,
)


@runtime_checkable
class RandomApply(Protocol):
    """A classifier that may draw from a key; a view of a defence is one.

    `attacks.Expectation` makes of it what `attacks.craft` takes.
    """

    def __call__(self, params: DefenseParams, image: Image, key: PRNGKey) -> Logits:
        """Returns the logits of one image."""
        ...


@dataclasses.dataclass(frozen=True)
class DefendedApply:
    """The true defended classifier of one image."""

    defence: Defense
    spanner: Spanner
    classify: Callable[[Params, Array], Array]
    """`classify(params, image) -> logits`, for one image."""

    def __call__(self, params: DefenseParams, image: Image, key: PRNGKey) -> Logits:
        """Returns the defended logits."""
        manifold = self.spanner.bind(params.spanner)
        classify = functools.partial(self.classify, params.classifier)
        return self.defence(key, manifold, classify, image)


@dataclasses.dataclass(frozen=True)
class BareApply:
    """The classifier without its defence, with a defence's arguments."""

    classify: Callable[[Params, Array], Array]

    def __call__(self, params: DefenseParams, image: Image, key: PRNGKey) -> Logits:
        """Returns the bare classifier's logits."""
        del key
        return self.classify(params.classifier, image)


class Derivative(abc.ABC):
    """How a projection is differentiated by its image: a frozen dataclass."""

    @abc.abstractmethod
    def project(
        self, search: Search, manifold: Manifold, image: Image, key: PRNGKey
    ) -> Inversion:
        """Returns the projection, with this derivative."""

    @abc.abstractmethod
    def passes(self, search: Search, latent_size: int) -> float:
        """Returns about how many passes the derivative takes beside the search."""


@dataclasses.dataclass(frozen=True)
class Identity(Derivative):
    """The projection's derivative is taken for the identity (Athalye et al. 2018)."""

    def project(self, search, manifold, image, key) -> Inversion:
        """Returns the projection itself, differentiated as if it were the image."""
        found = search(manifold, jax.lax.stop_gradient(image), key)
        return found._replace(image=with_derivative_of(found.image, image))

    def passes(self, search, latent_size) -> float:
        """Returns 0."""
        del search, latent_size
        return 0.0


@dataclasses.dataclass(frozen=True)
class Unrolling(Derivative):
    """The projection's derivative goes through every step; see `inversion.unrolled`."""

    rematerialise: bool = True

    def project(self, search, manifold, image, key) -> Inversion:
        """Returns the projection by the best restart, differentiated step by step."""
        return unrolled(search, manifold, image, key, rematerialise=self.rematerialise)

    def passes(self, search, latent_size) -> float:
        """Returns those of the best restart's steps, taken again and led back."""
        steps = search.solver.steps * search.solver.passes(latent_size)
        return (3 + self.rematerialise) * steps


@dataclasses.dataclass(frozen=True)
class Implicit(Derivative):
    """The projection's derivative is that of a minimum; see `ImplicitDerivative`."""

    derivative: ImplicitDerivative = ImplicitDerivative()

    def project(self, search, manifold, image, key) -> Inversion:
        """Returns the projection, differentiated by the implicit function theorem."""
        return self.derivative(search, manifold, image, key)

    def passes(self, search, latent_size) -> float:
        """Returns 4 for each product with the Hessian."""
        del search
        return 4.0 * self.derivative.products(latent_size)


@dataclasses.dataclass(frozen=True)
class StandIn(Derivative):
    """The derivative of another projection, through its every step."""

    search: Search
    """How the other projection is found."""

    def project(self, search, manifold, image, key) -> Inversion:
        """Returns the projection itself, differentiated as if it were the other."""
        stand_in = unrolled(self.search, manifold, image, key)
        found = search(manifold, jax.lax.stop_gradient(image), key)
        return found._replace(image=with_derivative_of(found.image, stand_in.image))

    def passes(self, search, latent_size) -> float:
        """Returns those of the other search and of its best restart's steps."""
        del search
        through = Unrolling().passes(self.search, latent_size)
        return search_passes(self.search, latent_size) + through


@dataclasses.dataclass(frozen=True)
class ProjectionView:
    """A defence that classifies a projection, differentiated in its own way."""

    derivative: Derivative
    defence: ProjectionDefense
    spanner: Spanner
    classify: Callable[[Params, Array], Array]

    def __call__(self, params: DefenseParams, image: Image, key: PRNGKey) -> Logits:
        """Returns the logits of the projection."""
        manifold = self.spanner.bind(params.spanner)
        inversion = self.derivative.project(self.defence.search, manifold, image, key)
        return self.classify(params.classifier, inversion.image)


@dataclasses.dataclass(frozen=True)
class ImplicitReport:
    """Whether the implicit function theorem holds where a defence's search ends."""

    derivative: ImplicitDerivative
    defence: ProjectionDefense
    spanner: Spanner
    tiled = True

    def __call__(self, params: DefenseParams, key: PRNGKey, image: Image) -> Report:
        """Returns what is found at one image, as `core.batching.map_examples` asks."""
        manifold = self.spanner.bind(params.spanner)
        search = self.defence.search
        latent = search(manifold, image, key).latent
        problem = search.solver.problem(manifold.generate, image, manifold.prior)
        return self.derivative.report(problem, latent)


def search_passes(search: Search, latent_size: int) -> float:
    """Returns the passes through the generator of a search that does not end early.

    Args:
      search: of one image.
      latent_size: of the generator.
    """
    segments = search.restarts.segments(search.solver.steps)
    taken = sum(segment.steps * segment.runs for segment in segments)
    return taken * search.solver.passes(latent_size)


@jax.custom_jvp
def with_derivative_of(
    value: Float[Array, "*shape"], other: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Returns `value`, to the last bit, with the derivative that `other` has."""
    del other
    return value


@with_derivative_of.defjvp
def _with_derivative_of_jvp(primals, tangents):
    return primals[0], tangents[1]
