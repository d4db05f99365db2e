"""A purifier as a user writes one: this file is all that there is to it."""

import dataclasses

import jax.numpy as jnp

from robust_manifold.core.spec import check
from robust_manifold.defenses import Purified, Purifier, registry


@registry.register("median")
@dataclasses.dataclass(frozen=True)
class MedianFilter(Purifier):
    """The median of the pixels around each pixel (Xu et al. 2018)."""

    size: int = 3

    def __post_init__(self):
        odd = self.size >= 1 and self.size % 2 == 1
        check(odd, self, "size", "an odd number, 1 or more")

    def purify(self, key, networks, image) -> Purified:
        """Returns the filtered image; its edge pixels are repeated outwards."""
        del key, networks
        (height, width, _), reach = image.shape, self.size // 2
        padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), "edge")
        around = [
            padded[row : row + height, column : column + width]
            for row in range(self.size)
            for column in range(self.size)
        ]
        return Purified(jnp.median(jnp.stack(around), axis=0))
