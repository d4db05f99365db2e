"""Targets of a regression: angles of turned images, and arrays of a file."""

import numpy as np
import pytest

from robust_manifold import data
from robust_manifold.core.errors import UsageError
from robust_manifold.data.targets import turned

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
NUMBERS = np.linspace(-1, 1, 40)


@pytest.fixture
def file(tmp_path):
    def written(**arrays):
        np.savez(tmp_path / "numbers.npz", **arrays)
        return f"npz:{tmp_path / 'numbers.npz'}"

    return written


def by_id(split):
    return {
        int(i): (x.tobytes(), float(y[0])) for x, y, i in zip(*rows(split), strict=True)
    }


def rows(split):
    return split.images, split.labels, split.ids


def load(source, **options):
    return data.load(source, target="rotation(degrees=30.0, seed=1)", **options)


def test_images_are_turned_anticlockwise_by_their_angle():
    image = IMAGES[0][..., None]
    # A quarter turn needs no interpolation.
    np.testing.assert_array_equal(turned(image, 90.0)[..., 0], np.rot90(image[..., 0]))
    np.testing.assert_array_equal(turned(image, 0.0), image)
    bar = np.zeros((65, 65, 1), np.uint8)
    bar[32, 8:57] = 255
    for angle in (-40.0, 15.0):
        y, x = np.nonzero(turned(bar, angle)[..., 0] > 127)
        slope = np.polyfit(x, -y, 1)[0]
        np.testing.assert_allclose(np.degrees(np.arctan(slope)), angle, atol=1.0)
    colours = np.repeat(image, 3, axis=2)
    expected = np.repeat(turned(image, 20.0), 3, axis=2)
    np.testing.assert_array_equal(turned(colours, 20.0), expected)


def test_an_angle_hangs_on_seed_part_and_id_alone(file):
    source = file(images=IMAGES, labels=np.arange(40) % 2)
    whole = load(source).train
    assert whole.labels.shape == (40, 1) and whole.labels.dtype == np.float32
    assert (np.abs(whole.labels) <= 30).all() and whole.labels.std() > 10
    for one, angle, image in zip(
        whole.images[:5], whole.labels[:5], IMAGES, strict=False
    ):
        np.testing.assert_array_equal(one, turned(image[..., None], float(angle[0])))
    cut = load(source, validation_examples=10, test_examples=5, seed=1)
    fewer = load(source, max_examples=10)
    known = by_id(whole)
    for split in (cut.train, cut.validation, cut.test, fewer.train):
        assert split.size and by_id(split).items() <= known.items()
    other = data.load(source, target="rotation(degrees=30.0, seed=2)").train
    assert not np.array_equal(other.labels, whole.labels)
    own = file(
        x_train=IMAGES, y_train=np.zeros(40, int), x_test=IMAGES, y_test=[0] * 40
    )
    parts = load(own)
    np.testing.assert_array_equal(parts.train.labels, whole.labels)
    assert not np.array_equal(parts.test.labels, parts.train.labels)


@pytest.mark.parametrize("seed", [0, 1])
def test_splits_are_not_cut_by_the_angles(file, seed):
    source = file(images=np.zeros((400, 4, 4), np.uint8) + 9, labels=np.zeros(400, int))
    dataset = data.load(
        source, target=f"rotation(seed={seed})", validation_examples=200, seed=seed
    )
    for split in (dataset.train, dataset.validation):
        angles = split.labels[:, 0]
        assert abs(angles.mean()) < 8 and 20 < angles.std() < 32
        order = np.corrcoef(np.arange(200), angles)[0, 1]
        assert abs(order) < 0.25


def test_a_regression_has_no_classes_but_outputs(file):
    source = file(images=IMAGES, labels=np.arange(40) % 2)
    dataset = load(source, validation_examples=4)
    assert (dataset.class_names, dataset.outputs) == ((), 1)
    assert data.load(source).outputs is None
    batch = next(iter(data.evaluation_batches(dataset.validation, batch_size=3)))
    assert batch.labels.shape == (3, 1)


@pytest.mark.parametrize("numbers", [NUMBERS, np.arange(40), np.eye(40)[:, :2]])
def test_an_array_of_a_file_is_read(file, numbers):
    source = file(images=IMAGES, angle=numbers, labels=np.arange(40) % 2)
    dataset = data.load(source, target="array(name='angle')", test_examples=10)
    expected = numbers.reshape(40, -1).astype(np.float32)
    assert dataset.outputs == expected.shape[1]
    for split in (dataset.train, dataset.test):
        np.testing.assert_array_equal(split.labels, expected[split.ids])


def test_named_splits_have_arrays_of_their_own(file):
    source = file(
        x_train=IMAGES, angle_train=NUMBERS, x_test=IMAGES[:9], angle_test=NUMBERS[:9]
    )
    dataset = data.load(source, target=data.NamedArray("angle", unit="rad"))
    assert (dataset.train.size, dataset.validation.size, dataset.test.size) == (
        40,
        0,
        9,
    )
    np.testing.assert_array_equal(dataset.test.labels[:, 0], np.float32(NUMBERS[:9]))


WRONG = {
    "no such array": ({"images": IMAGES}, "lacks the array 'angle'"),
    "too few": ({"images": IMAGES, "angle": NUMBERS[1:]}, r"allowed: \(40,\) or \(40,"),
    "three axes": (
        {"images": IMAGES, "angle": np.zeros((40, 1, 1))},
        r"has the shape \(40, 1, 1\)",
    ),
    "no column": ({"images": IMAGES, "angle": np.zeros((40, 0))}, "one row an image"),
    "NaN": (
        {"images": IMAGES, "angle": np.where(NUMBERS > 0.9, np.nan, NUMBERS)},
        "holds nan for image 38; allowed: finite",
    ),
    "too large": (
        {"images": IMAGES, "angle": NUMBERS * 1e300},
        "that 32 bits can hold",
    ),
    "texts": ({"images": IMAGES, "angle": np.array(["a"] * 40)}, "has the type <U1"),
    "booleans": ({"images": IMAGES, "angle": NUMBERS > 0}, "has the type bool"),
    "unequal splits": (
        {
            **{"x_train": IMAGES, "angle_train": NUMBERS},
            **{"x_test": IMAGES, "angle_test": np.zeros((40, 2))},
        },
        "splits with 1 and 2 targets an image",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_are_wrong_are_told_in_a_sentence(file, name):
    arrays, sentence = WRONG[name]
    with pytest.raises(UsageError, match=sentence) as error:
        data.load(file(**arrays), target="array(name='angle')")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "target, sentence",
    [
        ("rotation(degrees=180.0)", "degrees is 180.0; allowed: above 0 and below 180"),
        ("rotation(degrees=0.0)", "degrees is 0.0"),
        ("rotation(seed=-1)", "seed is -1"),
        ("rotations", "Unknown target 'rotations'"),
        ("array(name='')", "allowed: the name of an array"),
    ],
)
def test_impossible_targets_are_refused(file, target, sentence):
    with pytest.raises(UsageError, match=sentence):
        data.load(file(images=IMAGES, labels=np.zeros(40, int)), target=target)


def test_other_sources_have_no_arrays_and_a_regression_no_class_names(file):
    with pytest.raises(UsageError, match="'mnist_5k' has no such option"):
        data.load("mnist_5k", target="array(name='angle')")
    source = file(images=IMAGES, labels=np.arange(40) % 2)
    with pytest.raises(UsageError, match="class_names is .*; allowed: \\(\\) beside"):
        load(source, class_names=("a", "b"))
