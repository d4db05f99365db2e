"""One pass through an encoder and the generator: a projection without a search."""

import dataclasses

from robust_manifold.core.networks import ENCODER, GENERATOR
from robust_manifold.defenses.base import registry
from robust_manifold.defenses.purifier import Purified, Purifier
from robust_manifold.inversion import Restarts

_GUESS = Restarts(count=1, encoded=1)
"""A single start, at the encoder's mean."""


@registry.register("encode_and_generate")
@dataclasses.dataclass(frozen=True)
class EncodeAndGenerate(Purifier):
    """Classifies G(E(x)), the generator's image of the encoder's mean (Li & Ji 2019).

    It stands in for a long inversion, too: `bpda(stand_in=encode_and_generate)`.
    """

    needs = (GENERATOR, ENCODER)

    def purify(self, key, networks, image) -> Purified:
        """Returns the generator's image of the latent that the encoder guesses."""
        manifold = networks[GENERATOR]
        # The key draws what the encoder does not tell: the class, where there is one.
        (latent,) = _GUESS.starts(manifold, image, key)
        return Purified(manifold.generate(latent).astype(image.dtype))

    def passes(self, latent_size: int) -> float:
        """Returns 2: one pass through each network."""
        del latent_size
        return 2.0
