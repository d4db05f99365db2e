"""From the name of a source to its three splits in memory."""

import os
from collections.abc import Sequence

from robust_manifold.core.errors import UsageError
from robust_manifold.data import cache, splits
from robust_manifold.data.crops import crop_side
from robust_manifold.data.dataset import Dataset
from robust_manifold.data.images import Progress
from robust_manifold.data.sources import parse
from robust_manifold.data.targets import Targets, registry


def load(
    source: str,
    *,
    data_dir: str | os.PathLike | None = None,
    label: str | None = None,
    class_names: Sequence[str] = (),
    crop: str | int | None = None,
    image_size: int | None = None,
    max_examples: int | None = None,
    target: str | Targets | None = None,
    validation_examples: int = 0,
    test_examples: int = 0,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    on_progress: Progress | None = None,
) -> Dataset:
    """Returns the images of a source, decoded, in disjoint splits.

    The validation and test splits that the source itself declares are used; the
    others are carved from its training part; see `splits.cut`.

    Args:
      source: "mnist_5k", "road_signs", "tfds:<name>", "folder:<dir>" or
        "npz:<file>"; one with arguments is written as a call, such as
        "road_signs(train=8000, test=1000)".
      data_dir: where prepared data sets lie (`tfds:` only; elsewhere unused).
      label: the feature to use as label (`tfds:` only), e.g. "Male" for celeb_a.
      class_names: new names for the classes, in their order; by default the source's.
      crop: side of the central square to cut from each image, as a number, a text or
        a name; see `crops.crop_side` and `images.Framing`.
      image_size: side of the images after resizing; see `images.Framing`.
      max_examples: keep at most this many of each of the source's own splits.
      target: what a regression tells of the images, a spec of `targets` or its text,
        such as "rotation(degrees=45)"; by default there are classes.
      validation_examples: size of the validation split; 0: official, else none.
      test_examples: size of the test split; 0: official, else none.
      seed: of the random order that splits are carved in.
      cache_dir: where decoded images are kept (not of `npz:` and `mnist_5k`); "off"
        for nowhere, "" or None for $ROBUST_MANIFOLD_CACHE, else
        ~/.cache/robust_manifold; see `cache.read`.
      on_progress: called with (images decoded, images in all).

    Raises:
      UsageError: if the source is unknown, missing or damaged, or a size impossible.
    """
    targets = registry.build(target) if isinstance(target, str) else target
    spec = parse(
        source,
        data_dir=data_dir,
        label=label,
        crop=crop_side(crop),
        image_size=image_size,
        max_examples=max_examples,
        target=targets.array if targets else None,
    )
    parts = cache.read(spec, cache_dir, on_progress)
    if targets is not None:
        parts = targets.of(parts)
        if class_names:
            raise UsageError(
                f"class_names is {tuple(class_names)!r}; allowed: () beside target, "
                "since a regression has no classes."
            )
    names = _renamed(source, parts.class_names, tuple(class_names))
    train, validation, test = splits.cut(
        parts,
        validation_examples=validation_examples,
        test_examples=test_examples,
        seed=seed,
    )
    return Dataset(source, train, validation, test, names)


def _renamed(
    source: str, own: tuple[str, ...], given: tuple[str, ...]
) -> tuple[str, ...]:
    """Returns the names of the classes, those `given` if there are any."""
    if not given:
        return own
    if len(given) != len(own) or len(set(given)) < len(given) or "" in given:
        shown = ", ".join(own[:10]) + (", ..." if len(own) > 10 else "")
        raise UsageError(
            f"class_names is {given!r}; allowed: {len(own)} different names, for the "
            f"classes {shown} of {source!r}, or none."
        )
    return given
