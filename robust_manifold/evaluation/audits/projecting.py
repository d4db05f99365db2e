"""The projection of a defence of the package, in the form that the audit looks at."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from robust_manifold import defenses
from robust_manifold.core import keys
from robust_manifold.core.manifold import Spanner
from robust_manifold.core.networks import GENERATOR, Networks
from robust_manifold.core.types import Image, Latent, Params, PRNGKey
from robust_manifold.evaluation.audits.probe import Projection
from robust_manifold.inversion import Inversion

_LATENTS = 32
"""At most, that are looked for in their own images."""

_ByRole = Mapping[str, Params]
"""The parameters of a defence's networks, by role."""


def projection_of(
    defence: defenses.Defense,
    networks: Networks,
    params: _ByRole,
    *,
    key: PRNGKey,
    examples: int,
) -> Projection | None:
    """Returns the projection behind a defence; None if it does not project.

    Args:
      defence: as it is attacked.
      networks: that it uses, by role.
      params: of these, by role.
      key: of the audit; the latents that are looked for come from a stream of it.
      examples: images that the audit looks at; there are no more latents than that.
    """
    if not isinstance(defence, defenses.ProjectionDefense):
        return None
    spanner = networks[GENERATOR]
    assert isinstance(spanner, Spanner)
    shape = min(examples, _LATENTS), *spanner.latent_shape
    latents = spanner.prior.sample(keys.stream(key, "latents"), shape)
    return Projection(
        _Projecting(defence, networks),
        _Generating(spanner),
        params,
        np.asarray(latents),
    )


@dataclasses.dataclass(frozen=True)
class _Projecting:
    """A defence's projection as a function of parameters, hashed by value."""

    defence: defenses.ProjectionDefense
    networks: Networks

    def __call__(self, params: _ByRole, key: PRNGKey, image: Image) -> Inversion:
        networks = self.networks.bind(params)
        return self.defence.purify(key, networks, image).details


@dataclasses.dataclass(frozen=True)
class _Generating:
    spanner: Spanner

    def __call__(self, params: _ByRole, latent: Latent) -> Image:
        return self.spanner.generate(params[GENERATOR].generator, latent)
