"""Purifiers by networks of a user's own, and their model: all that there is to them."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from robust_manifold import defenses, models


class _Gain(nn.Module):
    """Multiplies each channel by a number, and the pixels stay in [0, 1]."""

    @nn.compact
    def __call__(self, inputs, train=False):
        del train
        gain = self.param("gain", nn.initializers.ones, inputs.shape[-1:])
        return (inputs * gain.reshape(1, 1, 1, -1)).clip(0, 1)


@models.registry.register("gain")
@dataclasses.dataclass(frozen=True)
class Gain(models.ModelSpec):
    """A model that turns images into images."""

    def module(self, image_shape, classes):
        """Returns the Linen module."""
        del image_shape, classes
        return _Gain()


@defenses.registry.register("denoised")
@dataclasses.dataclass(frozen=True)
class Denoised(defenses.Purifier):
    """What the denoiser makes of the image."""

    needs: ClassVar[tuple[str, ...]] = ("denoiser",)

    def purify(self, key, networks, image) -> defenses.Purified:
        """Returns the denoised image."""
        del key
        return defenses.Purified(networks["denoiser"](image))


@defenses.registry.register("denoised_by_all")
@dataclasses.dataclass(frozen=True)
class DenoisedByAll(defenses.Purifier):
    """The mean of what several denoisers make of the image."""

    needs: ClassVar[tuple[str, ...]] = ("denoisers",)

    def purify(self, key, networks, image) -> defenses.Purified:
        """Returns the mean."""
        del key
        made = [denoise(image) for denoise in networks["denoisers"]]
        return defenses.Purified(jnp.mean(jnp.stack(made), axis=0))
