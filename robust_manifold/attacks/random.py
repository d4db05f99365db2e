"""Random classifiers: a key for each call, and the expectation over the keys."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from robust_manifold.core import batching
from robust_manifold.core.once import Once
from robust_manifold.core.spec import (
    check,
    is_whole,
    with_checked_fields,
)
from robust_manifold.core.types import Classify, Image, Output, Params, PRNGKey


@with_checked_fields
@dataclasses.dataclass(frozen=True)
class Expectation:
    """The mean logits of a random classifier over fresh keys.

    Handed to `craft`, it has another key in every step of an attack, so that the
    attack climbs the expectation over the keys (Athalye et al. 2018, "EOT").  With
    one sample it is the random classifier itself.

    >>> import jax, jax.numpy as jnp
    >>> def noisy(params, image, key):
    ...     noise = jax.random.normal(key, image.shape)
    ...     return jnp.stack([0.0, params * (image + noise).sum()])
    >>> image, key = jnp.ones((2, 2, 1)), jax.random.key(0)
    >>> Expectation(noisy, samples=4)(1.0, image, key).shape
    (2,)
    """

    apply: Callable[[Params, Image, PRNGKey], Output]
    """`apply(params, image, key) -> logits`, for one image."""
    samples: int = 1

    def __post_init__(self):
        check(is_whole(self.samples, 1), self, "samples", "a whole number, 1 or more")

    def __call__(self, params: Params, image: Array, key: PRNGKey) -> Output:
        """Returns the mean over the samples."""
        return self._mean(params, image, jax.random.split(key, self.samples))

    def with_first(self, params: Params, image: Array, key: PRNGKey) -> Output:
        """Returns the mean over the samples, of which the first has `key` itself."""
        if self.samples == 1:
            return self.apply(params, image, key)
        others = jax.random.split(key, self.samples - 1)
        return self._mean(params, image, jnp.concatenate([key[None], others]))

    def _mean(self, params: Params, image: Array, keys: Array) -> Output:
        logits = jax.vmap(self.apply, in_axes=(None, None, 0))(params, image, keys)
        return jnp.mean(logits, axis=0)


Apply: TypeAlias = Callable[[Params, Array], Array] | Expectation
"""A classifier as `craft` takes it: `apply(params, image)`, or a random one."""


def bound(
    apply: Apply, params: Params, key: PRNGKey, *, fixed: bool = False
) -> Classify:
    """Returns the classifier of one image; a random one with this key in each call.

    Args:
      apply: as for `craft`.
      params: of `apply`.
      key: of a random classifier.
      fixed: the key is the very one that the first sample is to have.
    """
    if not isinstance(apply, Expectation):
        call, keys = Once(apply), ()
    else:
        call, keys = Once(apply.with_first if fixed else apply), (key,)

    def classify(image: Array) -> Output:
        # Networks of mixed precision have logits of another type than their images.
        return call(params, image, *keys).astype(image.dtype)

    return classify


class _Keyed(NamedTuple):
    image: Any
    key: Any
    """The data of its key, an array of words; () without one."""


@dataclasses.dataclass(frozen=True)
class _Output:
    apply: Apply
    impl: Any
    """The kind of the fixed keys; None where there are none."""
    tiled: bool

    def __call__(self, params: Params, key: PRNGKey, example: _Keyed) -> Output:
        fixed = self.impl is not None
        if fixed:
            key = jax.random.wrap_key_data(example.key, impl=self.impl)
        return bound(self.apply, params, key, fixed=fixed)(example.image)


def outputs_of(
    apply: Apply,
    params: Params,
    images: np.ndarray,
    *,
    key: PRNGKey,
    fixed_keys: Any = None,
    ids: Any = None,
    tiled: bool = False,
) -> np.ndarray:
    """Returns the outputs of a classifier for many images.

    Args:
      apply: as for `craft`.
      params: of `apply`.
      images: [n, height, width, channels].
      key: folded with the id of each image, the key of a random classifier.
      fixed_keys: [n] keys in place of these.
      ids: global ids [n]; 0..n-1 by default.
      tiled: as for `core.batching.map_examples`.
    """
    impl, data = None, ()
    if fixed_keys is not None:
        impl = jax.random.key_impl(fixed_keys)
        data = np.asarray(jax.random.key_data(fixed_keys))
    return np.asarray(
        batching.map_examples(
            _Output(apply, impl, tiled),
            params,
            _Keyed(images, data),
            key=key,
            ids=ids,
        )
    )
