"""Training of a network on the outputs of another one that knows no classes."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_manifold.core.criterion import MISCLASSIFIED, Criterion
from robust_manifold.core.types import Image, Output, Params, PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.training.classifier import ClassifierState, CrossEntropy

_FEW = 256
"""Answers that are compared with each other."""


class Units(NamedTuple):
    """What a network's outputs are multiplied by, and what is added then."""

    centre: Float[Array, "..."]
    scale: Scalar

    @classmethod
    def of(cls, criterion: Criterion, answers: np.ndarray) -> "Units":
        """Returns the middle and the spread of answers; 0 and 1 of yes-or-no ones.

        The middle is the answer with the least misfit of all, so that values that
        repeat after a period have one, too.
        """
        if answers.dtype == bool:
            return cls(jnp.zeros(answers.shape[1:]), jnp.ones(()))
        few = jnp.asarray(answers[:_FEW])
        of_one = jax.vmap(criterion.misfit, in_axes=(None, 0))
        misfits = jnp.mean(jax.vmap(of_one, in_axes=(0, None))(few, few), axis=1)
        middle = jnp.argmin(misfits)
        spread = jnp.sqrt(misfits[middle] / few[middle].size)
        return cls(few[middle], jnp.where(spread > 0, spread, 1))

    def converted(self, outputs: Float[Array, " outputs"]) -> Output:
        """Returns a network's outputs as its target would put them out."""
        kept = outputs[: self.centre.size]
        return self.centre + self.scale * kept.reshape(self.centre.shape)


class Imitated(NamedTuple):
    """The parameters of a network that puts out what its target does."""

    network: Params
    units: Units


@dataclasses.dataclass(frozen=True)
class Imitator:
    """A network's function with its outputs in the target's shape and units."""

    apply: Callable[[Params, Array], Array]

    def __call__(self, params: Imitated, image: Image) -> Output:
        """Returns what the target would put out."""
        return params.units.converted(self.apply(params.network, image))


@dataclasses.dataclass(frozen=True)
class Imitation(CrossEntropy):
    """Training by the mean misfit of a criterion; the state carries the `Units`."""

    criterion: Criterion = MISCLASSIFIED

    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: ClassifierState,
        images: Float[Array, "batch height width channels"],
        labels: Array,
    ) -> tuple[ClassifierState, Any]:
        """One step down the gradient of the mean misfit."""

        def loss_of(networks):
            (params,) = networks
            outputs, params = model.train(params, images, key)
            outputs = jax.vmap(state.more.converted)(outputs)
            misfits = jax.vmap(self.criterion.misfit)(outputs, labels)
            # In units of the answers' spread, so that rates mean the same in all units.
            return jnp.mean(misfits) / state.more.scale**2, ((params,), None)

        state, descended = self._descended(steps, state, loss_of)
        return state, descended.loss


def outputs_of(answers: np.ndarray) -> int:
    """Returns how many outputs a network needs for such answers, 2 at least."""
    return max(math.prod(answers.shape[1:]), 2)
