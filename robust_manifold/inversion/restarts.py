"""Inversion with restarts: of one image, and of many."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_manifold.core import batching
from robust_manifold.core.checks import checked_images
from robust_manifold.core.errors import UsageError
from robust_manifold.core.prior import STANDARD_NORMAL, Prior
from robust_manifold.core.types import Generate, Image, Params, PRNGKey
from robust_manifold.inversion.solver import Solver, as_solver


class Inversion(NamedTuple):
    """The best restart of one image, or of n with a leading axis everywhere."""

    latent: Float[Array, "*n latent"]
    image: Float[Array, "*n height width channels"]
    """The projection G(z*)."""
    error: Float[Array, "*n"]
    """Mean squared error per pixel, the least of `restart_errors`."""
    restart_errors: Float[Array, "*n restarts"]
    """Infinite for a restart none of whose iterates was finite."""
    status: Int[Array, "*n"]
    """The `Status` of the best restart."""


def check_settings(
    restarts: int, latent_shape: tuple[int, ...], start_scale: float
) -> None:
    """Raises a `UsageError` for settings with which nothing can be inverted."""
    if restarts < 1:
        raise UsageError(f"restarts is {restarts}; allowed: 1 or more.")
    if len(latent_shape) != 1 or latent_shape[0] < 1:
        raise UsageError(
            f"latent_shape is {latent_shape}; allowed: one positive size, as in (64,)."
        )
    if not 0 <= start_scale < math.inf:
        raise UsageError(
            f"start_scale is {start_scale}; allowed: a finite number, 0 or more."
        )


def invert_one(
    generate: Generate,
    image: Image,
    key: PRNGKey,
    *,
    solver: Solver | str,
    restarts: int,
    latent_shape: tuple[int, ...],
    start_scale: float = 1.0,
    prior: Prior = STANDARD_NORMAL,
) -> Inversion:
    """Returns the best of `restarts` runs of the solver on ONE image.

    Restart r starts at a draw from the prior, its distance from the prior's centre
    scaled, with the key folded with r: more restarts only add candidates, so the
    error never rises with their number.

    Args:
      generate: latent -> image.
      image: pixels in [0, 1].
      key: the image's own random key.
      solver: a `Solver`, or its text as in a config.
      restarts: the number of starts.
      latent_shape: of one latent, (size,).
      start_scale: by which a draw's distance from the prior's centre is multiplied.
      prior: the generator's, N(0, 1) by default.

    Raises:
      UsageError: for settings that are not allowed.
    """
    solver = as_solver(solver)
    check_settings(restarts, latent_shape, start_scale)

    def solve(restart: Int[Array, ""]):
        start = prior.start(key, restart, latent_shape, start_scale, image.dtype)
        return solver(generate, image, start)

    solutions = jax.vmap(solve)(jnp.arange(restarts))
    best = jnp.argmin(solutions.error)
    latent = solutions.latent[best]
    return Inversion(
        latent=latent,
        image=generate(latent),
        error=solutions.error[best],
        restart_errors=solutions.error,
        status=solutions.status[best],
    )


@dataclasses.dataclass(frozen=True)
class _InvertOne:
    """The inversion of one image, hashed by value: equal specs compile once."""

    generate: Callable[[Params, Array], Array]
    solver: Solver
    restarts: int
    latent_shape: tuple[int, ...]
    start_scale: float
    prior: Prior

    def __call__(self, params: Params, key: PRNGKey, image: Image) -> Inversion:
        return invert_one(
            functools.partial(self.generate, params),
            image,
            key,
            solver=self.solver,
            restarts=self.restarts,
            latent_shape=self.latent_shape,
            start_scale=self.start_scale,
            prior=self.prior,
        )


def invert(
    generate: Callable[[Params, Array], Array],
    params: Params,
    images: Any,
    *,
    key: PRNGKey,
    solver: Solver | str,
    restarts: int,
    latent_shape: tuple[int, ...],
    batch_size: int | None = None,
    ids: np.ndarray | jax.Array | None = None,
    start_scale: float = 1.0,
    prior: Prior = STANDARD_NORMAL,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Inversion:
    """Returns the inversion of a batch, compiled, in chunks, on all devices.

    The result for an image depends on its id and `key`, never on its batch mates.

    Args:
      generate: `generate(params, latent) -> image`, for one latent.
      params: of `generate`.
      images: [n, height, width, channels], floats in [0, 1].
      key: folded with the id of each image, then with the number of the restart.
      solver: a `Solver`, or its text as in a config.
      restarts: starts per image.
      latent_shape: of one latent, (size,).
      batch_size: images inverted at a time; see `core.batching.map_examples`.
      ids: global ids [n] of the images; 0..n-1 by default.
      start_scale: by which a draw's distance from the prior's centre is multiplied.
      prior: the generator's, N(0, 1) by default.
      on_chunk: called with (images done, n) after each chunk.

    Raises:
      UsageError: for images outside [0, 1], settings that are not allowed, or a
        generator whose images have another shape.
    """
    images = checked_images(images)
    check_settings(restarts, latent_shape, start_scale)
    latent = jax.ShapeDtypeStruct(latent_shape, images.dtype)
    shape = getattr(jax.eval_shape(generate, params, latent), "shape", None)
    if shape != images.shape[1:]:
        raise UsageError(
            f"generate gives an image of shape {shape}; allowed: that of the images "
            f"to invert, {images.shape[1:]}."
        )
    return batching.map_examples(
        _InvertOne(
            generate,
            as_solver(solver),
            restarts,
            tuple(latent_shape),
            start_scale,
            prior,
        ),
        params,
        images,
        key=key,
        ids=ids,
        batch_size=batch_size,
        on_chunk=on_chunk,
    )
