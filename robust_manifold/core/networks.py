"""The networks behind a defence, by role: hashable, with their parameters apart."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner
from robust_manifold.core.types import Image, Params, Scalar

Network: TypeAlias = Spanner | Callable[..., Any] | tuple[Any, ...]
"""A generator, a function `apply(params, *arrays)`, or a stack: a tuple of networks."""

Bound: TypeAlias = Mapping[str, Any]
"""Networks with their parameters bound, by role: what a defence is given."""

GENERATOR, ENCODER = "generator", "encoder"
THRESHOLD = "threshold"
"""The role of a number that a defence is given as a parameter."""
DENOISER = "denoiser"
"""The role of a network from `with_level(noisy, level)` to the clean image's mean."""


def with_level(noisy: Image, level: Scalar | float) -> Float[Array, "height width _"]:
    """Returns what a denoiser is given: the image, and the level as one more channel.

    Args:
      noisy: an image under Gaussian noise, whose pixels may leave [0, 1].
      level: standard deviation of the noise.
    """
    channel = jnp.broadcast_to(jnp.asarray(level, noisy.dtype), (*noisy.shape[:2], 1))
    return jnp.concatenate([noisy, channel], axis=-1)


class Networks(Mapping[str, Network]):
    """The networks that a defence may use, by role.

    Equal networks hash alike, so that what is compiled for them is compiled once.

    >>> networks = Networks(denoiser=lambda params, image: params * image)
    >>> bound = networks.bind({"denoiser": 0.5})
    >>> bound["denoiser"](4.0)
    2.0

    The role `generator` is a `Spanner`, whose parameters are `SpannerParams`; bound it
    is a `Manifold`.  An encoder that the spanner has is the role `encoder`, too.  A
    role may hold a stack, which is a tuple of networks.  Its parameters are then a
    tuple, too, and so is what is bound.
    """

    def __init__(self, /, **roles: Any):
        """Takes the networks by their roles.

        Raises:
          UsageError: for what is no network, a generator that is no `Spanner`, or a
            second encoder beside that of the generator.
        """
        for role, network in roles.items():
            _check(role, network)
        generator = roles.get(GENERATOR)
        if generator is not None and not isinstance(generator, Spanner):
            raise UsageError(
                f"the network 'generator' is {generator!r}; allowed: a "
                "Spanner(generate, latent_shape)."
            )
        if generator is not None and generator.encode and ENCODER in roles:
            raise UsageError(
                "the network 'encoder' is given beside the generator's own; allowed: "
                "one of them."
            )
        self._roles: dict[str, Network] = dict(sorted(roles.items()))

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that `bind` fills, sorted."""
        generator = self._roles.get(GENERATOR)
        own = isinstance(generator, Spanner) and generator.encode is not None
        return tuple(sorted({*self._roles, *([ENCODER] if own else [])}))

    def bind(self, params: Mapping[str, Params]) -> dict[str, Any]:
        """Returns functions of arrays alone, by role.

        Args:
          params: of each network, by its role.

        Raises:
          UsageError: if a network's parameters are missing, or a stack has others.
        """
        bound: dict[str, Any] = _Bound()
        for role, network in self._roles.items():
            if role not in params:
                given = ", ".join(params) or "none"
                raise UsageError(
                    f"the parameters of the network {role!r} are missing; allowed: "
                    f"those of {', '.join(self._roles)} (given: {given})."
                )
            bound[role] = _bound(role, network, params[role])
        manifold = bound.get(GENERATOR)
        if manifold is not None and manifold.encode is not None:
            bound[ENCODER] = manifold.encode
        return bound

    def __getitem__(self, role: str) -> Network:
        return self._roles[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self._roles)

    def __len__(self) -> int:
        return len(self._roles)

    def __hash__(self) -> int:
        return hash(tuple(self._roles.items()))

    def __repr__(self) -> str:
        return f"Networks({', '.join(f'{k}={v!r}' for k, v in self._roles.items())})"


class _Bound(dict):
    """Functions of arrays by role; one that is not there is told in a sentence."""

    def __missing__(self, role: str) -> Any:
        raise UsageError(
            f"a defence asks for the network {role!r}, which is not there; allowed: "
            f"{', '.join(self) or 'none'}. A defence names in `needs` those that it "
            "cannot do without."
        )


def _check(role: str, network: Any) -> None:
    stack = isinstance(network, tuple) and not isinstance(network, Spanner)
    if stack and network:
        for each in network:
            _check(role, each)
    elif stack or not (isinstance(network, Spanner) or callable(network)):
        raise UsageError(
            f"the network {role!r} is {network!r}; allowed: a function of parameters "
            "and arrays, a Spanner, or a tuple of them."
        )


def _bound(role: str, network: Network, params: Any) -> Any:
    if isinstance(network, Spanner):
        return network.bind(params)
    if not isinstance(network, tuple):
        return functools.partial(network, params)
    if len(network) != len(params):
        raise UsageError(
            f"the stack {role!r} has {len(network)} networks and {len(params)} "
            "parameters; allowed: as many."
        )
    return tuple(_bound(role, *pair) for pair in zip(network, params, strict=True))
