"""One small generator a class, as one class-conditional generator."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_manifold.core.errors import UsageError
from robust_manifold.core.prior import Prior
from robust_manifold.models.generators import VAEDecoder
from robust_manifold.models.model import GeneratorSpec, Shape, build, registry

_BLOCK = 8
"""Rows of one class that are decoded at once: few enough to fill most blocks, enough
for a product of matrices."""


class _OnePerClass(nn.Module):
    """Decodes each latent by the decoder of its own class."""

    decoder: nn.Module
    classes: int

    @nn.compact
    def __call__(self, latent, train):
        free, choice = latent[:, : -self.classes], latent[:, -self.classes :]
        if self.is_initializing() or self.has_variable("batch_stats", "decoder"):
            # Statistics are those of a whole batch: every decoder sees all of it.
            images = self._decoders(None, self.classes)(self.decoder, free, train)
            return jnp.einsum("cb...,bc->b...", images, choice)
        blocks = _Blocks.of(jnp.argmax(choice, axis=1), self.classes)
        images = nn.map_variables(
            self._decoders(0, len(blocks.numbers)),
            "params",
            lambda stacked: jax.tree.map(lambda leaf: leaf[blocks.numbers], stacked),
        )(self.decoder, blocks.fill(free), train)
        return images.reshape(-1, *images.shape[2:])[blocks.places]

    def _decoders(self, rows_axis, count):
        """Returns a function of rows [b, latent], or of [count, b, latent] along 0."""
        return nn.vmap(
            lambda decoder, rows, train: decoder(rows, train),
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(rows_axis, None),  # type: ignore[arg-type]
            axis_size=count,
        )


class _Blocks(NamedTuple):
    """Rows sorted by their classes into blocks of one class each, some left empty.

    Ten decoders on every row would be ten times the work.
    """

    numbers: Int[Array, " blocks"]
    """The class of each block."""
    places: Int[Array, " rows"]
    """Where each row stands among those of all blocks."""

    @classmethod
    def of(cls, numbers: Int[Array, " rows"], classes: int) -> "_Blocks":
        """Returns as many blocks as may be needed, whatever the rows' classes are."""
        chosen = numbers[:, None] == jnp.arange(classes)[None]
        before = jnp.sum(jnp.where(chosen, jnp.cumsum(chosen, axis=0), 0), axis=1) - 1
        ends = jnp.cumsum(-(-jnp.sum(chosen, axis=0) // _BLOCK))
        starts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]])
        count = min(len(numbers), len(numbers) // _BLOCK + classes)
        owners = jnp.searchsorted(ends, jnp.arange(count), side="right")
        return cls(jnp.minimum(owners, classes - 1), _BLOCK * starts[numbers] + before)

    def fill(self, rows: Float[Array, "rows d"]) -> Float[Array, "blocks block d"]:
        """Returns the rows in their blocks, with zeros between."""
        size = _BLOCK * len(self.numbers)
        empty = jnp.zeros((size, rows.shape[1]), rows.dtype)
        return empty.at[self.places].set(rows).reshape(-1, _BLOCK, rows.shape[1])


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
