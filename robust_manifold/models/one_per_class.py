"""One small generator a class, as one class-conditional generator."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from robust_manifold.core.errors import UsageError
from robust_manifold.core.prior import Prior
from robust_manifold.models.generators import VAEDecoder
from robust_manifold.models.model import GeneratorSpec, Shape, build, registry


class _OnePerClass(nn.Module):
    """Runs the decoders of all classes, and takes the image of each latent's own."""

    decoder: nn.Module
    classes: int

    @nn.compact
    def __call__(self, latent, train):
        free, choice = latent[:, : -self.classes], latent[:, -self.classes :]
        decoders = nn.vmap(
            lambda decoder, free: decoder(free, train),
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=None,  # type: ignore[arg-type]
            axis_size=self.classes,
        )
        return jnp.einsum("cb...,bc->b...", decoders(self.decoder, free), choice)


@registry.register("one_per_class")
@dataclasses.dataclass(frozen=True)
class OnePerClass(GeneratorSpec):
    """A decoder for each class, with parameters of its own (Schott et al. 2018).

    It is a class-conditional generator: the last entries of a latent say whose decoder
    makes the image.

    Attributes:
      latent_size: dimensions of the latent of each decoder.
      decoder: the generator that each class has one of, or its text as in a config; its
        own latent size becomes this one.
    """

    latent_size: int = 8
    decoder: GeneratorSpec | str = VAEDecoder()
    conditional: bool = dataclasses.field(default=True, kw_only=True)

    def __post_init__(self):
        """Checks the fields."""
        super().__post_init__()
        decoder = self.decoder
        built = registry.build(decoder) if isinstance(decoder, str) else decoder
        if not isinstance(built, GeneratorSpec) or built.conditional:
            raise UsageError(
                f"OnePerClass.decoder is {decoder!r}; allowed: a generator that is not "
                "class-conditional, such as 'vae_decoder'."
            )
        if not self.conditional:
            raise UsageError("OnePerClass.conditional is False; allowed: True.")
        built = dataclasses.replace(built, latent_size=self.latent_size)
        object.__setattr__(self, "decoder", built)

    @property
    def prior(self) -> Prior:  # type: ignore[override]
        """That of the decoder."""
        return self._decoder.prior

    @property
    def _decoder(self) -> GeneratorSpec:
        assert isinstance(self.decoder, GeneratorSpec)
        return self.decoder

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module."""
        return _OnePerClass(self._decoder.module(image_shape, 0), classes)

    def class_generator(self, image_shape: Shape) -> Callable[..., Array]:
        """Returns the decoder of one class, which is a tenth of the work of ten."""
        decoder = build(self._decoder, image_shape=image_shape)

        def generate(params: Any, latent: Array, number: Array | int) -> Array:
            own = jax.tree.map(lambda leaf: leaf[number], _stacked(params))
            return decoder.apply(own, latent)

        return generate

    def own_features(self, image_shape: Shape, classes: int) -> Callable[..., Array]:
        """Returns those of the decoder that makes the image."""
        decoder = build(self._decoder, image_shape=image_shape)

        def features(params: Any, latents: Array) -> Array:
            free, choice = latents[..., :-classes], latents[..., -classes:]
            of_each = jax.vmap(decoder.features, (0, None), -2)(_stacked(params), free)
            number = jnp.argmax(choice, axis=-1)[..., None, None]
            return jnp.take_along_axis(of_each, number, axis=-2)[..., 0, :]

        return features


def _stacked(params: Any) -> Any:
    """Returns the decoders' parameters, each with a leading axis [classes]."""
    return {part: tree["decoder"] for part, tree in params.items()}
