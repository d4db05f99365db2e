"""Ask a random purifier many times, and let its answers vote."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from robust_manifold.core import keys
from robust_manifold.core.networks import Bound
from robust_manifold.core.prior import Prior
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Classify, Image, Logits, PRNGKey
from robust_manifold.defenses.base import Defense, registry
from robust_manifold.defenses.purifier import Purified, Purifier, as_purifier


class Votes(NamedTuple):
    """What the draws of a vote are."""

    offsets: Float[Array, "draws height width channels"]
    """Each purified image less their mean, which is the one shown."""
    details: Any
    """Those of the inner defence, one for each draw."""


@registry.register("voting")
@dataclasses.dataclass(frozen=True)
class Voting(Purifier):
    """The classes' mean probabilities over several keys of another purifier.

    The logits are the logarithm of that mean.  Keys follow from the image's own, so a
    vote is as fixed or as fresh as its key.  What is shown as the purified image is the
    mean of the draws, and each draw moves with it as the adversary has it: exactly in
    the unrolled view, and as the image itself straight through.

    Attributes:
      defence: the purifier that is asked, or its text as in a config.
      draws: how often.
    """

    defence: Purifier | str = "diffusion"
    draws: int = 8

    def __post_init__(self):
        object.__setattr__(self, "defence", as_purifier(self.defence))
        check(is_whole(self.draws, 1), self, "draws", "a whole number, 1 or more")
        plain = self.voter.criterion == Defense.criterion
        check(plain, self, "defence", "one that rejects nothing")

    @property
    def voter(self) -> Purifier:
        """The purifier that is asked."""
        assert isinstance(self.defence, Purifier)
        return self.defence

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The inner defence's."""
        return self.voter.needs

    @property
    def tiled(self) -> bool:  # type: ignore[override]
        """The inner defence's."""
        return self.voter.tiled

    @property
    def traceable(self) -> bool:  # type: ignore[override]
        """The inner defence's."""
        return self.voter.traceable

    @property
    def stand_ins(self) -> tuple[Purifier, ...]:
        """Votes over what stands in for the inner defence."""
        shorter = self.voter.stand_ins
        return tuple(dataclasses.replace(self, defence=each) for each in shorter)

    def check_latents(self, prior: Prior, latent_size: int) -> None:
        """Refuses what the inner defence does."""
        self.voter.check_latents(prior, latent_size)

    def purify(self, key: PRNGKey, networks: Bound, image: Image) -> Purified:
        """Returns the mean of the purified images; the details are the `Votes`."""
        return _mean(
            jax.vmap(lambda k: self.voter.purified(k, networks, image))(self._keys(key))
        )

    def unrolled(self, key, networks, image, *, rematerialise=True) -> Purified:
        """Returns the same, to be differentiated."""

        def draw(key: PRNGKey) -> Purified:
            return self.voter.unrolled(
                key, networks, image, rematerialise=rematerialise
            )

        return _mean(jax.vmap(draw)(self._keys(key)))

    def output(
        self, networks: Bound, classify: Classify, image: Image, found: Purified
    ) -> Logits:
        """Returns the logarithm of the mean probabilities."""

        def log_probabilities(offset: Image, details: Any) -> Logits:
            draw = Purified(found.image + offset, details)
            logits = self.voter.output(networks, classify, image, draw)
            return jax.nn.log_softmax(logits)

        votes = jax.vmap(log_probabilities)(*found.details)
        return jax.nn.logsumexp(votes, axis=0) - math.log(self.draws)

    def passes(self, latent_size: int) -> float:
        """Returns those of all draws, and of the classifier's further answers."""
        return self.draws * (self.voter.passes(latent_size) + 1) - 1

    def unrolled_passes(self, latent_size, *, rematerialise=True) -> float:
        """Returns those of all draws, and of the classifier's further slopes."""
        each = self.voter.unrolled_passes(latent_size, rematerialise=rematerialise)
        return self.draws * (each + 1) - 1

    def _keys(self, key: PRNGKey) -> Key[Array, " draws"]:
        return keys.per_example(keys.stream(key, "votes"), jnp.arange(self.draws))


def _mean(drawn: Purified) -> Purified:
    """Returns the mean of purified images, and how far each is from it."""
    image = jnp.mean(drawn.image, axis=0)
    return Purified(image, Votes(drawn.image - image[None], drawn.details))
