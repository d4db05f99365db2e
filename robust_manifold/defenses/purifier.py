"""Defences that clean the image and classify what they have made of it."""

import abc
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import Bound
from robust_manifold.core.types import Classify, Image, Logits, PRNGKey
from robust_manifold.defenses.base import Defended, Defense, registry


class Purified(NamedTuple):
    """What a purifier makes of one image."""

    image: Image
    details: Any = None
    """What else there is to tell: a NamedTuple of arrays, or None."""


class Purifier(Defense):
    """A defence that classifies another image in place of the given one.

    Subclasses say how one image is purified; every adversary then has its way through.
    One that loops over many steps writes the loop with `inversion.repeated`, so that a
    derivative through it does not keep the values of all steps.
    """

    traceable: ClassVar[bool] = True
    """Whether JAX sees what it does.  A gradient then passes through it, be it zero."""

    @property
    def stand_ins(self) -> "tuple[Purifier, ...]":
        """Shorter purifiers whose derivatives may lead on where its own does not.

        A cascade tries each by `bpda(stand_in=...)`.
        """
        return ()

    @abc.abstractmethod
    def purify(self, key: PRNGKey, networks: Bound, image: Image) -> Purified:
        """Returns the purified image; arguments as for `defend`.

        The image has the shape of the given one, and its pixels are in [0, 1].
        """

    def purified(self, key: PRNGKey, networks: Bound, image: Image) -> Purified:
        """Returns what `purify` does, looked at.

        Raises:
          UsageError: unless it is a `Purified` with an image of the same shape.
        """
        name, found = type(self).__name__, self.purify(key, networks, image)
        if not isinstance(found, Purified):
            raise UsageError(
                f"{name}.purify returned {type(found).__name__}; allowed: "
                "Purified(image, details)."
            )
        if jnp.shape(found.image) != image.shape:
            raise UsageError(
                f"{name}.purify returned an image of the shape "
                f"{jnp.shape(found.image)}; allowed: that of the one image that it was "
                f"given, {image.shape}."
            )
        return found

    def defend(self, key, networks, classify, image) -> Defended:
        """Returns the classifier's logits of the purified image."""
        found = self.purified(key, networks, image)
        output = self.output(networks, classify, image, found)
        return Defended(output, found.image, found.details)

    def output(
        self, networks: Bound, classify: Classify, image: Image, found: Purified
    ) -> Logits:
        """Returns the output for an image that has been purified.

        Args:
          networks: by role, as for `defend`.
          classify: image -> logits.
          image: as it was given.
          found: what was made of it, with the derivative that an adversary gives it.
        """
        del networks, image
        return classify(found.image)

    def unrolled(
        self, key: PRNGKey, networks: Bound, image: Image, *, rematerialise: bool = True
    ) -> Purified:
        """Returns the purified image, to be differentiated by the image.

        Args:
          key: the image's own random key.
          networks: by role, as for `defend`.
          image: pixels in [0, 1].
          rematerialise: whether to compute values again rather than to store them,
            where there is a choice.
        """
        del rematerialise
        return self.purified(key, networks, image)

    def unrolled_passes(self, latent_size: int, *, rematerialise: bool = True) -> float:
        """Returns about how many passes the derivative of `unrolled` takes.

        Those of `passes` are not counted.
        """
        del rematerialise
        return self.passes(latent_size)


def as_purifier(purifier: "Purifier | str") -> Purifier:
    """Returns a purifier, given as such or as its text in a config.

    Raises:
      UsageError: for a defence that purifies no image.
    """
    built = registry.build(purifier) if isinstance(purifier, str) else purifier
    if not isinstance(built, Purifier):
        raise UsageError(
            f"{purifier!r} purifies no image; allowed: a defence that does, such as "
            "'invert_and_classify'."
        )
    return built
