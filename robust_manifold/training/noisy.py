"""Training of a classifier on images under Gaussian noise."""

import dataclasses
import math
from typing import Any

import jax
from jaxtyping import Array, Float, Int

from robust_manifold.core import keys
from robust_manifold.core.spec import check
from robust_manifold.core.types import PRNGKey
from robust_manifold.models import Model
from robust_manifold.training.classifier import (
    ClassifierState,
    CrossEntropy,
    registry,
)


@registry.register("noisy")
@dataclasses.dataclass(frozen=True)
class Noisy(CrossEntropy):
    """Training by the cross-entropy of noisy images, for smoothing (Cohen et al. 2019).

    Attributes:
      optimizer: as for `CrossEntropy`.
      label_smoothing: as for `CrossEntropy`.
      average_decay: as for `CrossEntropy`.
      sigma: standard deviation of the noise; noisy pixels are not cut to [0, 1].
    """

    sigma: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        check(0 < self.sigma < math.inf, self, "sigma", "a finite number above 0")

    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: ClassifierState,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
    ) -> tuple[ClassifierState, Any]:
        """One step down the gradient of the cross-entropy of noisy images."""
        noise = jax.random.normal(keys.stream(key, "noise"), images.shape, images.dtype)
        return super()._step(
            model, steps, key, state, images + self.sigma * noise, labels
        )
