"""Compiled looks at a classifier: its logits, its gradients, noise, projections."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from robust_manifold.attacks import Expectation
from robust_manifold.attacks.losses import Loss, Objective
from robust_manifold.attacks.random import Apply, bound
from robust_manifold.core import batching, keys, norms
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import (
    Image,
    Latent,
    Logits,
    Params,
    PRNGKey,
    Scalar,
    Target,
)
from robust_manifold.inversion import Inversion


class Gradients(NamedTuple):
    """Gradients by the clean images, and their outputs."""

    margin: Float[Array, "n height width channels"]
    """Of the margin, or of the loss that a criterion without classes brings."""
    cross_entropy: Float[Array, "n height width channels"]
    """The same again where there are no classes."""
    logits: Float[Array, "n ..."]


class _Labelled(NamedTuple):
    image: Image
    label: Target


class _Budgeted(NamedTuple):
    image: Image
    label: Target
    epsilon: Scalar


def met(criterion: Criterion, outputs: np.ndarray, targets: Any) -> np.ndarray:
    """Returns for which of many outputs a criterion is met."""
    return np.asarray(jax.vmap(criterion.succeeds)(outputs, targets))


@dataclasses.dataclass(frozen=True)
class _Gradients:
    apply: Apply
    criterion: Criterion

    def __call__(self, params: Params, key: PRNGKey, example: _Labelled) -> Gradients:
        classify, criterion = self.criterion.reduced(
            bound(self.apply, params, key), example.label
        )
        logits, pull_back = jax.vjp(classify, example.image)

        def back(loss: Loss) -> Image:
            objective = Objective(classify, example.label, loss, criterion)
            slope = jax.grad(lambda logits: objective.of(logits).loss)(logits)
            (gradient,) = pull_back(slope)
            return gradient

        return Gradients(back("margin"), back("ce"), logits)


def gradients_of(
    apply: Apply,
    params: Params,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    key: PRNGKey,
    criterion: Criterion = MISCLASSIFIED,
) -> Gradients:
    """Returns the gradients of margin and cross-entropy by each image, as NumPy."""
    examples = _Labelled(images, labels)  # type: ignore[arg-type]
    found = batching.map_examples(
        _Gradients(apply, criterion), params, examples, key=key
    )
    return jax.tree.map(np.asarray, found)


@dataclasses.dataclass(frozen=True)
class _Noise:
    apply: Apply
    norm: Norm
    criterion: Criterion

    def __call__(
        self, params: Params, key: PRNGKey, example: _Budgeted
    ) -> Bool[Array, ""]:
        draw_key, own_key = jax.random.split(key)
        image = example.image
        normal = keys.drawn(jax.random.normal, draw_key, image.shape, image.dtype)
        noise = example.epsilon * norms.steepest_direction(normal, self.norm)
        classify = bound(self.apply, params, own_key)
        noisy = jnp.clip(image + noise, 0, 1)
        return self.criterion.succeeds(classify(noisy), example.label)


def broken_by_noise(
    apply: Apply,
    params: Params,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    norm: Norm,
    key: PRNGKey,
    criterion: Criterion = MISCLASSIFIED,
) -> np.ndarray:
    """Returns which images one draw of noise at the edge of the budget breaks."""
    budgets = np.full(len(images), epsilon, images.dtype)
    examples = _Budgeted(images, labels, budgets)  # type: ignore[arg-type]
    noise = _Noise(apply, norm, criterion)
    return np.asarray(batching.map_examples(noise, params, examples, key=key))


@dataclasses.dataclass(frozen=True)
class _Scaled:
    """A classifier whose logits are multiplied; the factor rides in its parameters."""

    apply: Any

    def __call__(self, params: Any, image: Image, *key: PRNGKey) -> Logits:
        params, factor = params
        return factor * self.apply(params, image, *key)


def scaled(apply: Apply) -> Apply:
    """Returns a classifier of (params, factor) with its logits times that factor."""
    if isinstance(apply, Expectation):
        return Expectation(_Scaled(apply.apply), apply.samples)
    return _Scaled(apply)


class Projection(NamedTuple):
    """A projection onto a generator's range, to be audited.

    Attributes:
      project: `project(params, key, image) -> Inversion`, for one image; hashable.
      generate: `generate(params, latent) -> image`, for one latent, its pixels about
        [0, 1].
      params: of both.
      latents: [n, size], draws of the prior.
    """

    project: Callable[[Params, PRNGKey, Image], Inversion]
    generate: Callable[[Params, Latent], Image]
    params: Params
    latents: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Project:
    project: Callable[[Params, PRNGKey, Image], Inversion]
    tiled = True

    def __call__(self, params: Params, key: PRNGKey, image: Image) -> Inversion:
        return self.project(params, key, image)


def project(projection: Projection, images: np.ndarray, *, key: PRNGKey) -> Inversion:
    """Returns the projections of many images, as NumPy arrays."""
    found = batching.map_examples(
        _Project(projection.project), projection.params, images, key=key
    )
    return jax.tree.map(np.asarray, found)


def generate(projection: Projection, latents: np.ndarray) -> np.ndarray:
    """Returns the images of many latents."""
    return batching.apply_examples(projection.generate, projection.params, latents)
