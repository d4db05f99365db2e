"""Latents of a generator: drawn from its prior, and of chosen classes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import PRNGKey
from robust_manifold.models.model import Model


def sample_latents(model: Model, key: PRNGKey, n: int) -> Float[Array, "n latent"]:
    """Returns `n` independent latents from the generator's prior.

    A class-conditional generator makes images of all classes of them, each with equal
    probability.

    >>> from robust_manifold import models
    >>> generator = models.build("vae_decoder")
    >>> models.sample_latents(generator, jax.random.key(0), 3).shape
    (3, 20)

    Raises:
      UsageError: if the model does not take latents.
    """
    if len(model.input_shape) != 1:
        raise UsageError(
            f"model takes inputs of the shape {model.input_shape}; allowed: a "
            "generator, whose latents have one axis."
        )
    return model.prior.sample(key, (n, *model.input_shape))


def latents_of_classes(
    model: Model,
    latents: Float[Array, "*batch latent"],
    labels: Shaped[Array, "..."],
) -> Float[Array, "*batch latent"]:
    """Returns the latents with the entries that choose a class set to one-hot labels.

    The latents of an unconditional generator come back as they are.

    Args:
      model: the generator.
      latents: with any batch axes.
      labels: the class of each, from 0 to `model.latent_classes` - 1.
    """
    classes = model.latent_classes
    if not classes:
        return latents
    choice = jax.nn.one_hot(labels, classes, dtype=latents.dtype)
    return jnp.concatenate([latents[..., :-classes], choice], axis=-1)


def with_classes(
    model: Model, latents: Float[Array, "*batch z"], labels: Shaped[Array, "..."]
) -> Float[Array, "*batch latent"]:
    """Returns latents with the entries that choose a class put behind them.

    For an unconditional generator they come back as they are.

    Args:
      model: the generator.
      latents: without the entries that choose a class.
      labels: the class of each, from 0 to `model.latent_classes` - 1.
    """
    room = [(0, 0)] * (latents.ndim - 1) + [(0, model.latent_classes)]
    return latents_of_classes(model, jnp.pad(latents, room), labels)
