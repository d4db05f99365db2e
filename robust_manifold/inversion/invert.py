"""Inversion of one image, and of many: compiled, in chunks, on all devices."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_manifold.core import batching
from robust_manifold.core.checks import (
    checked_images,
    checked_key,
    checked_latent_shape,
    checked_spanner,
)
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Manifold, Spanner, SpannerParams
from robust_manifold.core.prior import STANDARD_NORMAL, Prior
from robust_manifold.core.types import Image, Params, PRNGKey
from robust_manifold.inversion.lbfgs import LBFGS
from robust_manifold.inversion.restarts import Restarts, as_restarts
from robust_manifold.inversion.search import Inversion, Search
from robust_manifold.inversion.solver import Solver, as_solver

DEFAULT_SOLVER: Solver = LBFGS()
"""The solver, unless another is asked for; see docs/performance.md."""
DEFAULT_RESTARTS = Restarts(count=4, scale="unit", halve_at=(10, 20))
"""The restarts, unless others are asked for: the better half goes on alone, twice."""


def invert_one(
    manifold: Manifold,
    image: Image,
    key: PRNGKey,
    *,
    solver: Solver | str = DEFAULT_SOLVER,
    restarts: Restarts | str | int = DEFAULT_RESTARTS,
) -> Inversion:
    """Returns the best of several runs of the solver on ONE image.

    Without halving, more restarts only add candidates: the error never rises with
    their number.

    Args:
      manifold: the generator, its parameters bound, and its encoder if there is one.
      image: pixels in [0, 1].
      key: the image's own random key.
      solver: a `Solver`, or its text as in a config.
      restarts: `Restarts`, their text as in a config, or their number.

    Raises:
      UsageError: for settings that are not allowed.
    """
    checked_key(key)
    latent = jnp.zeros(checked_latent_shape(manifold.latent_shape))
    made = jax.eval_shape(manifold.generate, latent).shape
    # Unequal shapes may be broadcast against each other without a word.
    if np.shape(image) != made:
        raise UsageError(
            f"image has the shape {np.shape(image)}; allowed: {made}, as the "
            "generator's."
        )
    search = Search(as_solver(solver), as_restarts(restarts))
    return search(manifold, jnp.asarray(image), key)


def invert(
    generate: Callable[[Params, Array], Array],
    params: Params,
    images: Any,
    *,
    key: PRNGKey,
    latent_shape: tuple[int, ...],
    solver: Solver | str = DEFAULT_SOLVER,
    restarts: Restarts | str | int = DEFAULT_RESTARTS,
    prior: Prior = STANDARD_NORMAL,
    encode: Callable[[Params, Array], Array] | None = None,
    encoder_params: Params = None,
    batch_size: int | None = None,
    tile: int | None = None,
    ids: np.ndarray | jax.Array | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Inversion:
    """Returns the inversion of a batch, compiled, in chunks, on all devices.

    The result for an image depends on its id and `key`, never on its batch mates.

    Args:
      generate: `generate(params, latent) -> image`, for one latent.
      params: of `generate`.
      images: [n, height, width, channels], floats in [0, 1].
      key: folded with the id of each image, then with the number of the restart.
      latent_shape: of one latent, (size,).
      solver: a `Solver`, or its text as in a config.
      restarts: `Restarts`, their text as in a config, or their number.
      prior: the generator's, N(0, 1) by default.
      encode: `encode(encoder_params, image)`, mean and log variance [2 * size] of a
        latent, for one image; starts are drawn from the prior without one.
      encoder_params: of `encode`.
      batch_size: images handed over at a time; results do not depend on it.
      tile: images that a device inverts at once; by default as many as are fast and
        memory allows, see `core.batching.default_tile`.  Results depend on it by
        rounding, which some solvers amplify.
      ids: global ids [n] of the images; 0..n-1 by default.
      on_chunk: called with (images done, n) after each chunk.

    Raises:
      UsageError: for images outside [0, 1], settings that are not allowed, or a
        generator whose images have another shape.
    """
    checked_key(key)
    spanner = Spanner(generate, checked_latent_shape(latent_shape), prior, encode)
    spanner_params = SpannerParams(params, encoder_params)
    images = _checked(spanner, spanner_params, images)
    search = Search(as_solver(solver), as_restarts(restarts))
    return batching.map_examples(
        _Invert(spanner, search),
        spanner_params,
        images,
        key=key,
        ids=ids,
        batch_size=batch_size,
        tile=tile,
        on_chunk=on_chunk,
    )


def error_curves(
    generate: Callable[[Params, Array], Array],
    params: Params,
    images: Any,
    *,
    key: PRNGKey,
    latent_shape: tuple[int, ...],
    solver: Solver | str = DEFAULT_SOLVER,
    restarts: Restarts | str | int = DEFAULT_RESTARTS,
    prior: Prior = STANDARD_NORMAL,
    encode: Callable[[Params, Array], Array] | None = None,
    encoder_params: Params = None,
    batch_size: int | None = None,
    ids: np.ndarray | jax.Array | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Float[Array, "n restarts points"]:
    """Returns the least error of every restart after 0, 1, ... `solver.steps` steps.

    Arguments, starts and errors are those of `invert`; the last point is its
    `restart_errors`.  A restart that was dropped keeps the error it had.
    """
    checked_key(key)
    spanner = Spanner(generate, checked_latent_shape(latent_shape), prior, encode)
    spanner_params = SpannerParams(params, encoder_params)
    images = _checked(spanner, spanner_params, images)
    return batching.map_examples(
        _Curves(spanner, Search(as_solver(solver), as_restarts(restarts))),
        spanner_params,
        images,
        key=key,
        ids=ids,
        batch_size=batch_size,
        on_chunk=on_chunk,
    )


def images_at_once(
    spanner: Spanner,
    params: SpannerParams,
    images: Any,
    *,
    solver: Solver | str = DEFAULT_SOLVER,
    restarts: Restarts | str | int = DEFAULT_RESTARTS,
) -> int:
    """Returns how many images `invert` computes at once on all devices by itself.

    Args:
      spanner: the generator, and its encoder if there is one.
      params: of both.
      images: one or more of the images, as for `invert`.
      solver: as for `invert`.
      restarts: as for `invert`.
    """
    images = _checked(spanner, params, images)
    search = Search(as_solver(solver), as_restarts(restarts))
    tile = batching.default_tile(_Invert(spanner, search), params, images)
    return tile * jax.device_count()


@dataclasses.dataclass(frozen=True)
class _Invert:
    """The inversion of one image, hashed by value: equal specs compile once."""

    spanner: Spanner
    search: Search
    tiled = True

    def __call__(self, params: SpannerParams, key: PRNGKey, image: Image) -> Inversion:
        return self.search(self.spanner.bind(params), image, key)


@dataclasses.dataclass(frozen=True)
class _Curves:
    spanner: Spanner
    search: Search
    tiled = True

    def __call__(
        self, params: SpannerParams, key: PRNGKey, image: Image
    ) -> Float[Array, "restarts points"]:
        return self.search.curves(self.spanner.bind(params), image, key)


def _checked(spanner: Spanner, params: SpannerParams, images: Any) -> np.ndarray:
    """Returns the images, refusing what the generator cannot be compared with."""
    images = checked_images(images)
    shape = checked_spanner(spanner, params, images.dtype).shape
    if shape != images.shape[1:]:
        raise UsageError(
            f"generate gives an image of shape {shape}; allowed: that of the images "
            f"to invert, {images.shape[1:]}."
        )
    return images
