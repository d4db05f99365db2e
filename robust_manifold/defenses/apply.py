"""A defence over many images, compiled, in chunks, on all devices."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from robust_manifold.core import batching
from robust_manifold.core.checks import checked_images
from robust_manifold.core.prior import STANDARD_NORMAL, Prior
from robust_manifold.core.types import Image, Params, PRNGKey
from robust_manifold.defenses.base import Defended, Defense


class DefenseParams(NamedTuple):
    """The parameters of the two networks behind a defence."""

    generator: Params
    classifier: Params


@dataclasses.dataclass(frozen=True)
class _DefendOne:
    """A defence of one image, hashed by value: equal specs compile once."""

    defence: Defense
    generate: Callable[[Params, Array], Array]
    classify: Callable[[Params, Array], Array]
    latent_shape: tuple[int, ...]
    prior: Prior

    def __call__(self, params: DefenseParams, key: PRNGKey, image: Image) -> Defended:
        return self.defence.defend(
            key,
            functools.partial(self.generate, params.generator),
            functools.partial(self.classify, params.classifier),
            image,
            self.latent_shape,
            self.prior,
        )


def defend(
    defence: Defense,
    generate: Callable[[Params, Array], Array],
    classify: Callable[[Params, Array], Array],
    params: DefenseParams,
    images: Any,
    *,
    key: PRNGKey,
    latent_shape: tuple[int, ...],
    prior: Prior = STANDARD_NORMAL,
    batch_size: int | None = None,
    ids: np.ndarray | jax.Array | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Defended:
    """Returns the defended logits, and projections, of a batch of images.

    The result for an image depends on its id and `key`, never on its batch mates.

    Args:
      defence: the spec, for instance `InvertAndClassify()`.
      generate: `generate(params, latent) -> image`, for one latent.
      classify: `classify(params, image) -> logits`, for one image.
      params: of both.
      images: [n, height, width, channels], floats in [0, 1].
      key: the root of all randomness of the defence.
      latent_shape: of one latent, (size,).
      prior: of the generator's latents, N(0, 1) by default.
      batch_size: images defended at a time; see `core.batching.map_examples`.
      ids: global ids [n] of the images; 0..n-1 by default.
      on_chunk: called with (images done, n) after each chunk.

    Raises:
      UsageError: for images outside [0, 1] or of the wrong shape.
    """
    return batching.map_examples(
        _DefendOne(defence, generate, classify, tuple(latent_shape), prior),
        params,
        checked_images(images),
        key=key,
        ids=ids,
        batch_size=batch_size,
        on_chunk=on_chunk,
    )
