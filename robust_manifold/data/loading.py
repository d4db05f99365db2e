"""From the name of a source to its three splits in memory."""

import os

from robust_manifold.data import splits
from robust_manifold.data.dataset import Dataset
from robust_manifold.data.images import Progress
from robust_manifold.data.sources import parse


def load(
    source: str,
    *,
    data_dir: str | os.PathLike | None = None,
    label: str | None = None,
    crop: int | None = None,
    image_size: int | None = None,
    max_examples: int | None = None,
    validation_examples: int = 0,
    test_examples: int = 0,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Dataset:
    """Returns the images of a source, decoded, in disjoint splits.

    The validation and test splits that the source itself declares are used; the
    others are carved from its training part; see `splits.cut`.

    Args:
      source: "mnist_5k", "tfds:<name>", "folder:<dir>" or "npz:<file>".
      data_dir: where prepared data sets lie (`tfds:` only; elsewhere unused).
      label: the feature to use as label (`tfds:` only), e.g. "Male" for celeb_a.
      crop: side of the central square to cut from each image; see `images.Framing`.
      image_size: side of the images after resizing; see `images.Framing`.
      max_examples: keep at most this many of each of the source's own splits.
      validation_examples: size of the validation split; 0: official, else none.
      test_examples: size of the test split; 0: official, else none.
      seed: of the random order that splits are carved in.
      on_progress: called with (images decoded, images in all).

    Raises:
      UsageError: if the source is unknown, missing or damaged, or a size impossible.
    """
    spec = parse(
        source,
        data_dir=data_dir,
        label=label,
        crop=crop,
        image_size=image_size,
        max_examples=max_examples,
    )
    parts = spec.read(on_progress)
    train, validation, test = splits.cut(
        parts,
        validation_examples=validation_examples,
        test_examples=test_examples,
        seed=seed,
    )
    return Dataset(source, train, validation, test, parts.class_names)
