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
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.core.types import Image, Params, PRNGKey
from robust_manifold.defenses.base import Defended, Defense
from robust_manifold.defenses.invert_and_classify import ProjectionDefense


class DefenseParams(NamedTuple):
    """The parameters of the networks behind a defence."""

    spanner: SpannerParams
    classifier: Params


@dataclasses.dataclass(frozen=True)
class _DefendOne:
    """A defence of one image, hashed by value: equal specs compile once."""

    defence: Defense
    spanner: Spanner
    classify: Callable[[Params, Array], Array]

    @property
    def tiled(self) -> bool:
        """Whether it searches over many steps; see `core.batching.map_examples`."""
        return isinstance(self.defence, ProjectionDefense)

    def __call__(self, params: DefenseParams, key: PRNGKey, image: Image) -> Defended:
        return self.defence.defend(
            key,
            self.spanner.bind(params.spanner),
            functools.partial(self.classify, params.classifier),
            image,
        )


def defend(
    defence: Defense,
    spanner: Spanner,
    classify: Callable[[Params, Array], Array],
    params: DefenseParams,
    images: Any,
    *,
    key: PRNGKey,
    batch_size: int | None = None,
    ids: np.ndarray | jax.Array | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Defended:
    """Returns the defended logits, and projections, of a batch of images.

    The result for an image depends on its id and `key`, never on its batch mates.

    Args:
      defence: the spec, for instance `InvertAndClassify()`.
      spanner: the generator, and its encoder if it has one.
      classify: `classify(params, image) -> logits`, for one image.
      params: of all of them.
      images: [n, height, width, channels], floats in [0, 1].
      key: the root of all randomness of the defence.
      batch_size: images defended at a time; see `core.batching.map_examples`.
      ids: global ids [n] of the images; 0..n-1 by default.
      on_chunk: called with (images done, n) after each chunk.

    Raises:
      UsageError: for images outside [0, 1] or of the wrong shape.
    """
    return batching.map_examples(
        _DefendOne(defence, spanner, classify),
        params,
        checked_images(images),
        key=key,
        ids=ids,
        batch_size=batch_size,
        on_chunk=on_chunk,
    )
