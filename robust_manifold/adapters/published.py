"""Published networks of this package, ready for use."""

from typing import Any

from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.core.types import Params
from robust_manifold.runtime import published


def from_published(name: str) -> tuple[Any, Params]:
    """Returns a published classifier as (apply, params).

    Args:
      name: of its weights, such as "mnist_small_cnn"; `robust-manifold weights --help`
        says how to list them.

    Raises:
      UsageError: if no weights have this name, or they are of a generator or encoder.
    """
    model, params = _built(name, "classifier")
    return model.apply, params


def spanner_from_published(
    generator: str, encoder: str | None = None
) -> tuple[Spanner, SpannerParams]:
    """Returns a published generator, with its encoder, and their parameters.

    It is what `evaluate` takes as `networks={"generator": ...}`.

    Args:
      generator: name of its weights, such as "mnist_vae_decoder".
      encoder: name of the weights of an encoder that was fitted to it, such as
        "mnist_vae_encoder"; restarts that are `encoded` need one.

    Raises:
      UsageError: if no weights have this name, or they are of another role.
    """
    model, params = _built(generator, "generator")
    encode = encoding = None
    if encoder is not None:
        found, encoding = _built(encoder, "encoder")
        encode = found.apply
    spanner = Spanner(
        model.apply, model.input_shape, model.starts, encode, model.class_generator
    )
    return spanner, SpannerParams(params, encoding)


def _built(name: str, role: str) -> tuple[Any, Params]:
    # Flax comes with it, which an import of adapters does not bring.
    from robust_manifold import models

    weights = published.read(name)
    told = weights.metadata
    # A run's further classifiers have their own names behind the role.
    if (other := told["role"].partition("-")[0]) != role:
        raise UsageError(f"{name!r} is a run's {other}; allowed: a {role}.")
    model = models.build(
        told["model"],
        image_shape=tuple(told["image_shape"]),
        classes=int(told["classes"]) or 10,
    )
    return model, models.from_table(model, weights.table)
