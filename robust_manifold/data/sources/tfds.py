"""`tfds:<name>`: prepared tensorflow-datasets directories, read without TensorFlow."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.data.dataset import Split
from robust_manifold.data.images import Progress, stack
from robust_manifold.data.pictures import decode_as
from robust_manifold.data.sources.base import Parts, registry
from robust_manifold.data.sources.decoded import Decoded, DecodedSource, Examples
from robust_manifold.data.sources.tfds_features import (
    chosen_label,
    image_feature,
    label_features,
)

# What `python -m robust_manifold.data.prepare` prepares.
PREPARED_HERE = ("mnist", "fashion_mnist", "kmnist", "celeb_a")

_NAME = re.compile(r"(?P<set>[A-Za-z]\w*)(/[\w.-]+)*(:\d+\.\d+\.\d+)?")
_PARTS = ("train", "validation", "test")
_MODES = {1: "L", 3: "RGB"}


@registry.register("tfds")
@dataclasses.dataclass(frozen=True)
class Tfds(DecodedSource):
    """A data set of tensorflow-datasets, prepared in the array_record format.

    Attributes:
      data_dir: the folder of prepared data sets; by default the environment
        variable TFDS_DATA_DIR, else tensorflow-datasets' own default.
      label: the feature to use as label: a class label, or a yes-or-no feature
        given by its last name (celeb_a: "Male"); by default the data set's own.
    """

    data_dir: str | None = None
    label: str | None = None

    location_is = "the name of a data set such as 'mnist'"

    def canonical(self) -> "Tfds":
        """See `DecodedSource.canonical`."""
        folder = os.path.realpath(self._folder())
        return dataclasses.replace(self, data_dir=folder, label=None)

    def files(self) -> list[Path]:
        """See `DecodedSource.files`; those of all versions of the data set."""
        match = _NAME.fullmatch(self.location)
        if match is None:
            return []
        folder = os.path.join(self._folder(), match["set"])
        # A version, or its shards, may lie elsewhere and be linked to.
        walk = os.walk(folder, followlinks=True)
        return sorted(Path(place, name) for place, _, names in walk for name in names)

    def decode(self, on_progress: Progress | None = None) -> Decoded:
        """See `DecodedSource.decode`."""
        builder = _builder(self.location, self._folder())
        image, channels = image_feature(self.location, builder.info)
        features, own = label_features(builder.info)
        # Before the decoding, which may take minutes.
        chosen_label(self.location, features, own, self.label)
        records = _records(self.location, builder)
        chosen = {part: self.chosen(len(r)) for part, r in records.items()}
        if "train" not in chosen:
            raise UsageError(
                f"The data set {self.location!r} has no training split; "
                f"it has: {', '.join(builder.info.splits)}."
            )
        total = sum(len(rows) for rows in chosen.values())
        splits: dict[str, Examples] = {}
        before = 0
        for part, rows in chosen.items():

            def report(done: int, _: int, before: int = before) -> None:
                if on_progress is not None:
                    on_progress(before + done, total)

            where = f"{builder.data_dir}, split {part}"
            names = (image, tuple(features), _MODES[channels])
            splits[part] = self._part(records[part], rows, where, names, report)
            before += len(rows)
        return Decoded(splits, features, own)

    def parts(self, decoded: Decoded) -> Parts:
        """See `DecodedSource.parts`."""
        label = chosen_label(self.location, decoded.features, decoded.own, self.label)
        column = list(decoded.features).index(label)
        class_names = decoded.features[label]
        parts: dict[str, Split] = {}
        for part, (images, labels, ids) in decoded.splits.items():
            where = f"The data set {self.location!r}, split {part}"
            chosen = np.ascontiguousarray(labels[:, column])
            _check_labels(where, chosen, class_names)
            parts[part] = Split(images, chosen, ids)
        return Parts(
            parts["train"], parts.get("validation"), parts.get("test"), class_names
        )

    def _folder(self) -> str:
        """Returns the folder of prepared data sets, so that errors can name it."""
        if self.data_dir is not None:
            folder = self.data_dir
        elif os.environ.get("TFDS_DATA_DIR"):
            folder = os.environ["TFDS_DATA_DIR"]
        else:
            folder = os.path.join("~", "tensorflow_datasets")
        return os.path.expanduser(folder)

    def _part(
        self,
        records: Any,
        rows: np.ndarray,
        where: str,
        names: tuple[str, tuple[str, ...], str],
        on_progress: Progress,
    ) -> Examples:
        """Decodes the given rows of one official split."""
        # What tensorflow-datasets itself parses with, without the checks and copies
        # around it: those alone take longer than reading, parsing and decoding here.
        from tensorflow_datasets.proto import tf_example_pb2

        # Its module is generated, which a type checker cannot see into.
        example_type: Any = getattr(tf_example_pb2, "Example")  # noqa: B009
        image, features, mode = names
        labels = np.empty((len(rows), len(features)), np.int32)

        def read(positions: range) -> Iterator[np.ndarray]:
            wanted = rows[positions.start : positions.stop].tolist()
            with _damage(where):
                encoded = records.__getitems__(wanted)
                # What array_record makes of a file cut off at a 64 KiB block.
                if not all(encoded):
                    raise RuntimeError("a record is empty")
            for position, record in zip(positions, encoded, strict=True):
                example = example_type.FromString(record)
                feature = example.features.feature
                labels[position] = [
                    feature[name].int64_list.value[0] for name in features
                ]
                yield decode_as(feature[image].bytes_list.value[0], mode, self.framing)

        def name(position: int) -> str:
            return f"Example {rows[position]} of {where},"

        images = stack(read, len(rows), name, on_progress)
        return Examples(images, labels, rows)


def _check_labels(where: str, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Refuses the splits that are published without labels, which are then -1."""
    low, high = labels.min(), labels.max()
    if low < 0 or high >= len(class_names):
        raise UsageError(
            f"{where}, has labels from {low} to {high}; "
            f"allowed: 0 to {len(class_names) - 1}."
        )


