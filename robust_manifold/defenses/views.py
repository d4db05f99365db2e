"""The defended classifier, and differentiable views of it, as functions of parameters.

All hash by value, so that equal ones are compiled once.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.core import keys
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion
from robust_manifold.core.networks import GENERATOR, Bound, Networks
from robust_manifold.core.types import Image, Logits, Params, PRNGKey
from robust_manifold.defenses.apply import DefenseParams, check_networks
from robust_manifold.defenses.base import Defense
from robust_manifold.defenses.invert_and_classify import ProjectionDefense
from robust_manifold.defenses.purifier import Purified, Purifier
from robust_manifold.inversion import ImplicitDerivative, ImplicitFindings


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
    networks: Networks
    classify: Callable[[Params, Array], Array]
    """`classify(params, image) -> logits`, for one image."""

    def __post_init__(self):
        check_networks(self.defence, self.networks)

    @property
    def tiled(self) -> bool:
        """Whether it searches over many steps; see `core.batching.map_examples`."""
        return self.defence.tiled

    def __call__(self, params: DefenseParams, image: Image, key: PRNGKey) -> Logits:
        """Returns the defended logits."""
        networks = self.networks.bind(params.networks)
        classify = functools.partial(self.classify, params.classifier)
        return self.defence(key, networks, classify, image)


@dataclasses.dataclass(frozen=True)
class BareApply:
    """The classifier without its defence, with a defence's arguments."""

    classify: Callable[[Params, Array], Array]
    criterion: Criterion = MISCLASSIFIED
    """What an attack on the defended classifier has to come to."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on the image, which is cut to [0, 1]."""
    draws: int = 1
    """Of the noise: the logits are the mean over them."""

    def __call__(self, params: DefenseParams, image: Image, key: PRNGKey) -> Logits:
        """Returns the bare classifier's logits."""
        classify = functools.partial(self.classify, params.classifier)
        if not self.noise:
            return self.criterion.widened(classify(image))
        shape = (self.draws, *image.shape)
        noise = self.noise * keys.drawn(jax.random.normal, key, shape, image.dtype)
        noisy = jnp.clip(image[None] + noise, 0, 1)
        return self.criterion.widened(jnp.mean(jax.vmap(classify)(noisy), axis=0))


class Derivative(abc.ABC):
    """How a purified image is differentiated by the image: a frozen dataclass."""

    @abc.abstractmethod
    def purify(
        self, purifier: Purifier, key: PRNGKey, networks: Bound, image: Image
    ) -> Purified:
        """Returns the purified image, with this derivative."""

    @abc.abstractmethod
    def passes(self, purifier: Purifier, latent_size: int) -> float:
        """Returns about how many passes the derivative takes beside the purifier."""


@dataclasses.dataclass(frozen=True)
class Identity(Derivative):
    """The purifier's derivative is taken for the identity (Athalye et al. 2018)."""

    def purify(self, purifier, key, networks, image) -> Purified:
        """Returns the purified image, differentiated as if it were the image."""
        found = purifier.purified(key, networks, jax.lax.stop_gradient(image))
        return found._replace(image=with_derivative_of(found.image, image))

    def passes(self, purifier, latent_size) -> float:
        """Returns 0."""
        del purifier, latent_size
        return 0.0


@dataclasses.dataclass(frozen=True)
class Unrolling(Derivative):
    """The derivative goes through all that the purifier does: its `unrolled`."""

    rematerialise: bool = True

    def purify(self, purifier, key, networks, image) -> Purified:
        """Returns the purified image, differentiated step by step."""
        remat = self.rematerialise
        return purifier.unrolled(key, networks, image, rematerialise=remat)

    def passes(self, purifier, latent_size) -> float:
        """Returns the passes of the purifier's own derivative."""
        remat = self.rematerialise
        return purifier.unrolled_passes(latent_size, rematerialise=remat)


@dataclasses.dataclass(frozen=True)
class ImplicitFunction(Derivative):
    """The projection's derivative is that of a minimum; see `ImplicitDerivative`."""

    derivative: ImplicitDerivative = ImplicitDerivative()

    def purify(self, purifier, key, networks, image) -> Purified:
        """Returns the projection, differentiated by the implicit function theorem."""
        assert isinstance(purifier, ProjectionDefense)
        manifold = networks[GENERATOR]
        found = self.derivative(purifier.search, manifold, image, key)
        return Purified(found.image, found)

    def passes(self, purifier, latent_size) -> float:
        """Returns 4 for each product with the Hessian."""
        del purifier
        return 4.0 * self.derivative.products(latent_size)


@dataclasses.dataclass(frozen=True)
class StandIn(Derivative):
    """The derivative of another purifier, through all that it does."""

    other: Purifier

    def purify(self, purifier, key, networks, image) -> Purified:
        """Returns the purified image, differentiated as if it were the other's."""
        other = self.other.unrolled(key, networks, image)
        found = purifier.purified(key, networks, jax.lax.stop_gradient(image))
        return found._replace(image=with_derivative_of(found.image, other.image))

    def passes(self, purifier, latent_size) -> float:
        """Returns the passes of the other purifier and of its derivative."""
        del purifier
        through = self.other.unrolled_passes(latent_size)
        return self.other.passes(latent_size) + through


_SAME_VALUES = (Purifier.unrolled, ProjectionDefense.unrolled)
"""Methods that return what `purify` does, but for rounding."""


@dataclasses.dataclass(frozen=True)
class PurifierView:
    """A defence that classifies a purified image, differentiated in its own way."""

    derivative: Derivative
    defence: Purifier
    networks: Networks
    classify: Callable[[Params, Array], Array]

    def __post_init__(self):
        check_networks(self.defence, self.networks)
        if isinstance(self.derivative, StandIn):
            check_networks(self.derivative.other, self.networks)

    def stands_for(self, apply: Callable) -> bool:
        """Returns whether the logits are those of `apply`, whatever the derivative."""
        own = type(self.defence).unrolled
        if isinstance(self.derivative, Unrolling) and own not in _SAME_VALUES:
            # It may return a smooth image in place of the purified one.
            return False
        return apply == DefendedApply(self.defence, self.networks, self.classify)

    def __call__(self, params: DefenseParams, image: Image, key: PRNGKey) -> Logits:
        """Returns the logits of the purified image."""
        networks = self.networks.bind(params.networks)
        found = self.derivative.purify(self.defence, key, networks, image)
        classify = functools.partial(self.classify, params.classifier)
        return self.defence.output(networks, classify, image, found)


@dataclasses.dataclass(frozen=True)
class ImplicitReport:
    """Whether the implicit function theorem holds where a defence's search ends."""

    derivative: ImplicitDerivative
    defence: ProjectionDefense
    networks: Networks
    tiled = True

    def __post_init__(self):
        check_networks(self.defence, self.networks)

    def __call__(
        self, params: DefenseParams, key: PRNGKey, image: Image
    ) -> ImplicitFindings:
        """Returns what is found at one image, as `core.batching.map_examples` asks."""
        manifold = self.networks.bind(params.networks)[GENERATOR]
        search = self.defence.search
        latent = search(manifold, image, key).latent
        problem = search.solver.problem(manifold.generate, image, manifold.prior)
        return self.derivative.report(problem, latent)


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
