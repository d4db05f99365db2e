"""What an adapter returns, and functions that change the form of a classifier."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from robust_manifold.attacks.contract import check_function, check_params, output_of
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Image, Params

Apply = Callable[[Params, Any], Array]


class Classifier(NamedTuple):
    """A classifier as the package takes it; it unpacks as `apply, params`."""

    apply: Apply
    """`apply(params, image) -> logits [classes]`, for ONE image [height, width,
    channels], pixels in [0, 1].  Equal ones hash alike, and compile once."""
    params: Params


def batched(
    apply: Apply, params: Params, *, image_shape: Sequence[int] | None = None
) -> Classifier:
    """Returns a classifier of batches as one of single images.

    >>> import jax.numpy as jnp
    >>> def network(weights, images):
    ...     return images.reshape(len(images), -1) @ weights
    >>> apply, params = batched(network, jnp.eye(4, 3))
    >>> apply(params, jnp.ones((2, 2, 1))).tolist()
    [1.0, 1.0, 1.0]

    Args:
      apply: `apply(params, images) -> logits [n, classes]`, for images [n, height,
        width, channels].
      params: of `apply`.
      image_shape: (height, width, channels); if given, `apply` is looked at now
        rather than when it is first used.

    Raises:
      UsageError: unless the outputs are logits; see `Classifier`.
    """
    check_function("apply", apply)
    return checked(_Batched(apply), params, image_shape)


def channels_first(
    classifier: tuple[Apply, Params], *, image_shape: Sequence[int] | None = None
) -> Classifier:
    """Returns a classifier of images [channels, height, width] as one of [h, w, c].

    `from_torch` and `from_equinox` do so by themselves.

    >>> import jax.numpy as jnp
    >>> def brightness(scale, image):
    ...     return scale * image.mean(axis=(1, 2))
    >>> apply, params = channels_first((brightness, 2.0))
    >>> apply(params, jnp.ones((4, 4, 3))).tolist()
    [2.0, 2.0, 2.0]

    Args:
      classifier: `(apply, params)`, for one image.
      image_shape: see `batched`; of the images that come in, channels last.

    Raises:
      UsageError: see `batched`.
    """
    apply, params = _pair(classifier)
    return checked(_ChannelsFirst(apply), params, image_shape)


def normalised(
    classifier: tuple[Apply, Params],
    mean: float | Sequence[float],
    std: float | Sequence[float],
    *,
    image_shape: Sequence[int] | None = None,
) -> Classifier:
    """Returns a classifier of normalised images as one of pixels in [0, 1].

    So budgets are those of pixels in [0, 1], and no attack leaves the box.

    >>> import jax.numpy as jnp
    >>> def network(weights, image):
    ...     return image.reshape(-1) @ weights
    >>> apply, params = normalised((network, jnp.eye(4, 3)), mean=0.5, std=0.25)
    >>> apply(params, jnp.ones((2, 2, 1))).tolist()
    [2.0, 2.0, 2.0]

    Args:
      classifier: `(apply, params)`, for one image (x - mean) / std.
      mean: of the pixels that the classifier was trained on, one number or one a
        channel.
      std: their standard deviation, likewise.
      image_shape: see `batched`.

    Raises:
      UsageError: see `batched`; and unless both are finite and `std` is above 0.
    """
    apply, params = _pair(classifier)
    moments = {"mean": mean, "std": std}
    for name, value in moments.items():
        values = np.asarray(value)
        good = values.ndim < 2 and values.size and np.isfinite(values).all()
        if not good or (name == "std" and values.min() <= 0):
            raise UsageError(
                f"{name} is {value!r}; allowed: finite numbers"
                f"{' above 0' if name == 'std' else ''}, one or one a channel."
            )
    scaled = _Scaled(params, np.asarray(mean, np.float32), np.asarray(std, np.float32))
    return checked(_Normalised(apply), scaled, image_shape)


def checked(apply: Apply, params: Params, image_shape: Any) -> Classifier:
    """Returns a classifier, looked at by shapes alone if that of an image is known.

    Raises:
      UsageError: unless the parameters are arrays and, for an image of this shape,
        the output a vector of logits.
    """
    check_params(params)
    if image_shape is not None:
        shape = checked_shape(image_shape)
        output_of(apply, params, jax.ShapeDtypeStruct(shape, np.float32))
    return Classifier(apply, params)


def checked_shape(image_shape: Any) -> tuple[int, int, int]:
    """Returns the shape of an image as a tuple.

    Raises:
      UsageError: unless it is (height, width, channels).
    """
    shape = tuple(image_shape)
    whole = all(isinstance(size, int | np.integer) and size >= 1 for size in shape)
    if len(shape) != 3 or not whole:
        raise UsageError(
            f"image_shape is {image_shape!r}; allowed: (height, width, channels), "
            "each 1 or more."
        )
    height, width, channels = map(int, shape)
    return height, width, channels


@dataclasses.dataclass(frozen=True)
class _Batched:
    apply: Apply

    def __call__(self, params: Params, image: Array) -> Array:
        return self.apply(params, image[None])[0]


@dataclasses.dataclass(frozen=True)
class _ChannelsFirst:
    apply: Apply

    def __call__(self, params: Params, image: Image) -> Array:
        return self.apply(params, image.transpose(2, 0, 1))


class _Scaled(NamedTuple):
    classifier: Params
    mean: Any
    std: Any


@dataclasses.dataclass(frozen=True)
class _Normalised:
    apply: Apply

    def __call__(self, params: _Scaled, image: Array) -> Array:
        channels = image.shape[-1:]
        if not {params.mean.shape, params.std.shape} <= {(), (1,), channels}:
            raise UsageError(
                f"mean and std have the shapes {params.mean.shape} and "
                f"{params.std.shape}; allowed: one number, or {channels[0]} as the "
                "image's channels."
            )
        mean, std = (
            jnp.broadcast_to(moment, channels).astype(image.dtype).reshape(1, 1, -1)
            for moment in (params.mean, params.std)
        )
        return self.apply(params.classifier, (image - mean) / std)


def _pair(classifier: Any) -> tuple[Apply, Params]:
    """Returns what is handed over as a classifier, if it is a pair."""
    if not isinstance(classifier, tuple) or len(classifier) != 2:
        raise UsageError(
            f"classifier is of type {type(classifier).__name__}; allowed: "
            "(apply, params), where apply(params, image) -> logits."
        )
    check_function("apply", classifier[0])
    return classifier
