"""Reject what lies too far from the generator's range; classify the rest."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from robust_manifold.core.criterion import Criterion, MisclassifiedAndAccepted
from robust_manifold.core.networks import GENERATOR, THRESHOLD
from robust_manifold.core.spec import check
from robust_manifold.core.types import Logits, Params, Scalar
from robust_manifold.defenses.base import registry
from robust_manifold.defenses.invert_and_classify import (
    InvertAndClassify,
    ProjectionDefense,
)
from robust_manifold.defenses.purifier import Purified
from robust_manifold.defenses.views import with_derivative_of
from robust_manifold.inversion import Search

_SCALE = 10.0
"""Logits that an error of twice the threshold counts: as much as a sure prediction.

It changes what attacks climb, not what is rejected.  On 32 validation digits a cascade
broke 19, 17, 18 and 18 at linf 0.2 with 1, 3, 10 and 30.
"""


def given_number(params: Params) -> Scalar:
    """Returns its parameters: the network of the role "threshold"."""
    return jnp.asarray(params)


@registry.register("rejecting")
@dataclasses.dataclass(frozen=True)
class Rejecting(ProjectionDefense):
    """Rejects images whose projection has too large an error, and classifies the rest.

    There is one logit more than classes, the last: "rejected".  It is the largest
    exactly where the error is above the number of the role "threshold", or not finite,
    and it rises with the error, so that an attack can climb out of both at once.  The
    others are those of the inner defence less their largest.

    Whatever the derivative of the projection is, that of the error takes it as
    constant.  At a minimum of the error this is exact (the envelope theorem), while
    straight-through, whose projection moves with the image, would see no change.
    """

    needs = (GENERATOR, THRESHOLD)
    criterion: ClassVar[Criterion] = MisclassifiedAndAccepted()

    defence: ProjectionDefense | str = InvertAndClassify()
    """Which projects and classifies, or its text as in a config."""
    rate: float = 0.05
    """The share of clean validation images that a run's threshold may reject."""

    def __post_init__(self):
        if isinstance(self.defence, str):
            object.__setattr__(self, "defence", registry.build(self.defence))
        fits = isinstance(self.defence, ProjectionDefense)
        fits &= not isinstance(self.defence, Rejecting)
        check(fits, self, "defence", "one that inverts, such as 'invert_and_classify'")
        check(0 < self.rate < 1, self, "rate", "above 0 and below 1")

    @property
    def inner(self) -> ProjectionDefense:
        """The defence that projects and classifies."""
        assert isinstance(self.defence, ProjectionDefense)
        return self.defence

    @property
    def search(self) -> Search:
        """The inner defence's."""
        return self.inner.search

    def purify(self, key, networks, image) -> Purified:
        """Returns the inner defence's projection."""
        return self.inner.purify(key, networks, image)

    def unrolled(self, key, networks, image, *, rematerialise=True) -> Purified:
        """Returns the inner defence's projection, to be differentiated."""
        return self.inner.unrolled(key, networks, image, rematerialise=rematerialise)

    def output(self, networks, classify, image, found) -> Logits:
        """Returns the classes' logits and that of the rejection."""
        threshold = networks[THRESHOLD]().astype(image.dtype)
        # An infinite one rejects nothing but what is not finite.
        threshold = jnp.minimum(threshold, jnp.finfo(image.dtype).max)
        away = image - jax.lax.stop_gradient(found.image)
        error = with_derivative_of(found.details.error, jnp.mean(away**2))
        # The sign of a difference is exact, that of a quotient less 1 is not.
        excess = (error - threshold) / jnp.maximum(threshold, 1e-12)
        sound = jnp.isfinite(error)
        logits = classify(found.image)
        logits = jnp.where(sound, logits - jnp.max(logits), 0)
        rejection = _SCALE * jnp.where(sound, excess, 1)
        return jnp.append(logits, rejection.astype(logits.dtype))

    def passes(self, latent_size: int) -> float:
        """Returns the inner defence's passes."""
        return self.inner.passes(latent_size)

    def unrolled_passes(self, latent_size, *, rematerialise=True) -> float:
        """Returns those of the inner defence."""
        return self.inner.unrolled_passes(latent_size, rematerialise=rematerialise)
