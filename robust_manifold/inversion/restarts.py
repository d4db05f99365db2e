"""Restarts: where the runs of a solver begin on one image, and how many go on."""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Manifold
from robust_manifold.core.spec import Registry, check, is_whole
from robust_manifold.core.types import Image, Latent, PRNGKey


class _Registry(Registry["Restarts"]):
    """Writes plain restarts as their number."""

    def build(self, text: str) -> "Restarts":
        if isinstance(text, str) and re.fullmatch(r"\s*[+-]?[0-9]+\s*", text):
            return as_restarts(int(text))
        return super().build(text)

    def to_string(self, spec: "Restarts") -> str:
        return str(spec.count) if _is_plain(spec) else super().to_string(spec)

    def stream_name(self, spec: "Restarts") -> str:
        return str(spec.count) if _is_plain(spec) else super().stream_name(spec)


def _is_plain(spec: "Restarts") -> bool:
    return spec == Restarts(count=spec.count)


registry = _Registry("restarts")
"""The one name that configs write restarts by: a number, or "restarts(count=8)"."""


class Segment(NamedTuple):
    """Steps that the same restarts take together."""

    steps: int
    runs: int
    """Restarts that take part."""


@registry.register("restarts")
@dataclasses.dataclass(frozen=True)
class Restarts:
    """How many starts an image gets, where, and which of them are followed up.

    Restart r begins at a draw from the prior with the image's key folded with r.  The
    first `encoded` begin where the encoder says: the first at its mean, the others
    drawn from its distribution.

    Attributes:
      count: the number of starts.
      scale: by which a draw's distance from the prior's centre is multiplied; "unit"
        divides it by sqrt(d), so that N(0, 1) becomes Defense-GAN's N(0, 1/d).
      encoded: how many begin at the encoder's guess; None: 1 if there is an encoder.
      halve_at: numbers of steps after each of which the better half goes on
        (successive halving); the others keep the error they had.  Numbers that are not
        below the solver's steps have no effect.
      enough: an image is left alone once its best error, the mean square over the
        pixels, is at most this.
    """

    count: int = 4
    scale: float | Literal["unit"] = 1.0
    encoded: int | None = None
    halve_at: tuple[int, ...] = ()
    enough: float = 0.0

    def __post_init__(self):
        check(is_whole(self.count, 1), self, "count", "1 or more")
        number = isinstance(self.scale, float | int) and not isinstance(
            self.scale, bool
        )
        check(
            self.scale == "unit" or (number and 0 <= float(self.scale) < math.inf),
            self,
            "scale",
            "a finite number, 0 or more, or unit",
        )
        check(
            self.encoded is None
            or (is_whole(self.encoded, 0) and self.encoded <= self.count),
            self,
            "encoded",
            "0 to count, or None",
        )
        steps = self.halve_at
        check(
            isinstance(steps, tuple)
            and all(is_whole(step, 1) for step in steps)
            and all(a < b for a, b in zip(steps, steps[1:], strict=False)),
            self,
            "halve_at",
            "rising numbers of steps, each 1 or more",
        )
        check(
            2 ** len(steps) <= self.count,
            self,
            "halve_at",
            "no more entries than count can be halved",
        )
        check(0 <= self.enough < math.inf, self, "enough", "a finite number, 0 or more")

    def segments(self, steps: int) -> Iterator[Segment]:
        """Yields how the runs share `steps`, between halvings."""
        runs, done = self.count, 0
        for step in (step for step in self.halve_at if step < steps):
            yield Segment(step - done, runs)
            runs, done = -(-runs // 2), step
        yield Segment(steps - done, runs)

    def starts(
        self, manifold: Manifold, image: Image, key: PRNGKey
    ) -> Float[Array, "count latent"]:
        """Returns the latents that the restarts of one image begin at.

        Raises:
          UsageError: if `encoded` asks for an encoder and there is none.
        """
        (size,) = manifold.latent_shape
        scale = size**-0.5 if self.scale == "unit" else float(self.scale)
        numbers = jnp.arange(self.count)
        drawn = jax.vmap(
            lambda number: manifold.prior.start(
                key, number, manifold.latent_shape, scale, image.dtype
            )
        )(numbers)
        if manifold.encode is None:
            if self.encoded:
                raise UsageError(
                    f"Restarts.encoded is {self.encoded}; allowed: 0 or None where "
                    "there is no encoder."
                )
            return drawn
        encoded = 1 if self.encoded is None else self.encoded
        if not encoded:
            return drawn
        guesses = _guesses(manifold, image, keys.stream(key, "guess"), encoded)
        free = manifold.prior.free_size(size)
        return drawn.at[:encoded, :free].set(guesses.astype(image.dtype))


def _guesses(
    manifold: Manifold, image: Image, key: PRNGKey, count: int
) -> Float[Array, "count free"]:
    """Returns the encoder's mean, then draws from its distribution."""
    assert manifold.encode is not None
    free = manifold.prior.free_size(manifold.latent_shape[0])
    guess = manifold.encode(image)
    if guess.shape != (2 * free,):
        raise UsageError(
            f"encode gives {guess.shape}; allowed: ({2 * free},), mean and log "
            "variance of a latent."
        )
    mean, deviation = guess[:free], jnp.exp(guess[free:] / 2)

    def draw(number: Int[Array, ""]) -> Latent:
        noise = jax.random.normal(
            jax.random.fold_in(key, number), mean.shape, mean.dtype
        )
        return mean + jnp.where(number > 0, deviation * noise, 0)

    return jax.vmap(draw)(jnp.arange(count))


def as_restarts(restarts: Restarts | str | int) -> Restarts:
    """Returns the restarts that a number or a config's text describes.

    >>> as_restarts(3) == as_restarts("3") == Restarts(count=3)
    True
    >>> as_restarts("restarts(8, halve_at=(2, 4))").halve_at
    (2, 4)

    Raises:
      UsageError: for a text that `registry` cannot build, or a number below 1.
    """
    if isinstance(restarts, Restarts):
        return restarts
    if isinstance(restarts, str):
        return registry.build(restarts)
    if not is_whole(restarts, 1):
        raise UsageError(f"restarts is {restarts!r}; allowed: 1 or more.")
    return Restarts(count=restarts)