def prepare_command(name: str, data_dir: str) -> str:
    """Returns the command that prepares the data set `name` in `data_dir`."""
    if name in PREPARED_HERE:
        return f"python -m robust_manifold.data.prepare {name} --data_dir={data_dir}"
    return (
        'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{data_dir}', "
        "file_format='array_record').download_and_prepare()\""
    )


def _builder(name: str, folder: str) -> Any:
    """Returns the builder of a data set that is prepared in `folder`.

    Nothing is downloaded: a data set that is not there is an error at once.
    """
    import tensorflow_datasets as tfds

    match = _NAME.fullmatch(name)
    if match is None:
        raise UsageError(
            f"The data set {name!r} cannot be read; allowed: a name such as 'mnist', "
            "with an optional /config and :version."
        )
    try:
        builder = tfds.builder(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError as error:
        raise unknown_name(
            "data set", match["set"], tfds.list_builders(with_community_datasets=False)
        ) from error
    except Exception as error:  # whatever the parsers of its JSON files raise
        raise UsageError(
            f"The data set {name!r} in {folder} cannot be opened: {_first_line(error)}."
        ) from error
    command = prepare_command(name, folder)
    if not os.path.exists(os.path.join(builder.data_dir, "dataset_info.json")):
        raise UsageError(
            f"The data set {name!r} is not prepared in {folder}; "
            f"prepare it with: {command}"
        )
    formats = {builder.info.file_format, *builder.info.alternative_file_formats}
    if tfds.core.FileFormat.ARRAY_RECORD not in formats:
        held = ", ".join(sorted(f.value for f in formats if f is not None))
        raise UsageError(
            f"The data set in {builder.data_dir} has the format {held}; allowed: "
            "array_record, so delete that folder or choose another data_dir, then "
            f"prepare it with: {command}"
        )
    return builder


def _records(name: str, builder: Any) -> dict[str, Sequence[bytes]]:
    """Returns the undecoded records of each official split that is used."""
    import tensorflow_datasets as tfds

    records = {}
    for part in _PARTS:
        if part in builder.info.splits:
            with _damage(f"{builder.data_dir}, split {part}"):
                source = builder.as_data_source(
                    split=part,
                    deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
                    file_format=tfds.core.FileFormat.ARRAY_RECORD,
                )
                # array_record opens its files at the first look.
                source.__getitems__([0])
            records[part] = source
    return records


@contextlib.contextmanager
def _damage(where: str) -> Iterator[None]:
    """Turns array_record's errors about a file into one sentence."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        raise UsageError(
            f"{where}, is damaged or incomplete ({_first_line(error)}); "
            "delete that folder and prepare the data set again."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
