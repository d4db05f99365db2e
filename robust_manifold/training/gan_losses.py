"""The losses of adversarial training, from the discriminator's outputs."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_manifold.core.types import Scalar

GanLoss: TypeAlias = Literal["minimax", "non_saturating", "wgan_gp", "hinge"]

Outputs: TypeAlias = Float[Array, " batch"]
"""The discriminator's outputs: logits of D, or a critic's values."""


Slopes: TypeAlias = Float[Array, "batch height width channels"]
"""The gradient of each image's output with respect to the image."""


class AdversarialLoss(NamedTuple):
    """What the two networks minimise.

    Attributes:
      discriminator: of the outputs on real and on generated images.
      generator: of the outputs on generated images.
      reading: what an output says, for people: a probability D, or a critic's value.
    """

    discriminator: Callable[[Outputs, Outputs], Scalar]
    generator: Callable[[Outputs], Scalar]
    reading: Callable[[Outputs], Outputs]


# With D = sigmoid(logit): log D = -softplus(-logit), log(1 - D) = -softplus(logit).


def _cross_entropy(real: Outputs, fake: Outputs) -> Scalar:
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def _minimax(fake: Outputs) -> Scalar:
    return -jnp.mean(jax.nn.softplus(fake))


def _non_saturating(fake: Outputs) -> Scalar:
    return jnp.mean(jax.nn.softplus(-fake))


def _wasserstein(real: Outputs, fake: Outputs) -> Scalar:
    return jnp.mean(fake) - jnp.mean(real)


def _hinge(real: Outputs, fake: Outputs) -> Scalar:
    return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


def _higher(fake: Outputs) -> Scalar:
    return -jnp.mean(fake)


def _as_it_is(outputs: Outputs) -> Outputs:
    return outputs


LOSSES: Mapping[GanLoss, AdversarialLoss] = {
    "minimax": AdversarialLoss(_cross_entropy, _minimax, jax.nn.sigmoid),
    "non_saturating": AdversarialLoss(_cross_entropy, _non_saturating, jax.nn.sigmoid),
    "wgan_gp": AdversarialLoss(_wasserstein, _higher, _as_it_is),
    "hinge": AdversarialLoss(_hinge, _higher, _as_it_is),
}
"""Each loss by its name; `GanTraining` says what they are, and their sources."""


def distance_from_one(slopes: Slopes) -> Scalar:
    """Returns the mean squared distance of the gradients' norms from 1.

    Source: Gulrajani et al. 2017, equation 3, without its weight.

    Args:
      slopes: the critic's gradient at each image.
    """
    # The small term keeps the derivative of the root finite at a zero gradient.
    return jnp.mean((jnp.sqrt(_squares(slopes) + 1e-12) - 1) ** 2)


def half_squared_norm(slopes: Slopes) -> Scalar:
    """Returns half the mean squared norm of the gradients.

    Source: R1 of Mescheder et al. 2018, equation 9, without its weight.

    Args:
      slopes: the discriminator's gradient at each real image.
    """
    return jnp.mean(_squares(slopes)) / 2


def _squares(slopes: Slopes) -> Float[Array, " batch"]:
    return jnp.sum(slopes**2, axis=(1, 2, 3))
