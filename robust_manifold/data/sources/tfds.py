"""`tfds:<name>`: prepared tensorflow-datasets directories, read without TensorFlow."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.data.dataset import Split
from robust_manifold.data.images import Progress, decode, stack
from robust_manifold.data.sources.base import Parts, Source, registry

# What `python -m robust_manifold.data.prepare` prepares.
PREPARED_HERE = ("mnist", "fashion_mnist", "kmnist", "celeb_a")

_NAME = re.compile(r"(?P<set>[A-Za-z]\w*)(/[\w.-]+)*(:\d+\.\d+\.\d+)?")
_PARTS = ("train", "validation", "test")
_MODES = {1: "L", 3: "RGB"}


@registry.register("tfds")
@dataclasses.dataclass(frozen=True)
class Tfds(Source):
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

    def read(self, on_progress: Progress | None = None) -> Parts:
        """See `Source.read`."""
        builder = _builder(self.location, self._folder())
        image, channels = _image_feature(self.location, builder.info)
        label, class_names = _label_feature(self.location, builder.info, self.label)
        records = _records(self.location, builder)
        chosen = {part: self.chosen(len(r)) for part, r in records.items()}
        total = sum(len(rows) for rows in chosen.values())
        parts: dict[str, Split] = {}
        before = 0
        for part, rows in chosen.items():

            def report(done: int, _: int, before: int = before) -> None:
                if on_progress is not None:
                    on_progress(before + done, total)

            where = f"{builder.data_dir}, split {part}"
            features = (image, label, _MODES[channels])
            parts[part] = self._part(records[part], rows, where, features, report)
            _check_labels(where, parts[part].labels, class_names)
            before += len(rows)
        train = parts.get("train")
        if train is None:
            raise UsageError(
                f"The data set {self.location!r} has no training split; "
                f"it has: {', '.join(builder.info.splits)}."
            )
        return Parts(train, parts.get("validation"), parts.get("test"), class_names)

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
        features: tuple[str, str, str],
        on_progress: Progress,
    ) -> Split:
        """Decodes the given rows of one official split."""
        # What tensorflow-datasets itself parses with, without the checks and copies
        # around it: those alone take longer than reading, parsing and decoding here.
        from tensorflow_datasets.proto import tf_example_pb2

        # Its module is generated, which a type checker cannot see into.
        example_type: Any = getattr(tf_example_pb2, "Example")  # noqa: B009
        image, label, mode = features
        labels = np.empty(len(rows), np.int32)

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
                labels[position] = feature[label].int64_list.value[0]
                yield decode(
                    feature[image].bytes_list.value[0], self.framing, mode=mode
                )

        def name(position: int) -> str:
            return f"Example {rows[position]} of {where},"

        images = stack(read, len(rows), name, on_progress)
        return Split(images, labels, rows)


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


def _image_feature(name: str, info: Any) -> tuple[str, int]:
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
    if channels not in _MODES or feature.np_dtype != np.uint8:
        raise UsageError(
            f"The images of the data set {name!r} have {channels} channels of "
            f"{np.dtype(feature.np_dtype)}; allowed: 1 or 3 of uint8."
        )
    return key, channels


def _label_feature(
    name: str, info: Any, label: str | None
) -> tuple[str, tuple[str, ...]]:
    """Returns the record name of the label and the names of its classes."""
    import tensorflow_datasets as tfds

    allowed: dict[str, tuple[str, ...]] = {}
    for key, feature in _flat(info.features).items():
        if isinstance(feature, tfds.features.ClassLabel):
            count = feature.num_classes or 0
            allowed[key] = tuple(feature.names or map(str, range(count)))
        elif feature.shape == () and feature.np_dtype == np.bool_:
            short = key.rsplit("/", 1)[-1]
            allowed[key] = (f"not {short}", short)
    if label is None:
        supervised = info.supervised_keys
        own = supervised[1] if supervised else "label"
        if own in allowed:
            return own, allowed[own]
        raise UsageError(
            f"label is None, but the data set {name!r} has no label of its own; "
            f"allowed: {', '.join(key.rsplit('/', 1)[-1] for key in allowed)}."
        )
    for key, class_names in allowed.items():
        if label in (key, key.rsplit("/", 1)[-1]):
            return key, class_names
    raise unknown_name(
        f"label of the data set {name!r}:",
        label,
        [key.rsplit("/", 1)[-1] for key in allowed],
    )
