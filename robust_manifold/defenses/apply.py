"""A defence over many images, compiled, in chunks, on all devices."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from robust_manifold.core import batching
from robust_manifold.core.checks import checked_images
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.core.networks import GENERATOR, Networks
from robust_manifold.core.types import Image, Params, PRNGKey
from robust_manifold.defenses.base import Defended, Defense, registry


class DefenseParams(NamedTuple):
    """The parameters of the networks behind a defence, and of its classifier."""

    networks: Mapping[str, Params]
    """By role; those of the generator are `SpannerParams`."""
    classifier: Params

    @property
    def spanner(self) -> SpannerParams:
        """The generator's, by the name that attacks in its range use."""
        return self.networks[GENERATOR]


@dataclasses.dataclass(frozen=True)
class _DefendOne:
    """A defence of one image, hashed by value: equal specs compile once."""

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

    def __call__(self, params: DefenseParams, key: PRNGKey, image: Image) -> Defended:
        networks = self.networks.bind(params.networks)
        classify = functools.partial(self.classify, params.classifier)
        return self.defence.defend(key, networks, classify, image)


def check_networks(defence: Defense, networks: Networks) -> None:
    """Refuses networks among which a defence lacks one that it needs.

    Raises:
      UsageError: if one is missing, or the generator is of another kind.
    """
    missing = [role for role in defence.needs if role not in networks.roles]
    if missing:
        raise UsageError(
            f"networks has the roles {', '.join(networks.roles) or 'none'}; allowed "
            f"with {named(defence)}: {', '.join(defence.needs)}."
        )
    generator = networks.get(GENERATOR)
    if GENERATOR in defence.needs and isinstance(generator, Spanner):
        defence.check_latents(generator.prior, *generator.latent_shape)


def named(defence: Defense) -> str:
    """Returns a defence as an error names it."""
    try:
        registry.name_of(defence)
    except KeyError:
        # One of the caller's own, in no registry.
        return repr(defence)
    return repr(registry.to_string(defence))


def defend(
    defence: Defense,
    networks: Networks,
    classify: Callable[[Params, Array], Array],
    params: DefenseParams,
    images: Any,
    *,
    key: PRNGKey,
    batch_size: int | None = None,
    ids: np.ndarray | jax.Array | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Defended:
    """Returns the defended outputs, and purified images, of a batch of images.

    The result for an image depends on its id and `key`, never on its batch mates.

    Args:
      defence: the spec, for instance `InvertAndClassify()`.
      networks: that the defence may use, by role, such as
        `Networks(generator=Spanner(generate, (64,)))`.
      classify: `classify(params, image) -> logits`, for one image.
      params: of all of them.
      images: [n, height, width, channels], floats in [0, 1].
      key: the root of all randomness of the defence.
      batch_size: images defended at a time; see `core.batching.map_examples`.
      ids: global ids [n] of the images; 0..n-1 by default.
      on_chunk: called with (images done, n) after each chunk.

    Raises:
      UsageError: for images outside [0, 1] or of the wrong shape, or a network that is
        missing.
    """
    return batching.map_examples(
        _DefendOne(defence, networks, classify),
        params,
        checked_images(images),
        key=key,
        ids=ids,
        batch_size=batch_size,
        on_chunk=on_chunk,
    )
