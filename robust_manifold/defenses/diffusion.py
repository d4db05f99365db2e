"""Purification by a denoiser: noise to a level, then back to the images without it."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import DENOISER, Bound, with_level
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, PRNGKey, Scalar
from robust_manifold.defenses.base import registry
from robust_manifold.defenses.purifier import Purified, Purifier
from robust_manifold.inversion import repeated


class _State(NamedTuple):
    """Where the way back has come to: `image` under noise of step `number`."""

    image: Image
    number: Int[Array, ""]


@registry.register("diffusion")
@dataclasses.dataclass(frozen=True)
class Diffusion(Purifier):
    """Diffuses the image and denoises it again (DiffPure; Nie et al. 2022).

    The image comes under Gaussian noise of the standard deviation `level`, and goes
    back in steps of equal size.  One step from level t to s goes from x to

        D + sqrt(s^2 - eta^2 v) / t (x - D) + eta sqrt(v) n,  v = s^2 (1 - s^2 / t^2),

    with D what the network of the role "denoiser" makes of x and n fresh noise (Song
    et al. 2021, equation 12, where images are scaled otherwise).  With `eta` 1 it is
    the ancestral sampler (Ho et al. 2020), a discretised stochastic differential
    equation; with 0 the deterministic one, Euler's method on the probability flow.
    With one step it is D itself, one-step denoising (Carlini et al. 2023).

    All noise follows from the image's key: an adversary with fixed keys knows it.  The
    way back is rematerialised, so `unrolled` has its exact gradient at the memory of
    one step and the images between.  A shorter way back may stand in for a long one:
    `bpda(stand_in='diffusion(steps=1)')`.

    Attributes:
      level: standard deviation of the noise, on pixels in [0, 1].
      steps: of the way back.
      eta: share of the noise that is drawn anew in each step, 0 to 1.
    """

    level: float = 0.5
    steps: int = 10
    eta: float = 1.0

    needs = (DENOISER,)

    def __post_init__(self):
        check(0 < self.level < math.inf, self, "level", "a finite number above 0")
        check(is_whole(self.steps, 1), self, "steps", "a whole number, 1 or more")
        check(0 <= self.eta <= 1, self, "eta", "0 to 1")

    @property
    def stand_ins(self) -> tuple[Purifier, ...]:
        """One step from the same level, under the same first noise."""
        return (dataclasses.replace(self, steps=1),) if self.steps > 1 else ()

    def purify(self, key: PRNGKey, networks: Bound, image: Image) -> Purified:
        """Returns the image after the way back, cut to [0, 1]; no details.

        Raises:
          UsageError: if the denoiser cannot take the image, or makes another shape.
        """

        def noise(number: Int[Array, ""] | int) -> Image:
            drawn = jax.random.fold_in(keys.stream(key, "noise"), number)
            return keys.drawn(jax.random.normal, drawn, image.shape, image.dtype)

        def step(state: _State) -> _State:
            noisy, number = state
            t, s = self._level_after(number), self._level_after(number + 1)
            clean = self._denoised(networks, noisy, t)
            fresh = self.eta**2 * s**2 * (1 - (s / t) ** 2)
            after = clean + jnp.sqrt(s**2 - fresh) / t * (noisy - clean)
            if self.eta:
                after += jnp.sqrt(fresh) * noise(number + 1)
            return _State(after, number + 1)

        begun = _State(image + self.level * noise(0), jnp.int32(0))
        return Purified(jnp.clip(repeated(step, begun, self.steps).image, 0, 1))

    def passes(self, latent_size: int) -> float:
        """Returns one for each step."""
        del latent_size
        return float(self.steps)

    def unrolled_passes(self, latent_size, *, rematerialise=True) -> float:
        """Returns those of the steps, taken twice more and differentiated."""
        del latent_size, rematerialise
        return 3.0 * self.steps

    def _level_after(self, steps: Int[Array, ""]) -> Scalar:
        return self.level * (1 - steps.astype(jnp.float32) / self.steps)

    def _denoised(self, networks: Bound, noisy: Image, level: Scalar) -> Image:
        """Returns what the denoiser makes of an image under noise of a level."""
        given = with_level(noisy, level)
        try:
            clean = networks[DENOISER](given)
        except UsageError as error:
            raise UsageError(
                f"the network {DENOISER!r} cannot take an array of the shape "
                f"{given.shape}, an image and the level of its noise ({error}); "
                "allowed: a denoiser of such images."
            ) from error
        if jnp.shape(clean) != noisy.shape:
            raise UsageError(
                f"the network {DENOISER!r} makes arrays of the shape "
                f"{jnp.shape(clean)} of images of {noisy.shape}; allowed: a denoiser, "
                "whose images have the shape of the given ones."
            )
        return clean.astype(noisy.dtype)
