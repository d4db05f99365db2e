"""A generator as inversion and the defences see it, with what they know of it."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from robust_manifold.core.errors import UsageError
from robust_manifold.core.prior import STANDARD_NORMAL, ClassesInTurn, Prior
from robust_manifold.core.types import Generate, Image, Params


class Manifold(NamedTuple):
    """The range of a generator, with its parameters already bound."""

    generate: Generate
    """latent -> image."""
    latent_shape: tuple[int, ...]
    """Of one latent, (size,)."""
    prior: Prior = STANDARD_NORMAL
    """What the latents of restarts are drawn from."""
    encode: Callable[[Image], Float[Array, " guess"]] | None = None
    """image -> mean and log variance of its latent, [2 * size], if there is an encoder.

    The entries of a latent that choose a class are not among them.
    """
    generate_bfloat16: Generate | None = None
    """`generate` with weights and activations in bfloat16, its image as float32."""
    generate_class: Callable[..., Image] | None = None
    """(latent, number of a class) -> image, where each class has its own generator."""

    def of_class(self, number: Array | int) -> "Manifold":
        """Returns the images of one class of a class-conditional generator.

        Their latents lack the entries that choose a class.

        Args:
          number: of the class.

        Raises:
          UsageError: for a generator that knows of no classes, or not of this one.
        """
        if not isinstance(self.prior, ClassesInTurn):
            raise UsageError(
                "the generator knows of no classes; allowed: a class-conditional one, "
                "such as 'one_per_class' or 'vae_decoder(conditional=True)'."
            )
        classes, own = self.prior.classes, self.generate_class
        # JAX takes another class for one that there is not.
        if isinstance(number, int) and not 0 <= number < classes:
            raise UsageError(f"number is {number}; allowed: 0 to {classes - 1}.")

        def generate(latent):
            if own is not None:
                return own(latent, number)
            choice = jax.nn.one_hot(number, classes, dtype=latent.dtype)
            return self.generate(jnp.concatenate([latent, choice]))

        free = self.prior.free_size(self.latent_shape[0])
        return Manifold(generate, (free,), self.prior.base, self.encode)


class SpannerParams(NamedTuple):
    """The parameters of a generator and, if there is one, of its encoder."""

    generator: Params
    encoder: Params = None


class Spanner(NamedTuple):
    """A generator and its encoder as functions of their parameters; hashable."""

    generate: Callable[[Params, Array], Array]
    """`generate(params, latent) -> image`, for one latent."""
    latent_shape: tuple[int, ...]
    prior: Prior = STANDARD_NORMAL
    encode: Callable[[Params, Array], Array] | None = None
    """`encode(params, image) -> guess`, for one image; see `Manifold`."""
    generate_class: Callable[..., Array] | None = None
    """`generate_class(params, latent, number) -> image`; see `Manifold`."""

    def bind(self, params: SpannerParams) -> Manifold:
        """Returns the manifold that the parameters make of it."""
        encode = self.encode
        if encode is not None:
            encode = functools.partial(encode, params.encoder)
        generate_class = self.generate_class
        if generate_class is not None:
            generate_class = functools.partial(generate_class, params.generator)
        return Manifold(
            functools.partial(self.generate, params.generator),
            self.latent_shape,
            self.prior,
            encode,
            self._in_bfloat16(params.generator),
            generate_class,
        )

    def _in_bfloat16(self, params: Params) -> Generate:
        def generate(latent):
            # Matrix units add products of bfloat16 numbers up in float32.
            rounded = optax.tree.cast(params, jnp.bfloat16)
            image = self.generate(rounded, latent.astype(jnp.bfloat16))
            return image.astype(latent.dtype)

        return generate
