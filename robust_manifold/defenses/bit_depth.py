"""Fewer colours: the shortest purifier."""

import dataclasses

import jax.numpy as jnp

from robust_manifold.core.spec import check, is_whole
from robust_manifold.defenses.base import registry
from robust_manifold.defenses.purifier import Purified, Purifier


@registry.register("bit_depth")
@dataclasses.dataclass(frozen=True)
class BitDepth(Purifier):
    """Rounds every pixel to one of 2^bits values (Xu et al. 2018).

    The values are equally far apart and include 0 and 1.
    """

    bits: int = 3

    def __post_init__(self):
        holds = is_whole(self.bits, 1) and self.bits <= 8
        check(holds, self, "bits", "a whole number, 1 to 8")

    def purify(self, key, networks, image) -> Purified:
        """Returns the image with the nearest of the values in each pixel."""
        del key, networks
        levels = 2**self.bits - 1
        return Purified(jnp.round(image * levels) / levels)
