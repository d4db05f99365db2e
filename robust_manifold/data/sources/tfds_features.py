"""Which features of a tensorflow-datasets data set are its image and its labels."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from robust_manifold.core.errors import UsageError, unknown_name


def image_feature(name: str, info: Any) -> tuple[str, int]:
    """Returns the record name and the channels of the data set's one image."""
    import tensorflow_datasets as tfds

    images: dict[str, Any] = {
        key: feature
        for key, feature in _flat(info.features).items()
        if isinstance(feature, tfds.features.Image)
    }
    if len(images) != 1:
        raise UsageError(
            f"The data set {name!r} has {len(images)} image features; allowed: one."
        )
    ((key, feature),) = images.items()
    channels = feature.shape[-1]
    if channels not in (1, 3) or feature.np_dtype != np.uint8:
        raise UsageError(
            f"The images of the data set {name!r} have {channels} channels of "
            f"{np.dtype(feature.np_dtype)}; allowed: 1 or 3 of uint8."
        )
    return key, channels


def label_features(info: Any) -> tuple[dict[str, tuple[str, ...]], str]:
    """Returns the class names of all that can be the label, and which is by default.

    The features have their names in a record; the default is "" if there is none.
    """
    import tensorflow_datasets as tfds

    features: dict[str, tuple[str, ...]] = {}
    for key, feature in _flat(info.features).items():
        if isinstance(feature, tfds.features.ClassLabel):
            count = feature.num_classes or 0
            features[key] = tuple(feature.names or map(str, range(count)))
        elif feature.shape == () and feature.np_dtype == np.bool_:
            short = _last(key)
            features[key] = (f"not {short}", short)
    supervised = info.supervised_keys
    own = supervised[1] if supervised else "label"
    return features, own if own in features else ""


def chosen_label(
    name: str, features: Mapping[str, tuple[str, ...]], own: str, label: str | None
) -> str:
    """Returns the record name of the label, given by its full or its last name."""
    short = [_last(key) for key in features]
    if label is None and not own:
        raise UsageError(
            f"label is None, but the data set {name!r} has no label of its own; "
            f"allowed: {', '.join(short)}."
        )
    if label is None:
        return own
    for key in features:
        if label in (key, _last(key)):
            return key
    raise unknown_name(f"label of the data set {name!r}:", label, short)


def _flat(features: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the features of a data set by their names in a record."""
    import tensorflow_datasets as tfds

    flat = {}
    for key, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            flat |= _flat(feature, f"{prefix}{key}/")
        else:
            flat[prefix + key] = feature
    return flat


def _last(key: str) -> str:
    return key.rsplit("/", 1)[-1]
